from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update
from sqlmodel import select

from storage.checkpoints import CheckpointStore, training_key
from storage.database import Database
from storage.errors import StoreError
from storage.evaluations import Evaluation, Measurement, Subject
from storage.features import open_features
from storage.neighbours import Search, SearchStore
from storage.purging import purge
from storage.results import EvaluationRecord, ResultStore
from storage.settings import current_settings
from storage.tracking import export_pending
from storage.views import View

BERT = Evaluation(Subject("bert", "b"), Subject("train", "d"), Subject("test", "t"), "linear", "1")
VIT = replace(BERT, model=Subject("vit", "v"))
DONE = Measurement(status="completed", cost_seconds=1.0, metric="accuracy", value=0.75, metrics={"accuracy": 0.75})
DAY = 86_400.0
NOTHING = {"results": 0, "result_bytes": 0, "segments": 0, "segment_bytes": 0, "segments_in_use": 0}


@pytest.fixture(autouse=True)
def migrated(home: Path, database: Database, tracking_template: Path) -> None:
    (home / "mlflow.db").write_bytes(tracking_template.read_bytes())


def record(results: ResultStore, evaluation: Evaluation, measurement: Measurement = DONE) -> None:
    claim = results.claim(evaluation)
    assert claim is not None
    results.record(claim, measurement)


def known(database: Database) -> set[str]:
    with database.session() as session:
        return set(session.exec(select(EvaluationRecord.model_name)))


def runs() -> Sequence[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=current_settings().tracking_uri)
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def embed(model: str, view: View = View(), rows: int = 3) -> Path:  # noqa: B008
    store = open_features(current_settings())
    key = store.key(model, view)
    store.write(key, np.arange(rows * 16, dtype=np.uint8).reshape(rows, 16), np.ones((rows, 2), np.float32))
    return current_settings().features / key


def search(model: str) -> Path:
    settings = current_settings()
    key = open_features(settings).key(model, View("2"))
    empty = np.empty((0, 2))
    SearchStore(settings.neighbours).keep(f"{key}/cosine_nn-1", Search(empty, empty, empty, empty))
    (file,) = (settings.neighbours / key).rglob("*.npz")
    return file


def test_purging_results_deletes_rows_and_their_runs(database: Database) -> None:
    results = ResultStore(database)
    record(results, BERT)
    record(results, VIT)
    export_pending()
    counted = purge("results", dry_run=True)
    assert counted["results"] == 2
    assert counted["result_bytes"] > 0
    assert known(database) == {"bert", "vit"}
    assert purge("results") == counted
    assert known(database) == set()
    assert runs() == []
    assert purge("results") == NOTHING


def test_what_was_purged_is_computed_and_exported_again(database: Database) -> None:
    results = ResultStore(database)
    record(results, BERT)
    export_pending()
    purge("all")
    record(results, BERT)
    assert results.known([BERT.fingerprint]) == {BERT.fingerprint: DONE}
    assert export_pending() == 1
    assert len(runs()) == 1


def test_results_of_one_model_are_purged_alone(database: Database) -> None:
    results = ResultStore(database)
    record(results, BERT)
    record(results, VIT)
    assert purge("results", model="bert")["results"] == 1
    assert known(database) == {"vit"}


def test_results_that_are_old_are_purged_alone(database: Database) -> None:
    results = ResultStore(database)
    record(results, BERT)
    record(results, VIT)
    with database.session() as session:
        session.execute(update(EvaluationRecord).where(EvaluationRecord.model_name == "vit").values(recorded=0.0))  # type: ignore[arg-type]
        session.commit()
    assert purge("results", older_than=DAY)["results"] == 1
    assert known(database) == {"bert"}


def test_every_attempt_at_what_is_purged_goes(database: Database) -> None:
    results = ResultStore(database)
    record(results, BERT, Measurement(status="failed", cost_seconds=0.0, reason="no memory", transient=True))
    export_pending()
    record(results, BERT)
    export_pending()
    assert len(runs()) == 2
    purge("results")
    assert runs() == []


def test_a_claim_of_somebody_alive_is_never_purged(database: Database) -> None:
    results = ResultStore(database)
    alive, dead = results.claim(BERT), results.claim(VIT)
    assert alive is not None
    assert dead is not None
    results.release(dead)
    purge("all")
    assert known(database) == {"bert"}
    assert results.record(alive, DONE)
    assert not results.record(dead, DONE)


def test_a_purge_that_was_cut_short_loses_nothing_else_and_is_finished_by_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    results = ResultStore(database)
    record(results, BERT)
    record(results, VIT)
    export_pending()
    with monkeypatch.context() as dying:
        dying.setattr("storage.purging.delete", die)
        with pytest.raises(KeyboardInterrupt):
            purge("results", model="bert")
    assert known(database) == {"bert", "vit"}
    assert len(runs()) == 1
    assert purge("results", model="bert")["results"] == 1
    assert known(database) == {"vit"}
    assert len(runs()) == 1


