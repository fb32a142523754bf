"""When as many models as LIMIT asks for have the best score there can be, the others need not be evaluated."""

from __future__ import annotations

from shiftql.plan import Evaluate, Rank
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.leaving_out import leave_out
from shiftql.rules.rewriting import PlanT, rewrite


def stop_at_limit(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Leave out the models that could at best be equal to those within the limit, and come behind them by name.

    Where a strategy chooses, or models are halved, all of them tell of one another.
    """

    def stop(rank: Rank) -> Rank:
        limit = rank.limit
        # Baselines are compared with the best, also where none is shown.
        if not limit or rank.descending:
            return rank
        return leave_out(rank, lambda evaluate: _beaten(evaluate, limit, knowledge.perfect))

    return rewrite(plan, Rank, stop)


def _beaten(evaluate: Evaluate, limit: int, perfect: frozenset[str]) -> set[str]:
    """The fingerprints of models none of whose copies can come within the limit."""
    if evaluate.choice is not None or evaluate.rounds:
        return set()
    evaluations = [planned.evaluation for planned in evaluate.evaluations if not planned.baseline]
    models = {evaluation.model for evaluation in evaluations}
    best = sorted({evaluation.model.name for evaluation in evaluations if evaluation.fingerprint in perfect})
    if len(best) < limit:
        return set()
    kept = {model.fingerprint for model in models if model.name <= best[limit - 1]}
    return {model.fingerprint for model in models} - kept
