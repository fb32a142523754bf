"""Rankings that open no model: by upstream accuracy, and by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftql.bound import BoundRanker
from storage.catalog import ModelRecord
from storage.fingerprints import fingerprint_of


def rank_by_catalog(
    ranker: BoundRanker,
    models: Sequence[ModelRecord],
    columns: Mapping[str, Mapping[str, Any]],
    *,
    descending: bool,
    limit: int | None,
) -> tuple[dict[str, Any], ...]:
    """The rows of a ranking by upstream accuracy, models without one left out, or by chance where there is a seed."""
    if "seed" in ranker.params:
        metric, scores = "random", [(_chance(ranker.params["seed"], model), model.name) for model in models]
    else:
        metric = "upstream_accuracy"
        scores = [(each.upstream_accuracy, each.name) for each in models if each.upstream_accuracy is not None]
    best = max((score for score, _ in scores), default=None)
    ordered = sorted(scores, key=lambda each: (-each[0], each[1]))
    figures = {"metric": metric, "higher_is_better": True, "low": None, "high": None}
    return tuple(
        {
            "rank": rank,
            "model": name,
            "score": score,
            **figures,
            "tied": (score, name) != ordered[0] and score == best,
            "n_test": None,
            "layer": None,
            **columns.get(name, {}),
        }
        for rank, (score, name) in enumerate((ordered[::-1] if descending else ordered)[:limit], start=1)
    )


def _chance(seed: int, model: ModelRecord) -> float:
    """A number from 0 to 1 that is the same for the same seed and content, whatever else is in the pool."""
    return int(fingerprint_of(seed, model.fingerprint)[:12], 16) / 16**12