def test_nothing_is_purged_while_mlflow_is_out_of_reach(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    record(ResultStore(database), BERT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{current_settings().home}/mlflow.db/mlflow.db")
    with pytest.raises(StoreError, match="MLflow is out of reach"):
        purge("all")
    assert known(database) == {"bert"}


def test_checkpoints_go_with_the_results_they_led_to(database: Database) -> None:
    """But those that a training which goes on uses."""
    results, checkpoints = ResultStore(database), CheckpointStore(current_settings())
    tuned = [replace(each, method="finetune") for each in (BERT, VIT)]
    for evaluation in tuned:
        record(results, evaluation)
        with checkpoints.in_use(training_key(evaluation)), checkpoints.save(training_key(evaluation), 1) as directory:
            (directory / "weights").write_bytes(b"w")
    with CheckpointStore(current_settings()).in_use(training_key(tuned[1])):
        purge("results")
    assert [checkpoints.epochs(training_key(evaluation)) for evaluation in tuned] == [0, 1]


def test_purging_features_deletes_them_and_no_result(database: Database) -> None:
    record(ResultStore(database), BERT)
    folders = [embed("b"), embed("v", View("3", "max"))]
    counted = purge("features", dry_run=True)
    assert (counted["segments"], counted["results"]) == (2, 0)
    assert counted["segment_bytes"] == sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    assert purge("features") == counted
    assert [list(folder.iterdir()) for folder in folders] == [[], []]
    assert known(database) == {"bert"}


@pytest.mark.parametrize("view", [View(), View("7", "cls"), View("mean", "max"), View("probabilities")])
def test_features_of_one_model_are_purged_in_every_view(database: Database, view: View) -> None:
    record(ResultStore(database), BERT)
    purged, kept = embed("b", view), embed("v", view)
    assert purge("features", model="bert")["segments"] == 1
    assert list(purged.iterdir()) == []
    assert len(list(kept.iterdir())) == 2


def test_features_that_were_not_used_for_long_are_purged_alone(database: Database) -> None:
    old, new = embed("b"), embed("v")
    for file in old.iterdir():
        os.utime(file, (0, 0))
    assert purge("features", older_than=DAY)["segments"] == 1
    assert list(old.iterdir()) == []
    assert len(list(new.iterdir())) == 2


def test_features_of_a_model_that_is_being_evaluated_are_kept(database: Database) -> None:
    assert ResultStore(database).claim(BERT) is not None
    used, unused = embed("b"), embed("v")
    purged = purge("all")
    assert (purged["segments"], purged["segments_in_use"]) == (1, 1)
    assert len(list(used.iterdir())) == 2
    assert list(unused.iterdir()) == []


def test_searches_go_with_the_features_they_were_made_in(database: Database) -> None:
    record(ResultStore(database), BERT)
    assert ResultStore(database).claim(replace(BERT, model=Subject("busy", "u"))) is not None
    searches = {model: search(model) for model in "bvu"}

    def left() -> str:
        return "".join(model for model, file in searches.items() if file.exists())

    purge("features", dry_run=True)
    purge("results", model="bert")
    assert left() == "bvu"
    record(ResultStore(database), BERT)
    purge("features", model="bert")
    assert left() == "vu"
    purge("features", older_than=DAY)
    assert left() == "vu"
    purge("all")
    assert left() == "u"


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that several machines share."""
    monkeypatch.setenv("SHIFT_STORE_URL", f"file://{tmp_path / 'shared'}")
    return tmp_path / "shared"


@pytest.mark.parametrize("is_here", [True, False])
def test_purged_features_are_deleted_in_the_shared_store_too(database: Database, shared: Path, is_here: bool) -> None:
    record(ResultStore(database), BERT)
    folders = [embed("b"), embed("v")]
    if not is_here:
        for folder in folders:
            shutil.rmtree(folder)
    assert purge("features", model="bert", dry_run=True)["segments"] == 1
    assert purge("features", model="bert")["segments"] == 1
    assert [path.parent.name for path in shared.rglob("*.rows.npy")] == [folders[1].name]
    assert purge("features")["segments"] == 1
    assert list(shared.rglob("*.npy")) == []


def test_the_age_of_features_that_only_others_have_is_not_known(database: Database, shared: Path) -> None:
    shutil.rmtree(embed("b"))
    assert purge("features", older_than=0.001)["segments"] == 0
    assert len(list(shared.rglob("*.npy"))) == 2


def test_a_model_that_nobody_knows_is_an_error_that_names_near_ones(database: Database) -> None:
    record(ResultStore(database), BERT)
    with pytest.raises(StoreError, match="there is no model named 'brt'") as caught:
        purge("all", model="brt")
    assert "did you mean bert?" in str(caught.value)
    assert known(database) == {"bert"}
