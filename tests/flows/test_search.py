"""Whole queries on tiny real models, against one Prefect server; hosts run in this process but for the last test."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import OperationalError
from sqlmodel import select

import tasks.classification
import tasks.host
from flows import computing
from flows import run as run_module
from flows import search as search_module
from flows.registration import register_dataset, register_model
from shiftql.answers import ErrorAnswer, RankingAnswer
from shiftql.engine import Session, query
from shiftql.progress import Progress, progress
from storage import features as features_module
from storage.catalog import Catalog
from storage.database import Database
from storage.derivation import rows_in
from storage.errors import EvaluationError, LostFeaturesError, StoreError
from storage.evaluations import Evaluation, Measurement
from storage.eviction import evict_features
from storage.features import FeatureStore, open_features
from storage.manifests import load_manifest
from storage.results import EvaluationRecord, ResultStore
from storage.settings import Settings, current_settings
from storage.turns import TurnRecord, Turns
from storage.unembedded import unembedded, union
from storage.views import LAST
from tasks import embedding
from tasks.host import Host
from tests.plugin import write_plugin

NATURE = "TRAINED ON 'nature-train' TESTED ON 'nature-test'"
LINEAR = f"SELECT num_params FROM text_models ORDER BY Linear {NATURE}"
NEAREST = f'SELECT * FROM text_models ORDER BY "Cosine NN" {NATURE}'
BOTH = f"SELECT * FROM text_models ORDER BY acc CLASSIFIED BY [Linear, EuclideanNN] {NATURE}"
TEXT_ROWS = 36 + 24


@pytest.fixture
def no_flow(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """After `no_flow.setattr(*NO_FLOW)` a query that starts a flow fails."""
    with monkeypatch.context() as patch:
        yield patch


def _refuse(*_: object) -> None:
    raise AssertionError("a flow was started")


NO_FLOW = (run_module, "run_search", _refuse)


def ask(text: str) -> RankingAnswer:
    answer = query(text)
    assert isinstance(answer, RankingAnswer)
    return answer


def models(answer: RankingAnswer) -> list[str]:
    return [row["model"] for row in answer.ranking if not row.get("baseline")]


def scores(answer: RankingAnswer) -> dict[str, float]:
    return {row["model"]: row["score"] for row in answer.ranking}


def recorded(*columns: str) -> list[tuple[Any, ...]]:
    with Database(current_settings()).session() as session:
        return sorted(
            tuple(getattr(row, column) for column in columns) for row in session.exec(select(EvaluationRecord))
        )


def break_model(catalog: Catalog, pool: Any, folder: Path, name: str = "broken") -> None:
    path = shutil.copytree(pool.models["bert"], folder / name)
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[: len(content) // 2])
    register_model(catalog, name, str(path))


def test_models_are_ranked_with_baselines_beside_them(here: None) -> None:
    answer = ask(LINEAR)
    assert sorted(models(answer)) == ["bert", "roberta"]
    assert [row["rank"] for row in answer.ranking] == [1, 2, None, None]
    assert {row["model"] for row in answer.ranking[2:]} == {"raw", "majority"}
    best, second = answer.ranking[:2]
    assert best["score"] >= second["score"]
    for row in answer.ranking:
        assert row["metric"] == "accuracy"
        assert row["higher_is_better"]
        assert row["n_test"] == 24
        assert 0 <= row["low"] <= row["score"] <= row["high"] <= 1
    assert best["num_params"] > 0
    assert (answer.failed, answer.evaluated, answer.reused, answer.partial) == ((), 2, 0, False)
    assert answer.work["embedded_rows"] > 0
    assert answer.work["flow_run_id"]


def test_asking_again_evaluates_nothing_and_starts_no_flow(here: None, no_flow: pytest.MonkeyPatch) -> None:
    first = ask(LINEAR)
    no_flow.setattr(*NO_FLOW)
    second = ask(LINEAR)
    assert second.ranking == first.ranking
    assert (second.evaluated, second.reused) == (0, 2)
    assert second.work == {"embedded_rows": 0, "reused_rows": 0, "flow_run_id": None}


def test_spelling_columns_and_limits_change_no_evaluation(here: None, no_flow: pytest.MonkeyPatch) -> None:
    first = ask(LINEAR)
    no_flow.setattr(*NO_FLOW)
    again = ask(
        "select name from Models where modality = text order by linear(epochs=60, lr=0.02) desc "
        'tested on "nature-test" trained on "nature-train" limit 1 -- the worst'
    )
    assert models(again) == models(first)[-1:]


def test_a_new_ranker_embeds_nothing_again(here: None) -> None:
    first = ask(LINEAR)
    second = ask(NEAREST)
    assert first.work["embedded_rows"] > 0
    assert (second.evaluated, second.work["embedded_rows"]) == (2, 0)
    assert second.work["reused_rows"] > 0


def test_rankers_of_one_query_share_one_embedding(here: None) -> None:
    together = ask(BOTH)
    assert list(together.rankings) == ["Linear(learning_rate=0.02, num_epochs=60)", "Euclidean NN(k=1)"]
    assert together.evaluated == 4
    assert together.work["embedded_rows"] <= 3 * TEXT_ROWS


def test_a_ranker_of_an_installed_package_is_asked_by_name_and_never_computed_twice(
    here: None, tmp_path: Path, no_flow: pytest.MonkeyPatch
) -> None:
    write_plugin(tmp_path / "installed", "plug_asked", "spread")
    no_flow.syspath_prepend(tmp_path / "installed")
    first = ask("SELECT * FROM text_models ORDER BY Spread(factor=2) TRAINED ON 'nature-train'")
    assert sorted(models(first)) == ["bert", "roberta"]
    assert first.evaluated == 2
    assert first.ranking[0]["metric"] == "spread"
    no_flow.setattr(*NO_FLOW)
    again = ask("RANK text_models BY \"spread(2)\" TRAINED ON 'nature-train'")
    assert again.ranking == first.ranking
    assert (again.evaluated, again.reused) == (0, 2)


def test_a_broken_model_is_listed_and_the_rest_is_ranked(
    here: None, catalog: Catalog, pool: Any, tmp_path: Path, no_flow: pytest.MonkeyPatch
) -> None:
    break_model(catalog, pool, tmp_path)
    first = ask(LINEAR)
    assert sorted(models(first)) == ["bert", "roberta"]
    assert [failure["model"] for failure in first.failed] == ["broken"]
    assert first.failed[0]["reason"]
    no_flow.setattr(*NO_FLOW)
    assert ask(LINEAR).failed == first.failed


class _Code:
    """Unpickled, it makes a directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def test_a_model_that_turned_hostile_is_listed_with_the_reason_and_the_rest_is_ranked(
    here: None, catalog: Catalog, pool: Any, tmp_path: Path
) -> None:
    path = shutil.copytree(pool.models["bert"], tmp_path / "hostile")
    register_model(catalog, "hostile", str(path))
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": _Code(tmp_path / "canary")}, protocol=2))
    answer = ask(LINEAR)
    assert sorted(models(answer)) == ["bert", "roberta"]
    assert [failure["model"] for failure in answer.failed] == ["hostile"]
    assert "trusted" in answer.failed[0]["reason"]
    assert not (tmp_path / "canary").exists()


