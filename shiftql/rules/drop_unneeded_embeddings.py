"""A model all of whose evaluations are known needs no features."""

from __future__ import annotations

from dataclasses import replace

from shiftql.plan import Embed, Evaluate
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.rewriting import PlanT, rewrite


def drop_unneeded_embeddings(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Keep only the embeddings that an evaluation still to be computed rests on."""

    def drop(evaluate: Evaluate) -> Evaluate:
        below = evaluate.below
        if not isinstance(below, Embed):
            return evaluate
        needed = {planned.evaluation.model for planned in evaluate.evaluations if not planned.known}
        kept = tuple(embedding for embedding in below.embeddings if embedding.model in needed)
        if not kept:
            return replace(evaluate, below=below.scan)
        is_smaller = len(kept) < len(below.embeddings)
        return replace(evaluate, below=replace(below, embeddings=kept)) if is_smaller else evaluate

    return rewrite(plan, Evaluate, drop)
