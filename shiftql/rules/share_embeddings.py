"""Rankers of one query share one embedding pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from shiftql.plan import Embed, Embedding, Rank, Scan
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.rewriting import PlanT, rewrite
from storage.evaluations import Subject
from storage.parts import Part


def share_embeddings(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Move what two or more rankers rest on into one node below the ranking, each embedding once."""

    def share(rank: Rank) -> Rank:
        embeds = [evaluate.below for evaluate in rank.evaluates if isinstance(evaluate.below, Embed)]
        scans = [evaluate.below for evaluate in rank.evaluates if isinstance(evaluate.below, Scan)]
        if len(embeds) > 1:
            return _shared(rank, replace(embeds[0], embeddings=_merged(embeds)))
        if not embeds and len(scans) > 1:
            return _shared(rank, scans[0])
        return rank

    return rewrite(plan, Rank, share)


def _merged(embeds: Sequence[Embed]) -> tuple[Embedding, ...]:
    """Each model over each part once, with every view that somebody wants."""
    merged: dict[tuple[Subject, Part], Embedding] = {}
    for embedding in chain.from_iterable(embed.embeddings for embed in embeds):
        other = merged.setdefault((embedding.model, embedding.part), embedding)
        if other.views != embedding.views:
            costlier = max(other, embedding, key=lambda each: each.row_cost.size_bytes)
            merged[embedding.model, embedding.part] = replace(
                costlier,
                views=tuple(dict.fromkeys((*other.views, *embedding.views))),
                new_rows=max(other.new_rows, embedding.new_rows),
            )
    return tuple(merged.values())


def _shared(plan: Rank, below: Embed | Scan) -> Rank:
    evaluates = tuple(
        replace(evaluate, below=None) if isinstance(evaluate.below, type(below)) else evaluate
        for evaluate in plan.evaluates
    )
    return replace(plan, evaluates=evaluates, shared=below)
