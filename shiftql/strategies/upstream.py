"""The best upstream accuracy: no model is asked what it knows of the target."""

from __future__ import annotations

from shiftql.strategies.base import Arm, Problem
from shiftql.strategies.batch import Batch
from storage.errors import PlanError

COLUMN = "upstream_accuracy"


class Upstream(Batch):
    """Evaluates the `k` models with the best upstream accuracy; those without one come last."""

    def __init__(self, problem: Problem, k: int = 1) -> None:
        super().__init__(arm.final for arm in by_upstream(problem)[:k])


def by_upstream(problem: Problem) -> list[Arm]:
    """The models by their upstream accuracy, best first. Raises PlanError when none tells it."""
    if problem.arms and all(arm.metadata.get(COLUMN) is None for arm in problem.arms):
        raise PlanError(
            "no model tells its upstream accuracy",
            subject=COLUMN,
            fix=f"add a column {COLUMN}, or choose by another strategy",
        )

    def place(arm: Arm) -> tuple[float, str]:
        accuracy = arm.metadata.get(COLUMN)
        return -accuracy if accuracy is not None else float("inf"), arm.model.name

    return sorted(problem.arms, key=place)
