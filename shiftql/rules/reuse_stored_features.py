"""Rows whose features are stored are not embedded again."""

from __future__ import annotations

from dataclasses import replace

from shiftql.plan import Embed, Embedding, Evaluate, Rank
from shiftql.rules.knowledge import Knowledge


def reuse_stored_features(plan: Rank, knowledge: Knowledge) -> Rank:
    """Count as new only the rows that the feature store lacks."""

    def count(embedding: Embedding) -> Embedding:
        return replace(embedding, new_rows=knowledge.missing_rows.get(embedding.key, embedding.part.num_rows))

    def reuse(evaluate: Evaluate) -> Evaluate:
        if not isinstance(evaluate.below, Embed):
            return evaluate
        return replace(evaluate, below=replace(evaluate.below, embeddings=tuple(map(count, evaluate.below.embeddings))))

    return replace(plan, evaluates=tuple(map(reuse, plan.evaluates)))
