"""Models that prepare rows alike follow each other, so that prepared rows are used again while they are kept."""

from __future__ import annotations

from shiftql.plan import Embed, PlannedEvaluation, Rank
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.ordering import reordered
from shiftql.rules.rewriting import PlanT, rewrite


def share_preparation(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Put models of one preparation side by side, in the order in which the first of each comes."""

    def order(rank: Rank) -> Rank:
        preparations = _preparations(rank)
        places: dict[str, int] = {}

        def place(planned: PlannedEvaluation) -> int:
            fingerprint = planned.evaluation.model.fingerprint
            # What is prepared for nobody stands alone.
            return places.setdefault(preparations.get(fingerprint, fingerprint), len(places))

        return reordered(rank, place)

    return rewrite(plan, Rank, order)


def _preparations(rank: Rank) -> dict[str, str]:
    """How rows are prepared for models that have any to embed, by the models' fingerprints."""
    below = (*(evaluate.below for evaluate in rank.evaluates), rank.shared)
    return {
        each.model.fingerprint: each.preparation
        for embed in below
        if isinstance(embed, Embed)
        for each in embed.embeddings
        if each.new_rows
    }
