"""Models that whoever selects from a ranking filters out again are not evaluated for it."""

from __future__ import annotations

from shiftql.plan import Rank
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.leaving_out import leave_out
from shiftql.rules.rewriting import PlanT, rewrite


def push_filters(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Leave out what a ranking's `unneeded` models take; the binder tells where that is sound."""
    return rewrite(plan, Rank, lambda rank: leave_out(rank, lambda _: rank.unneeded))
