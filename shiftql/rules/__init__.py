"""The optimizer: rules that rewrite a plan before it runs, one a file, applied in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from shiftql.plan import Distances, PlanNode, Query, Rank
from shiftql.rules.download_missing_weights import download_missing_weights
from shiftql.rules.drop_unneeded_embeddings import drop_unneeded_embeddings
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.reuse_known_results import reuse_known_results
from shiftql.rules.reuse_stored_features import reuse_stored_features
from shiftql.rules.share_embeddings import share_embeddings

RULES = (
    reuse_known_results,
    drop_unneeded_embeddings,
    reuse_stored_features,
    download_missing_weights,
    share_embeddings,
)


def optimize(plan: PlanNode, knowledge: Knowledge) -> PlanNode:
    """The plan that gives the same answer for the least work, given what is known; nested rankings first."""
    plan = _with_children(plan, lambda child: optimize(child, knowledge))
    if isinstance(plan, Query | Distances):
        return download_missing_weights(reuse_known_results(plan, knowledge), knowledge)
    if isinstance(plan, Rank):
        for rule in RULES:
            plan = rule(plan, knowledge)
    return plan


def _with_children(node: PlanNode, rewrite: Callable[[PlanNode], PlanNode]) -> PlanNode:
    """The node with every node it holds rewritten."""

    def rewritten(value: Any) -> Any:
        if isinstance(value, PlanNode):
            return rewrite(value)
        if isinstance(value, tuple):
            return tuple(map(rewritten, value))
        return value

    return replace(node, **{each.name: rewritten(getattr(node, each.name)) for each in fields(node)})
