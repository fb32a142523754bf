"""The optimizer: rules that rewrite a plan before it runs, one a file, applied in turn."""

from __future__ import annotations

from shiftql.plan import Query, Rank
from shiftql.rules.drop_unneeded_embeddings import drop_unneeded_embeddings
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.reuse_known_results import reuse_known_results
from shiftql.rules.reuse_stored_features import reuse_stored_features
from shiftql.rules.share_embeddings import share_embeddings

RULES = (reuse_known_results, drop_unneeded_embeddings, reuse_stored_features, share_embeddings)


def optimize(plan: Query | Rank, knowledge: Knowledge) -> Query | Rank:
    """The plan that gives the same answer for the least work, given what is known."""
    if isinstance(plan, Query):
        return plan
    for rule in RULES:
        plan = rule(plan, knowledge)
    return plan
