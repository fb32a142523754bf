"""Successive halving over training rows, live on tiny models and held against scoring the same rows by hand."""

from __future__ import annotations

import shutil
from importlib import import_module

import numpy as np
import pytest

from flows import run as run_module
from flows.registration import register_model
from shiftql.answers import ExplainAnswer, RankingAnswer
from shiftql.engine import query
from shiftql.strategies import successive_halving
from storage.catalog import Catalog
from storage.features import FeatureStore
from storage.manifests import load_manifest
from storage.settings import current_settings
from tasks.rankers import get_ranker

SPLITS = "TRAINED ON 'colours-train' TESTED ON 'colours-test'"
PLAIN = f"SELECT name FROM image_models ORDER BY EuclideanNN {SPLITS}"
HALVED = f"{PLAIN} CHUNK 8 BUDGET 8"
# 4 models in 2 rounds share 8 pulls: 1 for each of the 4, then 2 for each of the better 2.
FIRST, SECOND = 8, 24


@pytest.fixture(autouse=True)
def four_models(here: None, catalog: Catalog) -> None:
    for name in ("colours-train", "photos-train"):
        register_model(catalog, f"components-of-{name}", f"pca:{name}")


def ask(text: str) -> RankingAnswer:
    answer = query(text)
    assert isinstance(answer, RankingAnswer)
    assert answer.failed == ()
    return answer


def ranked(answer: RankingAnswer) -> list[tuple[str, int, float]]:
    return [(row["model"], row["rows"], row["score"]) for row in answer.ranking if not row.get("baseline")]


def by_hand(catalog: Catalog) -> list[tuple[str, int, float]]:
    """The same race, by the features of a finished plain query."""
    settings = current_settings()
    store = FeatureStore(settings.features)
    train, test = (
        load_manifest(settings.manifests, catalog.dataset(f"colours-{split}").fingerprint)
        for split in ("train", "test")
    )
    order = np.lexsort(train.row_hashes.T[::-1])

    def score(model: str, rows: int) -> float:
        key = store.key(catalog.model(model).fingerprint)
        some = train.take(np.sort(order[:rows]))
        features = [store.read(key, manifest.feature_hashes) for manifest in (some, test)]
        return get_ranker("Euclidean NN").score(features[0], some.targets, features[1], test.targets).value

    names = [model.name for model in catalog.models() if model.modality == "image"]
    first = sorted(((name, FIRST, score(name, FIRST)) for name in names), key=lambda each: (-each[2], each[0]))
    second = sorted(
        ((name, SECOND, score(name, SECOND)) for name, *_ in first[:2]), key=lambda each: (-each[2], each[0])
    )
    return [*second, *first[2:]]


def test_every_round_scores_the_rows_that_come_first_by_their_hashes(catalog: Catalog) -> None:
    halved = ask(HALVED)
    assert halved.evaluated == 4 + 2
    # 8 more rows for each model in the first round and 16 in the second, beside the test rows and the baseline's.
    assert halved.work["embedded_rows"] == 4 * (FIRST + 24) + 2 * (SECOND - FIRST) + 36 + 24
    ask(PLAIN)
    assert ranked(halved) == by_hand(catalog)


def test_rows_that_any_query_embedded_are_not_embedded_for_a_round(catalog: Catalog) -> None:
    ask(PLAIN)
    halved = ask(HALVED)
    assert halved.work["embedded_rows"] == 0
    assert ranked(halved) == by_hand(catalog)
    longer = ask(f"{PLAIN} CHUNK 12 BUDGET 8")
    assert longer.work["embedded_rows"] == 0
    # Who has seen all rows was scored by the plain query.
    assert longer.evaluated == 4
    assert {rows for _, rows, _ in ranked(longer)} == {12, 36}


