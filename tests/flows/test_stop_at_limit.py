"""LIMIT ends a ranking while it runs, once as many models as it asks for have the best score there can be."""

from __future__ import annotations

import pytest

from flows.registration import register_model
from shiftql.answers import RankingAnswer
from shiftql.engine import Session
from storage.catalog import Catalog

SPLITS = "TRAINED ON 'colours-train' TESTED ON 'colours-test'"
FIRST = f"SELECT name FROM image_models ORDER BY Linear(num_epochs=90) {SPLITS} LIMIT 1"


@pytest.fixture(autouse=True)
def six_models(here: None, catalog: Catalog) -> None:
    for name in ("colours-train", "photos-train", "colours-test", "photos-test"):
        register_model(catalog, f"components-of-{name}", f"pca:{name}")


def ask(text: str, **options: tuple[str, ...]) -> RankingAnswer:
    (answer,) = Session(**options).run(text)
    assert isinstance(answer, RankingAnswer)
    return answer


def test_a_ranking_ends_when_its_limit_is_reached_by_the_best_there_can_be() -> None:
    found = ask(FIRST)
    best = found.ranking[0]
    # Four of the six are perfect, and this one comes first by name.
    assert (best["model"], best["score"]) == ("components-of-photos-test", 1.0)
    assert 1 <= found.evaluated < 6
    again = ask(FIRST)
    assert (again.ranking, again.evaluated) == (found.ranking, 0)
    with_all = ask(FIRST, no_rules=("stop_at_limit",))
    assert with_all.ranking == found.ranking
    assert with_all.evaluated + with_all.reused == 6
