"""Where it is left to the optimizer (CHUNK AUTO, BUDGET AUTO), models are halved if that is expected to be faster."""

from __future__ import annotations

from shiftql.cost import ROUND_SECONDS
from shiftql.plan import Rank
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.rewriting import PlanT, rewrite

# Of two plans that take nearly as long, the one that scores every model on all rows tells more.
_WORTH_IT = 0.95
# Of a model that goes on, more rows are embedded and it is scored.
_TASKS_OF_A_MODEL = 2


def halve(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Take the plan in rounds where what is left of it takes less than what is left of the plain one.

    Or where a budget is enough for all models in rounds alone.
    """

    def choose(rank: Rank) -> Rank:
        raced = dict(rank.variants).get("halve")
        if raced is None:
            return rank
        if rank.is_cut and not raced.is_cut:
            return raced
        return raced if _seconds(raced, knowledge) < _WORTH_IT * _seconds(rank, knowledge) else rank

    return rewrite(plan, Rank, choose)


def _seconds(rank: Rank, knowledge: Knowledge) -> float:
    """What is waited for what is left to do, by the clock."""
    rounds = [each for evaluate in rank.evaluates for each in evaluate.rounds_left]
    tasks = rank.tasks + sum(_TASKS_OF_A_MODEL * each.models for each in rounds)
    if not tasks:
        return 0.0
    waiting = knowledge.costs.passing(rank.total_cost.seconds, tasks, rank.kind_of_work)
    return waiting + ROUND_SECONDS * len(rounds) / len(rank.evaluates)
