"""Rankings that open no model."""

from __future__ import annotations

from shiftql.bound import BoundRanker
from shiftql.catalog_ranking import rank_by_catalog
from storage.catalog import ModelRecord
from tasks.rankers.specs import find_ranker

UPSTREAM = BoundRanker(find_ranker("Upstream"), {})
MODELS = [
    ModelRecord(name=name, fingerprint=name, upstream_accuracy=accuracy)
    for name, accuracy in (("a", 0.5), ("b", None), ("c", 0.9), ("d", 0.9))
]


def _names(ranker: BoundRanker, models: list[ModelRecord] = MODELS, **shown: object) -> list[str]:
    rows = rank_by_catalog(ranker, models, {}, **{"descending": False, "limit": None, **shown})  # type: ignore[arg-type]
    return [row["model"] for row in rows]


def test_the_best_upstream_comes_first_and_who_has_no_accuracy_is_left_out() -> None:
    assert _names(UPSTREAM) == ["c", "d", "a"]
    assert _names(UPSTREAM, descending=True, limit=2) == ["a", "d"]
    rows = rank_by_catalog(UPSTREAM, MODELS, {"c": {"size": 1}}, descending=False, limit=None)
    assert [row["tied"] for row in rows] == [False, True, False]
    assert rows[0]["size"] == 1
    assert rank_by_catalog(UPSTREAM, [], {}, descending=False, limit=None) == ()


def test_chance_depends_on_the_seed_and_the_model_alone() -> None:
    drawn = [_names(BoundRanker(find_ranker("Random"), {"seed": seed})) for seed in range(30)]
    assert len({tuple(each) for each in drawn}) > 10
    assert all(sorted(each) == ["a", "b", "c", "d"] for each in drawn)
    fewer = _names(BoundRanker(find_ranker("Random"), {"seed": 0}), MODELS[1:])
    assert fewer == [name for name in drawn[0] if name != "a"]