def test_a_ranker_that_fails_does_not_fail_the_others(here: None) -> None:
    answer = ask(
        f"SELECT * FROM text_models ORDER BY acc CLASSIFIED BY [CosineNN(k=1000), Linear, FineTune(epochs=1)] {NATURE}"
    )
    too_many, linear, finetuned = answer.rankings.values()
    assert [row["model"] for row in too_many] == ["majority"]
    assert sorted(row["model"] for row in linear if row["rank"]) == ["bert", "roberta"]
    assert sorted(row["model"] for row in finetuned) == ["bert", "roberta"]
    assert {failure["model"]: failure["reason"] for failure in answer.failed}.keys() >= {"bert", "roberta"}
    assert all("k=1000" in failure["reason"] for failure in answer.failed)


def test_features_that_a_model_lacks_fail_only_the_rankers_that_want_them(here: None) -> None:
    both = ask(f"SELECT * FROM text_models ORDER BY acc CLASSIFIED BY [Linear(layer=7), Linear] {NATURE}")
    missing, plain = both.rankings.values()
    assert {row["model"] for row in missing} == {"raw", "majority"}
    assert {row["model"] for row in plain} == {"bert", "roberta", "raw", "majority"}
    assert all("no layer 7" in failure["reason"] for failure in both.failed)
    assert sorted(models(ask(LINEAR))) == ["bert", "roberta"]


