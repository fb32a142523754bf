"""The best models of every other dataset (SHiFT's Q8, arXiv 2204.01457)."""

from __future__ import annotations

from shiftql.strategies.base import Problem
from shiftql.strategies.batch import Batch
from shiftql.strategies.known import known_of_arms


class BestPerBenchmark(Batch):
    """Evaluates the `k` best models on each dataset of the history, each model once."""

    def __init__(self, problem: Problem, k: int = 1) -> None:
        import numpy as np

        known = known_of_arms(problem)
        chosen: dict[int, None] = {}
        for column in known.T:
            best = np.argsort(-column, kind="stable")[:k]
            chosen |= dict.fromkeys(best[~np.isnan(column[best])].tolist())
        super().__init__(problem.arms[number].final for number in chosen)
