"""Where no order is named, a strategy finds the best model, in place of fine-tuning all of them."""

from __future__ import annotations

from shiftql.plan import Rank
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.rewriting import PlanT, rewrite


def choose_strategy(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Take Auto's plan: it never spends more than a share of what the plain one takes."""
    return rewrite(plan, Rank, lambda rank: dict(rank.variants).get("choose_strategy", rank))
