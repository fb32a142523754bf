"""A model all of whose evaluations are known needs no features."""

from __future__ import annotations

from dataclasses import replace

from shiftql.plan import Embed, Evaluate, Rank
from shiftql.rules.knowledge import Knowledge


def drop_unneeded_embeddings(plan: Rank, knowledge: Knowledge) -> Rank:
    """Keep only the embeddings that an evaluation still to be computed rests on."""

    def drop(evaluate: Evaluate) -> Evaluate:
        if not isinstance(evaluate.below, Embed):
            return evaluate
        needed = {planned.evaluation.model for planned in evaluate.evaluations if not planned.known}
        kept = tuple(embedding for embedding in evaluate.below.embeddings if embedding.model in needed)
        return replace(evaluate, below=replace(evaluate.below, embeddings=kept) if kept else evaluate.below.scan)

    return replace(plan, evaluates=tuple(map(drop, plan.evaluates)))