def test_a_lost_host_is_a_failure_that_is_tried_again(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as dying:

        def die(**_: object) -> None:
            raise EvaluationError("the torch process was killed", transient=True)

        dying.setattr(embedding, "embed_dataset", die)
        assert {failure["reason"] for failure in ask(LINEAR).failed} == {"the torch process was killed"}
    again = ask(LINEAR)
    assert (again.failed, again.evaluated) == ((), 2)
    assert sorted(models(again)) == ["bert", "roberta"]


def test_models_are_fine_tuned_and_refused_where_they_cannot_be(here: None, catalog: Catalog, pool: Any) -> None:
    register_model(catalog, "hub", str(pool.models["bert"]))
    catalog.save_model("hub", {"source": "torch"})
    text = f"SELECT * FROM text_models WHERE name != 'roberta' ORDER BY FineTune(epochs=2, lr=0.01) {NATURE}"
    answer = ask(text)
    assert models(answer) == ["bert"]
    assert not any(row.get("baseline") for row in answer.ranking)
    (failure,) = answer.failed
    assert failure["reason"].startswith("FineTune is not available for torch models: ")
    # So short a training may collapse, and is tried once more then.
    tries = recorded("curve", "cost_seconds")
    assert len(tries) == answer.evaluated <= 2
    for curve, seconds in tries:
        assert len(json.loads(curve)) == 2
        assert seconds > 0


def test_several_datasets_are_taken_as_one(here: None, no_flow: pytest.MonkeyPatch) -> None:
    both = (
        "SELECT * FROM text_models ORDER BY Linear TRAINED ON ['nature-train', 'nature-test'] TESTED ON 'nature-test'"
    )
    ask(LINEAR)
    answer = ask(both)
    assert answer.evaluated == 2
    assert answer.work["embedded_rows"] == 0
    # What is tested on was trained on.
    assert scores(answer)["raw"] == 1.0
    no_flow.setattr(*NO_FLOW)
    assert ask(both).evaluated == 0


def test_only_a_changed_model_is_evaluated_again(here: None, catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    path = shutil.copytree(pool.models["bert"], tmp_path / "mine")
    register_model(catalog, "mine", str(path))
    before = ask(LINEAR)
    assert before.evaluated == 3
    for file in ("model.safetensors", "config.json"):
        shutil.copy(pool.models["roberta"] / file, path / file)
    after = ask(LINEAR)
    assert after.evaluated == 0  # It has become a copy of one that is known.
    assert scores(after)["mine"] == scores(before)["roberta"]


def test_equal_models_under_two_names_are_evaluated_once(here: None, catalog: Catalog, pool: Any) -> None:
    register_model(catalog, "twin", str(pool.models["bert"]))
    answer = ask(LINEAR)
    assert scores(answer)["twin"] == scores(answer)["bert"]
    assert len(recorded("fingerprint")) == 4


def test_what_is_purged_while_the_query_runs_is_computed_again(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    original = computing.Computation.run
    runs = []

    async def run(search: Any) -> None:
        await original(search)
        runs.append(search)
        if len(runs) == 1:
            Session().purge("results")

    monkeypatch.setattr(computing.Computation, "run", run)
    answer = ask(LINEAR)
    assert sorted(models(answer)) == ["bert", "roberta"]
    assert (answer.failed, answer.evaluated, len(runs)) == ((), 2, 2)


def test_what_is_always_purged_is_a_failure_in_the_end(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    original = computing.Computation.run

    async def run(search: Any) -> None:
        await original(search)
        Session().purge("results")

    monkeypatch.setattr(computing.Computation, "run", run)
    answer = ask(LINEAR)
    assert models(answer) == []
    assert {failed["model"] for failed in answer.failed} >= {"bert", "roberta"}
    assert all("was purged" in failed["reason"] for failed in answer.failed)


def test_relabelled_data_is_evaluated_again_and_not_embedded(here: None, catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    text = Path(catalog.dataset("nature-train").path).read_text()
    path.write_text(text)
    register_dataset(catalog, "mine", str(path))
    mine = LINEAR.replace("nature-train", "mine")
    ask(mine)
    path.write_text(text.replace("animals", "stones"))
    again = ask(mine)
    assert (again.evaluated, again.work["embedded_rows"]) == (2, 0)
    assert scores(again)["majority"] <= 0.5


def test_what_the_stores_lost_is_computed_again_whatever_prefect_remembers(here: None, home: Path) -> None:
    first = ask(LINEAR)
    shutil.rmtree(home / "features")
    with Database(current_settings()).session() as session:
        for row in session.exec(select(EvaluationRecord)):
            session.delete(row)
        session.commit()
    again = ask(LINEAR)
    assert again.ranking == first.ranking
    assert (again.evaluated, again.work["embedded_rows"]) == (2, first.work["embedded_rows"])


# --- lost features ----------------------------------------------------------------------------------------------------


class Notes(Progress):
    """What a person is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, message: str) -> None:
        self.told.append(message)


@pytest.fixture
def notes() -> Iterator[Notes]:
    told = Notes()
    token = progress.set(told)
    yield told
    progress.reset(token)


def feature_files(model: str, half: str) -> list[Path]:
    settings = current_settings()
    store = open_features(settings)
    key = store.key(Catalog(Database(settings)).model(model).fingerprint)
    rows = sorted((settings.features / key).glob("*.rows.npy"))
    assert rows
    return rows if half == "rows" else [file.with_name(file.name.replace(".rows", "")) for file in rows]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def turn_round(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4][::-1])


@pytest.mark.parametrize("half", ["rows", "vectors"])
@pytest.mark.parametrize("damage", [cut, turn_round, Path.unlink])
def test_damaged_features_are_computed_anew_within_the_query_that_says_so(
    here: None, notes: Notes, half: str, damage: Callable[[Path], None], no_flow: pytest.MonkeyPatch
) -> None:
    undamaged = ask(LINEAR)
    forget_results("linear")
    for file in feature_files("bert", half):
        damage(file)
    notes.told.clear()
    answer = ask(LINEAR)
    assert answer.ranking == undamaged.ranking
    assert answer.failed == ()
    assert answer.work["embedded_rows"] == len(distinct_texts())
    asked = undamaged.work["embedded_rows"] + undamaged.work["reused_rows"]
    assert answer.work["reused_rows"] == asked - answer.work["embedded_rows"]
    assert [note for note in notes.told if "anew" in note] == ["features of bert were damaged and are computed anew"]
    no_flow.setattr(*NO_FLOW)
    assert ask(LINEAR).ranking == undamaged.ranking


def test_damage_of_every_layer_is_mended_in_one_query(here: None, notes: Notes) -> None:
    best = f"SELECT * FROM text_models WHERE name = 'bert' ORDER BY Linear(layer='best') {NATURE}"
    undamaged = ask(best)
    forget_results("linear")
    for file in current_settings().features.rglob("*.npy"):
        cut(file)
    again = ask(best)
    assert again.failed == ()
    assert again.ranking == undamaged.ranking
    assert "features of bert were damaged and are computed anew" in notes.told


def test_features_that_another_process_evicts_meanwhile_are_computed_anew(
    here: None, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    undamaged = ask(LINEAR)
    forget_results("linear")
    original = FeatureStore.read
    read: list[str] = []

    def read_too_late(store: FeatureStore, key: str, hashes: Any) -> Any:
        if not read:
            for file in (current_settings().features / key).iterdir():
                file.unlink()
        read.append(key)
        return original(store, key, hashes)

    monkeypatch.setattr(FeatureStore, "read", read_too_late)
    answer = ask(LINEAR)
    assert (answer.failed, answer.ranking) == ((), undamaged.ranking)
    assert any("deleted meanwhile and are computed anew" in note for note in notes.told)


def test_features_that_never_last_are_a_failure_that_is_tried_again(
    here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise LostFeaturesError("they are gone again", was="deleted meanwhile")

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "read", read)
        assert {failure["reason"] for failure in ask(LINEAR).failed} == {"they are gone again"}
    assert ask(LINEAR).failed == ()


def test_a_full_disk_is_the_reason_and_the_query_goes_on_once_there_is_space(
    here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full.setattr(features_module, "write_segment", refuse)
        failed = ask(LINEAR).failed
    assert {failure["model"] for failure in failed} >= {"bert", "roberta"}
    assert all("No space left on device; free some disk space" in failure["reason"] for failure in failed)
    answer = ask(LINEAR)
    assert (answer.failed, answer.evaluated) == ((), 2)


def test_a_query_that_needs_more_features_than_the_limit_is_answered_and_leaves_less(
    here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIFT_FEATURES_LIMIT", "5KB")
    together = ask(BOTH)
    assert together.failed == ()
    assert together.work["embedded_rows"] == 3 * len(distinct_texts())
    left = sum(file.stat().st_size for file in current_settings().features.rglob("*.npy"))
    assert left <= 5000


def test_stored_features_are_not_all_looked_at_again_for_every_model(
    here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms: list[int] = []

    def evict(settings: Settings) -> int:
        rooms.append(evict_features(settings))
        return rooms[-1]

    monkeypatch.setattr(computing, "evict_features", evict)
    assert ask(LINEAR).work["embedded_rows"] > 0
    assert len(rooms) == 1
    assert rooms[0] > 0


def test_a_machine_that_shares_features_embeds_nothing_that_another_did(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIFT_STORE_URL", f"file://{tmp_path / 'shared'}")
    first = ask(LINEAR)
    shutil.rmtree(current_settings().features)
    forget_results("linear")
    second = ask(LINEAR)
    assert first.work["embedded_rows"] > 0
    assert (second.evaluated, second.work["embedded_rows"]) == (2, 0)
    assert second.ranking == first.ranking


def distinct_texts() -> set[str]:
    paths = [Path(Catalog(Database(current_settings())).dataset(name).path) for name in ("nature-train", "nature-test")]
    return {line.rsplit(",", 1)[0] for path in paths for line in path.read_text().splitlines()[1:]}


def forget_results(method: str) -> None:
    with Database(current_settings()).session() as session:
        for row in session.exec(select(EvaluationRecord)):
            if row.method == method:
                session.delete(row)
        session.commit()


# --- askers at once ---------------------------------------------------------------------------------------------------


def test_askers_of_different_rankers_and_overlapping_rows_embed_every_row_once(
    here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[tuple[str, bytes]] = []
    entered: list[str] = []
    wanted_again = threading.Event()
    settings = current_settings()
    store = open_features(settings)

    def embed_rows(
        model_fingerprint: str, dataset_fingerprint: str, spans: Any, views: Any, **_: object
    ) -> dict[str, Any]:
        manifest = load_manifest(settings.manifests, dataset_fingerprint)
        rows = union(unembedded(store, model_fingerprint, manifest, rows_in(spans), [LAST]))
        # The first goes on only once another wants the same model.
        if entered:
            if entered[0] == model_fingerprint:
                wanted_again.set()
        else:
            entered.append(model_fingerprint)
            assert wanted_again.wait(60)
        hashes = manifest.row_hashes[rows]
        if len(rows):
            store.write(store.key(model_fingerprint), hashes, hashes.astype(np.float32))
        embedded.extend((model_fingerprint, each.tobytes()) for each in hashes)
        return {
            "embedded_rows": len(rows),
            "seconds": 0.0,
            "opening_seconds": 0.0,
            "waited_seconds": 0.0,
            "was_warm": True,
            "dropped": 0,
            "written_bytes": 0,
        }

    def call(host: Host, function: str, **arguments: Any) -> Any:
        return embed_rows(**arguments) if function.endswith(":embed_dataset") else original(host, function, **arguments)

    def take(turns: Turns, model_fingerprint: str) -> str | None:
        turn = original_take(turns, model_fingerprint)
        if turn is None and model_fingerprint in entered:
            wanted_again.set()
        return turn

    original, original_take = Host.call, Turns.take
    monkeypatch.setattr(Host, "call", call)
    monkeypatch.setattr(Turns, "take", take)
    monkeypatch.setattr(computing, "_POLL_SECONDS", 0.01)
    other_rows = LINEAR.replace("'nature-train'", "['nature-test', 'nature-train']")
    texts = [LINEAR, NEAREST, other_rows]

    async def all_at_once() -> Sequence[dict[str, Any]]:
        return await asyncio.gather(*(search_module.search(text) for text in texts))

    done = asyncio.run(all_at_once())
    assert len(embedded) == len(set(embedded)) == 3 * len(distinct_texts())
    assert sum(work["embedded_rows"] for work in done) == len(embedded)
    assert [ask(text).failed for text in texts] == [()] * len(texts)


def test_rows_that_another_embeds_are_waited_for_without_a_slot(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = current_settings()
    turns = Turns(Database(settings), 30.0)
    theirs = turns.take(Catalog(Database(settings)).model("bert").fingerprint)
    assert theirs is not None
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds == computing._POLL_SECONDS:
            waited.append(seconds)
            done = {model for model, status in recorded("model_name", "status") if status == "completed"}
            if "roberta" in done:
                turns.give_back(theirs)
        await original(seconds)

    original = asyncio.sleep
    monkeypatch.setattr(computing, "_POLL_SECONDS", 0.011)
    monkeypatch.setattr(computing.asyncio, "sleep", sleep)
    answer = ask(LINEAR)
    assert answer.failed == ()
    assert sorted(models(answer)) == ["bert", "roberta"]
    assert waited


def test_the_turn_of_the_dead_is_taken_over(here: None) -> None:
    settings = current_settings()
    assert Turns(Database(settings), 30.0).take(Catalog(Database(settings)).model("bert").fingerprint) is not None
    with Database(settings).session() as session:
        session.execute(update(TurnRecord).values(heartbeat=0.0))
        session.commit()
    answer = ask(LINEAR)
    assert sorted(models(answer)) == ["bert", "roberta"]
    with Database(settings).session() as session:
        assert session.exec(select(TurnRecord)).all() == []


def test_two_askers_at_once_compute_everything_once(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "_POLL_SECONDS", 0.01)

    async def both() -> Sequence[dict[str, Any]]:
        return await asyncio.gather(search_module.search(LINEAR), search_module.search(LINEAR))

    first, second = asyncio.run(both())
    computed = [*first["computed"], *second["computed"]]
    assert sorted(computed) == sorted(set(computed)) == [fingerprint for (fingerprint,) in recorded("fingerprint")]
    assert {token for (token,) in recorded("token")} == {1}
    assert len(models(ask(LINEAR))) == 2


def test_what_another_is_computing_is_waited_for(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = Measurement(status="completed", cost_seconds=1.0, metric="accuracy", value=0.123, n_test=24)
    ask(LINEAR)
    with Database(current_settings()).session() as session:
        session.execute(
            update(EvaluationRecord)
            .where(EvaluationRecord.model_name == "bert")  # type: ignore[arg-type]
            .values(status="claimed", owner="them", heartbeat=2e9)
        )
        session.commit()
    original = ResultStore.claim
    asked: list[str] = []

    def claim(store: ResultStore, evaluation: Evaluation) -> object:
        asked.append(evaluation.model.name)
        if asked.count("bert") == 2:
            store.record(computing.Claim(evaluation, "them", 1), theirs)
        return original(store, evaluation)

    monkeypatch.setattr(ResultStore, "claim", claim)
    monkeypatch.setattr(computing, "_POLL_SECONDS", 0.01)
    answer = ask(LINEAR)
    assert scores(answer)["bert"] == 0.123
    assert answer.evaluated == 0


def test_the_claims_of_the_dead_are_taken_over(here: None, no_flow: pytest.MonkeyPatch) -> None:
    first = ask(LINEAR)
    with Database(current_settings()).session() as session:
        session.execute(update(EvaluationRecord).values(status="claimed", owner="dead", heartbeat=0.0))
        session.commit()
    again = ask(LINEAR)
    assert again.ranking == first.ranking
    assert again.evaluated == 2
    assert {token for (token,) in recorded("token")} == {2}


def test_what_another_took_over_meanwhile_is_its_result(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when this machine was suspended for longer than its claims last."""
    theirs = Measurement(status="completed", cost_seconds=1.0, metric="accuracy", value=0.123, n_test=24)
    original = tasks.classification.score_features

    def sleep_through(evaluation: Evaluation, *arguments: Any) -> Measurement:
        measured = original(evaluation, *arguments)
        if evaluation.model.name == "bert":
            other = ResultStore(Database(current_settings()), claim_expires_seconds=-1.0)
            claim = other.claim(evaluation)
            assert claim is not None
            other.record(claim, theirs)
        return measured

    monkeypatch.setattr(computing, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(tasks.classification, "score_features", sleep_through)
    answer = ask(LINEAR)
    assert scores(answer)["bert"] == 0.123
    assert answer.evaluated == 1


class Killed(BaseException):
    """In the place of `kill -9`, after which nothing is tidied up."""


def _kill(*_: object, **__: object) -> None:
    raise Killed


def _record_and_kill(claim: computing.Claim, measurement: Measurement) -> str:
    ResultStore(Database(current_settings())).record(claim, measurement)
    raise Killed


@pytest.mark.parametrize(
    ("place", "end"),
    [
        ("tasks.embedding:embed_dataset", _kill),
        ("tasks.classification:score_features", _kill),
        ("tasks.stages:_record", _kill),
        ("tasks.stages:_record", _record_and_kill),
        ("storage.tracking:_create_run", _kill),
        ("storage.tracking:_write_run", _kill),
        ("storage.tracking:_note_runs", _kill),
    ],
    ids=["embedding", "scoring", "recording", "recorded", "exporting", "writing a run", "run written"],
)
def test_a_query_that_was_killed_is_completed_and_repeats_nothing(
    here: None, monkeypatch: pytest.MonkeyPatch, place: str, end: Any
) -> None:
    from mlflow import MlflowClient

    with monkeypatch.context() as dying:
        module, _, function = place.partition(":")
        dying.setattr(import_module(module), function, end)
        dying.setattr(ResultStore, "release", lambda *_: None)
        with pytest.raises(Killed):
            ask(LINEAR)
    with Database(current_settings()).session() as session:
        session.execute(update(EvaluationRecord).values(heartbeat=0.0, export_started=0.0))
        session.commit()
    finished = {row for row in recorded("fingerprint", "status", "token", "recorded") if row[1] == "completed"}
    monkeypatch.setattr(computing, "_POLL_SECONDS", 0.01)
    again = ask(LINEAR)
    assert finished <= set(recorded("fingerprint", "status", "token", "recorded"))
    assert sorted(models(again)) == ["bert", "roberta"]
    client = MlflowClient(tracking_uri=current_settings().tracking_uri)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    written = recorded("fingerprint", "mlflow_run_id")
    if again.evaluated:
        assert sorted((run.data.tags["shift.fingerprint"], run.info.run_id) for run in runs) == written
        assert {run.info.status for run in runs} == {"FINISHED"}
    shutil.rmtree(current_settings().features)
    with Database(current_settings()).session() as session:
        session.execute(delete(EvaluationRecord))
        session.commit()
    assert ask(LINEAR).ranking == again.ranking


def test_a_full_disk_is_a_clear_error_and_the_query_goes_on_afterwards(
    here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:

        def refuse(*_: object) -> None:
            raise OperationalError("UPDATE evaluations", None, Exception("database or disk is full"))

        full.setattr(ResultStore, "record", refuse)
        with pytest.raises(StoreError, match="the disk is full"):
            ask(LINEAR)
    again = ask(LINEAR)
    assert (again.failed, again.evaluated) == ((), 2)


def test_an_interrupted_query_answers_with_what_is_known(here: None, no_flow: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    ask(LINEAR)
    no_flow.setattr(run_module, "run_search", interrupt)
    answer = ask(BOTH)
    assert answer.partial
    assert answer.interrupted
    assert (answer.evaluated, answer.reused) == (0, 2)


def test_every_evaluation_is_one_mlflow_run(here: None, catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    break_model(catalog, pool, tmp_path)
    for text in (LINEAR, LINEAR, BOTH):
        ask(text)
    client = MlflowClient(tracking_uri=current_settings().tracking_uri)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert sorted((run.data.tags["shift.fingerprint"], run.info.run_id) for run in runs) == recorded(
        "fingerprint", "mlflow_run_id"
    )
    by_model = {run.data.tags["shift.model"]: run for run in runs if run.data.tags["shift.method"] == "linear"}
    assert by_model["broken"].info.status == "FAILED"
    assert by_model["bert"].data.params == {"learning_rate": "0.02", "num_epochs": "60"}
    assert by_model["bert"].data.metrics["accuracy"] == scores(ask(LINEAR))["bert"]


def test_a_person_recognises_the_run_in_prefect(here: None) -> None:
    from prefect import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    work = ask(LINEAR).work
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(work["flow_run_id"])
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        (artifact,) = client.read_artifacts(artifact_filter=of_run)
    assert run.name == LINEAR.replace("'", "")[:100]
    assert run.state is not None
    assert run.state.is_completed()
    assert (artifact.key, artifact.description) == ("ranking", run.name)
    assert "bert" in str(artifact.data)


def test_a_query_runs_where_an_event_loop_runs_already(here: None) -> None:
    async def notebook_cell() -> list[str]:
        return models(ask(LINEAR))

    assert sorted(asyncio.run(notebook_cell())) == ["bert", "roberta"]


def test_an_error_of_the_flow_reaches_a_running_event_loop(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(**_: object) -> None:
        raise OSError("no space left on device")

    async def notebook_cell() -> RankingAnswer:
        return ask(LINEAR)

    monkeypatch.setattr(search_module, "search", fail)
    with pytest.raises(StoreError, match="the disk is full"):
        asyncio.run(notebook_cell())


def test_statements_are_answered_in_turn_and_end_at_the_first_that_fails(here: None) -> None:
    answers = list(
        Session().run(f"SELECT name FROM models; EXPLAIN {LINEAR}; {LINEAR}; SELECT nam FROM models; {BOTH}")
    )
    assert [answer.kind for answer in answers] == ["rows", "explain", "ranking", "error"]
    assert isinstance(answers[-1], ErrorAnswer)
    assert "'nam'" in str(answers[-1].error)


def test_every_source_answers_from_its_own_process(
    server: None, catalog: Catalog, saved_models: dict[str, Path]
) -> None:
    register_model(catalog, "saved", str(saved_models["image"]))
    try:
        answer = ask(
            "SELECT * FROM image_models WHERE name IN (resnet, saved) "
            'ORDER BY "Euclidean NN" TRAINED ON "photos-train" TESTED ON "photos-test"'
        )
    finally:
        tasks.host.stop_hosts()
    assert answer.failed == ()
    assert sorted(models(answer)) == ["resnet", "saved"]
    assert min(scores(answer)[name] for name in ("resnet", "saved")) > 0.5
    assert all(run_id for (run_id,) in recorded("mlflow_run_id"))
