"""Evaluations with a recorded result are not computed again."""

from __future__ import annotations

from dataclasses import replace

from shiftql.plan import Evaluate, Rank
from shiftql.rules.knowledge import Knowledge


def reuse_known_results(plan: Rank, knowledge: Knowledge) -> Rank:
    """Mark every evaluation whose fingerprint is known."""

    def mark(evaluate: Evaluate) -> Evaluate:
        evaluations = tuple(
            replace(planned, known=planned.evaluation.fingerprint in knowledge.known)
            for planned in evaluate.evaluations
        )
        return replace(evaluate, evaluations=evaluations)

    return replace(plan, evaluates=tuple(map(mark, plan.evaluates)))
