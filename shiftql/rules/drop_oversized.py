"""Models that need more memory than the device has are refused, with the reason, in place of failing after long."""

from __future__ import annotations

from shiftql.plan import Rank
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.rewriting import PlanT, rewrite


def drop_oversized(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Take the plan without them; the planner tells which they are, and keeps those that are measured already."""
    return rewrite(plan, Rank, lambda rank: dict(rank.variants).get("drop_oversized", rank))