def test_asking_again_starts_no_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ask(HALVED)

    def refuse(*_: object) -> None:
        raise AssertionError("a flow was started")

    monkeypatch.setattr(run_module, "run_search", refuse)
    again = ask(HALVED)
    assert again.ranking == first.ranking
    assert (again.evaluated, again.reused) == (0, 6)


def test_explain_tells_the_rounds_and_what_is_known_of_them() -> None:
    def explain() -> str:
        answer = query(f"EXPLAIN {HALVED}")
        assert isinstance(answer, ExplainAnswer)
        return answer.text

    assert "strategy SuccessiveHalving(chunk 8, budget 8 pulls)" in explain()
    assert "in rounds (4 on 8 rows, 2 on 24 rows): 6 new, 0 known" in explain()
    ask(HALVED)
    assert "in rounds (4 on 8 rows, 2 on 24 rows): 0 new, 8 known" in explain()


def test_a_model_dropped_before_comes_back_when_new_rows_change_the_order(catalog: Catalog) -> None:
    more = SPLITS.replace("'colours-train'", "['colours-train', 'photos-train']")
    before = ask(HALVED)
    changed = ask(HALVED.replace(SPLITS, more))
    fresh = {name: rows for name, rows, _ in ranked(changed)}
    assert sorted(fresh.values()) == [FIRST, FIRST, SECOND, SECOND]
    # The models race anew by the rows that come first now, with what is stored of these.
    assert changed.work["embedded_rows"] < 4 * FIRST + 2 * (SECOND - FIRST) + 36 + 1
    assert before.evaluated == changed.evaluated == 6


def test_copies_of_a_model_are_one_arm_and_stand_beside_each_other(catalog: Catalog) -> None:
    alone = ask(HALVED)
    for model in [model for model in catalog.models() if model.modality == "image"]:
        catalog.save_model(f"{model.name}-copy", model.model_dump(exclude={"model_id", "name"}))
    again = ask(HALVED)
    assert again.evaluated == 0
    assert set(ranked(again)) == {
        (f"{name}{end}", rows, score) for name, rows, score in ranked(alone) for end in ("", "-copy")
    }


def test_a_race_of_the_optimizers_looks_at_as_much_of_the_test_rows_as_of_the_training_rows(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 4 models 2 are scored on a few rows of both splits alone."""
    monkeypatch.setattr(successive_halving, "_LEAST_ROWS", FIRST)
    monkeypatch.setattr(successive_halving, "_LEAST_ROWS_PER_CLASS", 1)
    monkeypatch.setattr(successive_halving, "_LEAST_TESTED", 6)
    monkeypatch.setattr(import_module("shiftql.rules.halve"), "_WORTH_IT", 1e9)
    train, test = (catalog.dataset(f"colours-{split}").num_rows for split in ("train", "test"))
    tested = -(-test * FIRST // train)
    raced = ask(f"{PLAIN} CHUNK AUTO BUDGET AUTO")
    assert [(row["rows"], row["n_test"]) for row in raced.ranking if not row.get("baseline")] == [
        *[(train, test)] * 2,
        *[(FIRST, tested)] * 2,
    ]
    assert raced.work["embedded_rows"] == 4 * (FIRST + tested) + 2 * (train + test - FIRST - tested) + train + test
    plain = ask(PLAIN)
    assert [row["score"] for row in raced.ranking[:2]] == [
        row["score"] for row in plain.ranking if row["model"] in {row["model"] for row in raced.ranking[:2]}
    ]


def test_a_model_that_fails_is_out_of_the_race_and_told(
    catalog: Catalog, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("broken") / "vit"
    shutil.copytree(catalog.model("vit").path, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    register_model(catalog, "broken", str(folder))
    answer = query(HALVED.replace("BUDGET 8", "BUDGET 15"))
    assert isinstance(answer, RankingAnswer)
    assert [failure["model"] for failure in answer.failed] == ["broken"]
    assert len(ranked(answer)) == 4
    assert max(rows for _, rows, _ in ranked(answer)) > FIRST
