"""Short work comes before long work, so that the first scores come soon and a limit of time cuts off the fewest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from shiftql.plan import Embed, Rank
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.ordering import reordered
from shiftql.rules.rewriting import PlanT, rewrite


def order_for_cost(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Put the models that take the least, with all that they are needed for, first."""

    def order(rank: Rank) -> Rank:
        costs = _costs(rank)
        return reordered(rank, lambda planned: costs[planned.evaluation.model.fingerprint])

    return rewrite(plan, Rank, order)


def _costs(rank: Rank) -> Mapping[str, float]:
    """The seconds of all that is new, by the fingerprint of the model."""
    costs: dict[str, float] = defaultdict(float)
    for planned in (planned for evaluate in rank.evaluates for planned in evaluate.evaluations if planned.is_new):
        costs[planned.evaluation.model.fingerprint] += planned.cost.seconds
    below = (*(evaluate.below for evaluate in rank.evaluates), rank.shared)
    for embedding in (each for embed in below if isinstance(embed, Embed) for each in embed.embeddings):
        costs[embedding.model.fingerprint] += embedding.row_cost.seconds * embedding.new_rows
        costs[embedding.model.fingerprint] += embedding.opening_seconds if embedding.new_rows else 0.0
    return costs
