"""The models that did best on other datasets, on average."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shiftql.strategies.base import Arm, Problem
from shiftql.strategies.batch import Batch

if TYPE_CHECKING:
    import numpy as np


class BestAverage(Batch):
    """Evaluates the `k` models of the best mean rank over the datasets of the history (meta-learned)."""

    def __init__(self, problem: Problem, k: int = 10) -> None:
        super().__init__(arm.final for arm in by_average_rank(problem)[:k])


def by_average_rank(problem: Problem) -> list[Arm]:
    """The models by the mean of their ranks in each dataset, as shares of the models there; unknown ones come last."""
    import numpy as np

    history = problem.history
    ranks: dict[str, float] = {}
    shares = np.array([_ranks(column) for column in history.reached.T]).reshape(len(history.datasets), -1)
    for name, column in zip(history.models, shares.T, strict=True):
        if not np.isnan(column).all():
            ranks[name] = float(np.nanmean(column))
    return sorted(problem.arms, key=lambda arm: ranks.get(arm.model.name, np.inf))


def _ranks(column: np.ndarray) -> np.ndarray:
    """Ranks from the best, ties shared, as shares of what is known."""
    import numpy as np
    from scipy.stats import rankdata

    known = ~np.isnan(column)
    ranks = np.full(len(column), np.nan)
    ranks[known] = rankdata(-column[known]) / known.sum()
    return ranks
