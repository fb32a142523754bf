"""Rows whose features are stored are not embedded again."""

from __future__ import annotations

from dataclasses import replace

from shiftql.plan import Embed
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.rewriting import PlanT, rewrite


def reuse_stored_features(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Count as new only the rows that the feature store lacks."""

    def reuse(embed: Embed) -> Embed:
        missing = [knowledge.missing_rows.get(each.key, each.new_rows) for each in embed.embeddings]
        if all(rows == each.new_rows for rows, each in zip(missing, embed.embeddings, strict=True)):
            return embed
        counted = (replace(each, new_rows=rows) for rows, each in zip(missing, embed.embeddings, strict=True))
        return replace(embed, embeddings=tuple(counted))

    return rewrite(plan, Embed, reuse)
