"""Questions about models of a hub that are not here yet; the hub is tests.hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from flows import downloading
from flows.downloading import Downloads
from flows.registration import register_model
from shiftql.answers import ExplainAnswer, RankingAnswer
from shiftql.engine import Session, query
from shiftql.progress import Progress, progress
from storage.catalog import Catalog
from storage.database import Database
from storage.errors import StoreError
from storage.settings import current_settings
from tasks.hub import find_snapshot
from tests.hub import Hub

NATURE = "TRAINED ON 'nature-train' TESTED ON 'nature-test'"
LINEAR = f"SELECT * FROM text_models WHERE name LIKE 'hub-%' ORDER BY Linear {NATURE}"
NEAREST = f"SELECT * FROM text_models WHERE name LIKE 'hub-%' ORDER BY 'Cosine NN' {NATURE}"


@pytest.fixture(autouse=True)
def registered(here: None, catalog: Catalog, hub: Hub, pool: Any) -> None:
    """Two models of the hub, by what it tells of them."""
    for name in ("bert", "roberta"):
        hub.add(f"me/{name}", pool.models[name])
        register_model(catalog, f"hub-{name}", f"me/{name}")


def ask(text: str) -> RankingAnswer:
    answer = query(text)
    assert isinstance(answer, RankingAnswer)
    return answer


def explain(text: str) -> str:
    answer = query(f"EXPLAIN {text}")
    assert isinstance(answer, ExplainAnswer)
    return answer.text


def ranked(answer: RankingAnswer) -> dict[str, float]:
    return {row["model"]: row["score"] for row in answer.ranking if not row.get("baseline")}


def test_a_probe_of_a_hub_is_downloaded_when_it_is_needed(hub: Hub) -> None:
    nearest = "SELECT name FROM datasets ORDER BY Task2Vec(probe='hub-bert') TRAINED ON 'nature-train'"
    assert "Download 1 model" in explain(nearest)
    assert [row["name"] for row in query(nearest).to_json()["rows"]] == ["nature-test"]
    assert "Download" not in explain(nearest)
    downloads = hub.downloads()
    vectors = query("SELECT name, vec FROM datasets WHERE probe = 'hub-bert'").to_json()["rows"]
    assert [row["name"] for row in vectors if row["vec"]] == ["nature-test", "nature-train"]
    assert hub.downloads() == downloads


def test_a_probe_that_cannot_be_had_is_told_with_the_reason(hub: Hub) -> None:
    hub.repositories["me/bert"].gated = "manual"
    answer = query("SELECT name, vec FROM datasets WHERE probe = 'hub-bert'").to_json()
    assert all("HF_TOKEN" in failure["reason"] for failure in answer["failed"])
    assert [failure["dataset"] for failure in answer["failed"]] == ["nature-test", "nature-train"]


def evict(catalog: Catalog, name: str) -> None:
    shutil.rmtree(Path(catalog.model(name).path))


def test_models_are_downloaded_when_they_are_needed_and_are_then_what_they_hold(
    catalog: Catalog, hub: Hub, pool: Any
) -> None:
    assert hub.downloads() == []
    plan = explain(LINEAR)
    size = sum((pool.models[name] / "model.safetensors").stat().st_size for name in ("bert", "roberta"))
    assert f"Download 2 models: {size / 1000:.0f} kB" in plan
    assert "to download" in plan
    answer = ask(LINEAR)
    assert answer.failed == ()
    assert ranked(answer).keys() == {"hub-bert", "hub-roberta"}
    assert answer.evaluated == 2
    assert len(hub.downloads()) == 2
    bert = catalog.model("hub-bert")
    assert bert.fingerprint == catalog.model("bert").fingerprint
    assert bert.is_local
    assert bert.num_params == catalog.model("bert").num_params
    assert "Download" not in explain(NEAREST)
    assert ranked(ask(LINEAR)) == ranked(answer)
    assert len(hub.downloads()) == 2


def test_what_is_known_of_the_same_content_under_another_name_is_not_computed_again(hub: Hub) -> None:
    ask(f"SELECT * FROM text_models WHERE name = 'bert' ORDER BY Linear {NATURE}")
    answer = ask(f"SELECT * FROM text_models WHERE name = 'hub-bert' ORDER BY Linear {NATURE}")
    assert (answer.evaluated, answer.reused) == (0, 1)


def test_an_evicted_model_keeps_its_results_and_comes_back_only_for_new_work(catalog: Catalog, hub: Hub) -> None:
    first = ask(LINEAR)
    before = catalog.model("hub-bert")
    evict(catalog, "hub-bert")
    assert ranked(ask(LINEAR)) == ranked(first)
    assert ask(NEAREST).failed == ()
    assert len(hub.downloads()) == 2
    assert not catalog.model("hub-bert").is_local
    tuned = f"SELECT * FROM text_models WHERE name LIKE 'hub-%' ORDER BY FineTune(epochs=1) {NATURE}"
    assert "Download 1 model:" in explain(tuned)
    assert ask(tuned).failed == ()
    assert catalog.model("hub-bert").is_local
    assert catalog.model("hub-bert").fingerprint == before.fingerprint


def test_a_model_that_cannot_be_had_sinks_only_itself_and_is_tried_again(catalog: Catalog, hub: Hub, pool: Any) -> None:
    hub.repositories["me/bert"].gated = "manual"
    answer = ask(LINEAR)
    assert ranked(answer).keys() == {"hub-roberta"}
    assert [failure["model"] for failure in answer.failed] == ["hub-bert"]
    assert "gated" in answer.failed[0]["reason"]
    assert "HF_TOKEN" in answer.failed[0]["reason"]
    hub.repositories["me/bert"].gated = False
    again = ask(LINEAR)
    assert again.failed == ()
    assert ranked(again).keys() == {"hub-bert", "hub-roberta"}
    assert ranked(again)["hub-roberta"] == ranked(answer)["hub-roberta"]


def test_whatever_a_library_raises_on_a_download_fails_that_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    inspect = downloading.inspect_downloaded

    def unexpected(source: str, path: Path, trusted: bool) -> dict[str, Any]:
        if "bert" in str(path) and "roberta" not in str(path):
            raise KeyError("hidden_size")
        return inspect(source, path, trusted)

    monkeypatch.setattr(downloading, "inspect_downloaded", unexpected)
    answer = ask(LINEAR)
    assert ranked(answer).keys() == {"hub-roberta"}
    assert [(failure["model"], failure["reason"]) for failure in answer.failed] == [
        ("hub-bert", "KeyError: 'hidden_size'")
    ]


def test_where_none_can_be_had_the_baselines_remain(hub: Hub) -> None:
    hub.repositories.clear()
    answer = ask(LINEAR)
    assert ranked(answer) == {}
    assert {failure["model"] for failure in answer.failed} == {"hub-bert", "hub-roberta"}
    assert all("there is no model me/" in failure["reason"] for failure in answer.failed)
    assert {row["model"] for row in answer.ranking} == {"raw", "majority"}


def test_what_rests_on_a_ranking_of_models_of_the_hub_is_answered_too(hub: Hub) -> None:
    answer = ask(
        f"SELECT * FROM text_models WHERE name IN "
        f"(SELECT name FROM text_models WHERE name LIKE 'hub-%' ORDER BY 'Cosine NN' {NATURE} LIMIT 1) "
        f"ORDER BY Linear {NATURE}"
    )
    assert len(ranked(answer)) == 1
    assert len(hub.downloads()) == 2


def test_the_limit_evicts_what_the_question_does_not_need(
    catalog: Catalog, hub: Hub, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(f"SELECT * FROM text_models WHERE name = 'hub-bert' ORDER BY Linear {NATURE}")
    monkeypatch.setenv("SHIFT_MODELS_LIMIT", "1KB")
    ask(f"SELECT * FROM text_models WHERE name = 'hub-roberta' ORDER BY Linear {NATURE}")
    assert not catalog.model("hub-bert").is_local
    assert catalog.model("hub-roberta").is_local
    assert Path(catalog.model("hub-roberta").path).is_relative_to(current_settings().models)


def test_what_a_download_took_stands_beside_what_was_expected(hub: Hub) -> None:
    text = explain(f"ANALYZE {LINEAR}")
    (evaluated,) = [line for line in text.splitlines() if "Evaluate" in line]
    (downloaded,) = [line for line in text.splitlines() if "Download" in line]
    assert "4 new and 0 reused" in evaluated
    assert "; actual " in downloaded


def test_what_a_person_told_of_a_model_outlasts_its_download(catalog: Catalog, hub: Hub) -> None:
    register_model(catalog, "hub-bert", "me/bert", columns={"licence": "told", "upstream_dataset": "told"})
    ask(LINEAR)
    bert = catalog.model("hub-bert")
    assert (bert.is_local, bert.licence, bert.upstream_dataset) == (True, "told", "told")


class _Interrupting(Progress):
    """Interrupts a download at its first bytes."""

    def __init__(self, downloads: Downloads) -> None:
        self._downloads = downloads
        self.reported = 0

    def advance(self, done: str, amount: float = 1) -> None:
        self.reported += 1
        self._downloads._is_stopped = True


def test_an_interrupted_download_stops_at_its_next_bytes(catalog: Catalog, hub: Hub) -> None:
    downloads = Downloads(Database(current_settings()))
    surface = _Interrupting(downloads)
    token = progress.set(surface)
    try:
        model = catalog.model("hub-bert")
        snapshot = find_snapshot("me/bert", model.revision)
        with pytest.raises(StoreError, match="interrupted"):
            downloads._bring(model, snapshot)
    finally:
        progress.reset(token)
    assert surface.reported == 1
    assert not catalog.model("hub-bert").is_local


def test_a_benchmark_downloads_what_it_measures_and_tells_what_it_cannot_have(catalog: Catalog, hub: Hub) -> None:
    hub.repositories["me/bert"].gated = "manual"
    built = Session().build_benchmark("hub-*", "nature", "Linear")
    assert [failure["model"] for failure in built.failed] == ["hub-bert"]
    assert "HF_TOKEN" in built.failed[0]["reason"]
    # What failed was evaluated too, and is not tried twice by one build.
    assert (built.evaluated, built.left) == (2, 0)
    measured = {row["model"]: row["nature"] for row in built.rows}
    assert measured["hub-roberta"] is not None
    assert ranked(ask(LINEAR)) == {"hub-roberta": measured["hub-roberta"]}
