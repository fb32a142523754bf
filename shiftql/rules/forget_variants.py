"""What a question could have been answered by, and is not, is no part of its plan."""

from __future__ import annotations

from dataclasses import replace

from shiftql.plan import Rank
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.rewriting import PlanT, rewrite


def forget_variants(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Leave out the variants that no rule took."""
    return rewrite(plan, Rank, lambda rank: replace(rank, variants=()) if rank.variants else rank)
