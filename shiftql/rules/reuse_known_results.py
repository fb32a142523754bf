"""Evaluations with a recorded result are not computed again."""

from __future__ import annotations

from dataclasses import replace

from shiftql.plan import Evaluate, PlannedEvaluation
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.rewriting import PlanT, rewrite


def reuse_known_results(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Mark every evaluation whose fingerprint is known."""

    def is_news(planned: PlannedEvaluation) -> bool:
        return not planned.known and planned.evaluation.fingerprint in knowledge.known

    def mark(evaluate: Evaluate) -> Evaluate:
        if not any(map(is_news, evaluate.evaluations)):
            return evaluate
        marked = (replace(each, known=True) if is_news(each) else each for each in evaluate.evaluations)
        return replace(evaluate, evaluations=tuple(marked))

    return rewrite(plan, Evaluate, mark)
