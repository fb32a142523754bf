"""What the history knows of the models that may be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shiftql.strategies.base import History, Problem

if TYPE_CHECKING:
    import numpy as np

# So many datasets, and of all models so many on each, or a third of them, are enough to go by.
_ENOUGH_DATASETS, _ENOUGH_MODELS = 3, 10


def known_of_arms(problem: Problem) -> np.ndarray:
    """What each model reached on each dataset of the history, (arms, datasets), NaN where that is not known."""
    return of_arms(problem, problem.history.reached)


def is_little_known(models: Sequence[str], history: History) -> bool:
    """Whether there are few other datasets on which it is known what enough of the models reach."""
    import numpy as np

    among = np.isin(np.array(history.models, dtype=str), np.array(models, dtype=str))
    known = np.isfinite(history.reached[among]).sum(axis=0) if len(among) else np.zeros(0)
    return int((known >= min(_ENOUGH_MODELS, -(-len(models) // 3))).sum()) < _ENOUGH_DATASETS


def of_arms(problem: Problem, values: np.ndarray | None) -> np.ndarray:
    """An array of the history, (models, datasets), in the order of the arms; NaN of models it lacks, or of no array."""
    import numpy as np

    numbers = {name: number for number, name in enumerate(problem.history.models)}
    rows = np.array([numbers.get(arm.model.name, -1) for arm in problem.arms], dtype=int)
    known = np.full((len(rows), len(problem.history.datasets)), np.nan)
    if values is not None:
        known[rows >= 0] = values[rows[rows >= 0]]
    return known
