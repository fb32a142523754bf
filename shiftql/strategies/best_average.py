"""The models that did best on other datasets, on average."""

from __future__ import annotations

from shiftql.strategies.base import Arm, Problem
from shiftql.strategies.batch import Batch
from shiftql.strategies.ranks import ranks_among_known


class BestAverage(Batch):
    """Evaluates the `k` models of the best mean rank over the datasets of the history (meta-learned)."""

    def __init__(self, problem: Problem, k: int = 10) -> None:
        super().__init__(arm.final for arm in by_average_rank(problem)[:k])


def by_average_rank(problem: Problem) -> list[Arm]:
    """The models by the mean of their ranks in each dataset, as shares of the models there; unknown ones come last."""
    import numpy as np

    history = problem.history
    ranks: dict[str, float] = {}
    shares = [ranks_among_known(-column) for column in history.reached.T]
    by_dataset = np.array(shares).reshape(len(history.datasets), len(history.models))
    for name, column in zip(history.models, by_dataset.T, strict=True):
        if not np.isnan(column).all():
            ranks[name] = float(np.nanmean(column))
    return sorted(problem.arms, key=lambda arm: ranks.get(arm.model.name, np.inf))
