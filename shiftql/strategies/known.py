"""What the history knows of the models that may be chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shiftql.strategies.base import Problem

if TYPE_CHECKING:
    import numpy as np


def known_of_arms(problem: Problem) -> np.ndarray:
    """What each model reached on each dataset of the history, (arms, datasets), NaN where that is not known."""
    import numpy as np

    history = problem.history
    numbers = {name: number for number, name in enumerate(history.models)}
    known = np.full((len(problem.arms), len(history.datasets)), np.nan)
    for row, arm in enumerate(problem.arms):
        if arm.model.name in numbers:
            known[row] = history.reached[numbers[arm.model.name]]
    return known
