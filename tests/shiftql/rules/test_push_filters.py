"""Which filters are looked at before a ranking, and which have to wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shiftql.plan import Rank
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.push_filters import push_filters

DIGITS = "TRAINED ON digits-train TESTED ON digits-test"
RANKING = f"SELECT * FROM models ORDER BY Linear {DIGITS}"
SMALL = {"resnet-letters", "swin-location", "vit-letters", "vit-letters-copy"}
ALL = SMALL | {"resnet-deep", "vit-greek"}


def evaluated(plan: Any) -> set[str]:
    """The models that the ranking which is selected from evaluates in the end."""
    after = push_filters(plan, Knowledge())
    rank = [node for node in after.walk() if isinstance(node, Rank)][-1]
    return {p.evaluation.model.name for each in rank.evaluates for p in each.evaluations if not p.baseline}


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT name FROM ({RANKING}) WHERE num_params < 500K",
        f"SELECT name FROM ({RANKING}) AS r WHERE r.num_params < 500K LIMIT 1",
        f"SELECT name, score FROM ({RANKING}) WHERE num_params < 500K AND score > 0.5",
        f"SELECT name FROM ({RANKING}) WHERE num_params < 500K ORDER BY score DESC",
        f"SELECT name FROM ({RANKING}) WHERE num_params < 500K ORDER BY FineTune {DIGITS}",
        f"SELECT name FROM ({RANKING}) WHERE num_params < 500K AND name IN (SELECT name FROM models)",
        f"SELECT size FROM ({RANKING.replace('*', 'num_params AS size')}) WHERE size < 500K",
        f"DECLARE ranked AS {RANKING}; SELECT name FROM ranked WHERE num_params < 500K",
        f"SELECT name FROM ({RANKING.replace('Linear', 'FineTune')}) WHERE num_params < 500K",
    ],
)
def test_models_that_the_catalog_rules_out_are_not_evaluated(draft_of_pool: Callable[[str], Any], text: str) -> None:
    assert evaluated(draft_of_pool(text)) == SMALL


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT name FROM ({RANKING} LIMIT 6) WHERE num_params < 500K",
        f"SELECT name FROM ({RANKING} CHUNK 100) WHERE num_params < 500K",
        f"SELECT name FROM ({RANKING} WITHIN 30m) WHERE num_params < 500K",
        f"SELECT name FROM ({RANKING}) WHERE num_params < 500K AND rank <= 3",
        f"SELECT name, rank FROM ({RANKING}) WHERE num_params < 500K",
        f"SELECT name FROM ({RANKING}) WHERE num_params < 500K ORDER BY rank",
        f"SELECT name FROM ({RANKING}) WHERE num_params < 500K OR score > 0.5",
        f"SELECT name FROM ({RANKING}) WHERE name IN (SELECT name FROM models WHERE num_params < 500K)",
        f"DECLARE small AS SELECT name FROM models WHERE num_params < 500K; "
        f"SELECT name FROM ({RANKING}) WHERE name IN (small)",
    ],
)
def test_what_a_filter_means_only_after_the_ranking_waits_for_it(
    draft_of_pool: Callable[[str], Any], text: str
) -> None:
    assert evaluated(draft_of_pool(text)) == ALL


def test_a_copy_of_a_model_that_is_asked_for_keeps_it(draft_of_pool: Callable[[str], Any]) -> None:
    plan = draft_of_pool(f"SELECT name FROM ({RANKING}) WHERE name = 'vit-letters-copy'")
    assert evaluated(plan) == {"vit-letters", "vit-letters-copy"}
    assert {e.model.name for e in push_filters(plan, Knowledge()).all_embeddings} == {"vit-letters", "raw"}


def test_two_places_may_need_other_models_of_one_ranking(draft_of_pool: Callable[[str], Any]) -> None:
    half = f"SELECT name FROM ({RANKING}) WHERE num_params"
    plan = push_filters(draft_of_pool(f"({half} < 100K) UNION ({half} > 1M)"), Knowledge())
    assert {e.model.name for e in plan.new_evaluations} - {"raw", "majority"} == {"resnet-letters", "resnet-deep"}
