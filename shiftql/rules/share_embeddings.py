"""Rankers of one query share one embedding pass."""

from __future__ import annotations

from dataclasses import replace

from shiftql.plan import Embed, Rank, Scan
from shiftql.rules.knowledge import Knowledge


def share_embeddings(plan: Rank, knowledge: Knowledge) -> Rank:
    """Move what two or more rankers rest on into one node below the ranking, each embedding once."""
    embeds = [evaluate.below for evaluate in plan.evaluates if isinstance(evaluate.below, Embed)]
    scans = [evaluate.below for evaluate in plan.evaluates if isinstance(evaluate.below, Scan)]
    if len(embeds) > 1:
        embeddings = tuple(dict.fromkeys(embedding for embed in embeds for embedding in embed.embeddings))
        return _shared(plan, replace(embeds[0], embeddings=embeddings))
    if not embeds and len(scans) > 1:
        return _shared(plan, scans[0])
    return plan


def _shared(plan: Rank, below: Embed | Scan) -> Rank:
    evaluates = tuple(
        replace(evaluate, below=None) if isinstance(evaluate.below, type(below)) else evaluate
        for evaluate in plan.evaluates
    )
    return replace(plan, evaluates=evaluates, shared=below)
