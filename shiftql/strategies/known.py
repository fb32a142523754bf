"""What the history knows of the models that may be chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shiftql.strategies.base import Problem

if TYPE_CHECKING:
    import numpy as np


def known_of_arms(problem: Problem) -> np.ndarray:
    """What each model reached on each dataset of the history, (arms, datasets), NaN where that is not known."""
    return of_arms(problem, problem.history.reached)


def of_arms(problem: Problem, values: np.ndarray | None) -> np.ndarray:
    """An array of the history, (models, datasets), in the order of the arms; NaN of models it lacks, or of no array."""
    import numpy as np

    numbers = {name: number for number, name in enumerate(problem.history.models)}
    rows = np.array([numbers.get(arm.model.name, -1) for arm in problem.arms], dtype=int)
    known = np.full((len(rows), len(problem.history.datasets)), np.nan)
    if values is not None:
        known[rows >= 0] = values[rows[rows >= 0]]
    return known
