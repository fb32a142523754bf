"""Models drawn at random, the strategy to be better than."""

from __future__ import annotations

from shiftql.strategies.base import Problem
from shiftql.strategies.batch import Batch


class Random(Batch):
    """Evaluates `k` models, each as likely as any other; `seed` says which."""

    def __init__(self, problem: Problem, k: int = 10, seed: int = 0) -> None:
        import numpy as np

        drawn = np.random.default_rng(seed).permutation(len(problem.arms))[:k]
        super().__init__(problem.arms[number].final for number in drawn)
