"""Rankers of one query share one embedding pass."""

from __future__ import annotations

from dataclasses import replace

from shiftql.plan import Embed, Rank
from shiftql.rules.knowledge import Knowledge


def share_embeddings(plan: Rank, knowledge: Knowledge) -> Rank:
    """Move the embeddings of two or more rankers into one node below the ranking, each embedding once."""
    embeds = [evaluate.below for evaluate in plan.evaluates if isinstance(evaluate.below, Embed)]
    if len(embeds) < 2:
        return plan
    embeddings = tuple(dict.fromkeys(embedding for embed in embeds for embedding in embed.embeddings))
    return replace(
        plan,
        evaluates=tuple(
            replace(evaluate, below=None) if isinstance(evaluate.below, Embed) else evaluate
            for evaluate in plan.evaluates
        ),
        embed=replace(embeds[0], embeddings=embeddings),
    )
