"""Evaluations with a recorded result are not computed again."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from shiftql.plan import Evaluate, Step
from shiftql.rules.knowledge import Knowledge

_Plan = TypeVar("_Plan", bound=Step)


def reuse_known_results(plan: _Plan, knowledge: Knowledge) -> _Plan:
    """Mark every evaluation whose fingerprint is known."""

    def mark(evaluate: Evaluate) -> Evaluate:
        evaluations = tuple(
            replace(planned, known=planned.evaluation.fingerprint in knowledge.known)
            for planned in evaluate.evaluations
        )
        return replace(evaluate, evaluations=evaluations)

    return replace(plan, evaluates=tuple(map(mark, plan.evaluates)))
