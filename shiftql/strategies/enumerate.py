"""Enumeration: every model is evaluated."""

from __future__ import annotations

from shiftql.strategies.base import Problem
from shiftql.strategies.batch import Batch


class Enumerate(Batch):
    """Evaluates every model."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(arm.final for arm in problem.arms)
