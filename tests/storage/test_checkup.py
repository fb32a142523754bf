"""Every way the stores can disagree is found, and gone after it was fixed; what was measured is never lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, update

from storage.checkup import check_stores
from storage.database import Database
from storage.errors import StoreError
from storage.evaluations import Evaluation, Measurement, Subject
from storage.features import FeatureStore
from storage.manifests import Manifest, save_manifest
from storage.results import EvaluationRecord, ResultStore
from storage.settings import current_settings
from storage.tracking import export_pending

MANIFEST = Manifest(np.arange(32, dtype=np.uint8).reshape(2, 16), np.array([0, 1]), ("a", "b"))
BERT = Evaluation(
    Subject("bert", "b"), Subject("train", MANIFEST.fingerprint), Subject("test", "t"), "linear", "1", {"lr": 0.1}
)
VIT = replace(BERT, model=Subject("vit", "v"))
DONE = Measurement(
    status="completed",
    cost_seconds=1.5,
    metric="accuracy",
    value=0.1 + 0.2,
    n_test=4,
    per_row_correct=np.packbits([1, 1, 0, 1]).tobytes(),
    replicates=np.array([0.5, 0.75], "<f4").tobytes(),
    layer="3",
    vector=np.arange(3000, dtype="<f4").tobytes(),
    metrics={"accuracy": 0.1 + 0.2, "macro_f1": 1 / 3},
    curve=(0.5, 0.75),
)
BROKEN = Measurement(status="failed", cost_seconds=0.5, reason="its weights are truncated")
UNLUCKY = Measurement(status="failed", cost_seconds=0.5, reason="out of memory", transient=True)


@pytest.fixture
def results(home: Path, database: Database, tracking_template: Path) -> ResultStore:
    """A store with two evaluations, written to MLflow, and everything they need."""
    (home / "mlflow.db").write_bytes(tracking_template.read_bytes())
    results = ResultStore(database)
    record(results, BERT)
    record(results, VIT, BROKEN)
    export_pending()
    save_manifest(current_settings().manifests, MANIFEST)
    embed()
    return results


def record(results: ResultStore, evaluation: Evaluation, measurement: Measurement = DONE) -> None:
    claim = results.claim(evaluation)
    assert claim is not None
    results.record(claim, measurement)


def embed() -> list[Path]:
    settings = current_settings()
    store = FeatureStore(settings.features)
    store.write(store.key("b"), MANIFEST.row_hashes, np.ones((2, 3), np.float32))
    return sorted((settings.features / store.key("b")).iterdir())


def known(results: ResultStore) -> dict[str, Measurement]:
    return results.outcomes([BERT.fingerprint, VIT.fingerprint])


def client() -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=current_settings().tracking_uri)


def runs() -> Sequence[Any]:
    return client().search_runs([experiment.experiment_id for experiment in client().search_experiments()])


def run_of(evaluation: Evaluation) -> str:
    (run,) = [run for run in runs() if run.data.tags["shift.fingerprint"] == evaluation.fingerprint]
    return run.info.run_id


def change(**columns: object) -> None:
    with Database(current_settings()).session() as session:
        session.execute(update(EvaluationRecord).where(EvaluationRecord.model_name == "bert").values(**columns))  # type: ignore[arg-type]
        session.commit()


def forget(*evaluations: Evaluation) -> None:
    fingerprints = [evaluation.fingerprint for evaluation in evaluations]
    with Database(current_settings()).session() as session:
        session.execute(delete(EvaluationRecord).where(EvaluationRecord.fingerprint.in_(fingerprints)))  # type: ignore[attr-defined]
        session.commit()


def age(*files: Path) -> None:
    for file in files:
        os.utime(file, (0, 0))


def problems(**options: bool) -> dict[str, bool]:
    """Each problem, and whether it is fixed."""
    return {finding["problem"]: finding["fixed"] for finding in check_stores(**options)["findings"]}


def _lose_the_run(_: ResultStore) -> None:
    client().delete_run(run_of(BERT))


def _lose_an_old_run(results: ResultStore) -> None:
    _lose_the_run(results)
    change(export_started=1.0)


def _leave_the_run_unfinished(_: ResultStore) -> None:
    client().update_run(run_of(BERT), status="RUNNING")


def _alter_the_run(_: ResultStore) -> None:
    client().set_tag(run_of(BERT), "shift.value", "0.99")


def _damage_the_run(_: ResultStore) -> None:
    client().set_tag(run_of(BERT), "shift.params", "{")


def _export_nothing(_: ResultStore) -> None:
    client().delete_run(run_of(BERT))
    change(mlflow_run_id=None, exporter=None)


def _lose_the_row(_: ResultStore) -> None:
    forget(BERT)


def _begin_a_second_run(_: ResultStore) -> None:
    run = client().get_run(run_of(BERT))
    client().create_run(run.info.experiment_id, tags=run.data.tags)


def _write_a_second_run(_: ResultStore) -> None:
    run = client().get_run(run_of(BERT))
    second = client().create_run(run.info.experiment_id, tags=run.data.tags)
    client().set_terminated(second.info.run_id)


def _die_while_computing(results: ResultStore) -> None:
    claim = results.claim(replace(BERT, version="2"))
    assert claim is not None
    its_own = EvaluationRecord.fingerprint == claim.evaluation.fingerprint
    Database(current_settings()).change(update(EvaluationRecord).where(its_own).values(heartbeat=1.0))


def _alter_features(_: ResultStore) -> None:
    vectors, _rows = embed()
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"\x01")


def _truncate_features(_: ResultStore) -> None:
    _, rows = embed()
    rows.write_bytes(rows.read_bytes()[:20])


def _lose_row_hashes(_: ResultStore) -> None:
    vectors, rows = embed()
    rows.unlink()
    age(vectors)


def _lose_vectors(_: ResultStore) -> None:
    vectors, rows = embed()
    vectors.unlink()
    age(rows)


def _die_while_writing_features(_: ResultStore) -> None:
    vectors, _rows = embed()
    left = vectors.with_name(f".{vectors.name}.0123.tmp")
    left.write_bytes(b"half")
    age(left)


def _die_while_writing_a_manifest(_: ResultStore) -> None:
    left = current_settings().manifests / ".0123.tmp"
    left.write_bytes(b"half")
    age(left)


def _damage_a_manifest(_: ResultStore) -> None:
    file = current_settings().manifests / f"{MANIFEST.fingerprint}.npz"
    file.write_bytes(file.read_bytes()[:100])


def _swap_a_manifest(_: ResultStore) -> None:
    file = current_settings().manifests / f"{MANIFEST.fingerprint}.npz"
    file.rename(file.with_stem("0" * 32))


def _leave_a_manifest(_: ResultStore) -> None:
    other = MANIFEST.take(np.array([1]))
    save_manifest(current_settings().manifests, other)
    age(current_settings().manifests / f"{other.fingerprint}.npz")


BADLY_WRITTEN = "results whose MLflow runs are gone, damaged or say otherwise"
HARM: list[tuple[Callable[[ResultStore], None], str]] = [
    (_lose_the_run, BADLY_WRITTEN),
    (_lose_an_old_run, BADLY_WRITTEN),
    (_leave_the_run_unfinished, BADLY_WRITTEN),
    (_alter_the_run, BADLY_WRITTEN),
    (_damage_the_run, BADLY_WRITTEN),
    (_export_nothing, "results that are not written to MLflow yet"),
    (_lose_the_row, "MLflow runs without a row in the index"),
    (_begin_a_second_run, "second MLflow runs of one result"),
    (_write_a_second_run, "second MLflow runs of one result"),
    (_die_while_computing, "claimed by somebody who gives no sign of life"),
    (_alter_features, "segments of features whose checksum is wrong"),
    (_truncate_features, "segments of features whose checksum is wrong"),
    (_lose_row_hashes, "segments of features of which a file is missing"),
    (_lose_vectors, "segments of features of which a file is missing"),
    (_die_while_writing_features, "temporary files of processes that were killed"),
    (_die_while_writing_a_manifest, "temporary files of processes that were killed"),
    (_damage_a_manifest, "damaged manifests"),
    (_swap_a_manifest, "damaged manifests"),
    (_leave_a_manifest, "manifests that no dataset and no evaluation refers to"),
]


def test_of_stores_that_agree_nothing_is_said(results: ResultStore) -> None:
    assert check_stores(fix=True) == {"restored": 0, "findings": []}


@pytest.mark.parametrize(("harm", "problem"), HARM, ids=[harm.__name__.strip("_") for harm, _ in HARM])
def test_what_is_wrong_is_found_and_gone_after_it_was_fixed(
    results: ResultStore, harm: Callable[[ResultStore], None], problem: str
) -> None:
    before = known(results)
    harm(results)
    assert problems() == {problem: False}
    assert problems() == {problem: False}
    assert problems(fix=True) == {problem: True}
    assert problems() == {}
    assert known(results) == before
    assert len(runs()) == 2


def test_what_is_about_to_be_written_is_left_alone(results: ResultStore) -> None:
    vectors, rows = embed()
    rows.unlink()
    vectors.with_name(f".{rows.name}.0123.tmp").write_bytes(b"half")
    save_manifest(current_settings().manifests, MANIFEST.take(np.array([1])))
    assert results.claim(replace(BERT, version="2")) is not None
    assert problems() == {}


def test_a_run_that_is_written_while_others_are_read_is_not_missed(
    results: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.result_checks.recorded_runs", lambda _: [])
    assert problems() == {}


def test_a_run_that_is_being_written_is_left_alone(results: ResultStore) -> None:
    import time

    _leave_the_run_unfinished(results)
    change(mlflow_run_id=None, exporter="somebody", export_started=time.time())
    assert problems() == {}


def test_a_damaged_run_without_a_row_is_deleted(results: ResultStore) -> None:
    _damage_the_run(results)
    forget(BERT)
    assert problems(fix=True) == {"damaged MLflow runs without a row in the index": True}
    assert len(runs()) == 1


def test_an_earlier_attempt_keeps_its_run(results: ResultStore) -> None:
    other = replace(BERT, version="2")
    record(results, other, UNLUCKY)
    export_pending()
    record(results, other)
    export_pending()
    assert problems() == {}
    assert len(runs()) == 4


def test_an_mlflow_out_of_reach_is_a_finding(results: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    _die_while_writing_a_manifest(results)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{current_settings().home}/mlflow.db/mlflow.db")
    found = problems(fix=True)
    assert found.pop("temporary files of processes that were killed")
    ((problem, is_fixed),) = found.items()
    assert problem.startswith("MLflow is out of reach: ")
    assert not is_fixed


def test_nothing_is_rebuilt_from_an_mlflow_out_of_reach(results: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{current_settings().home}/mlflow.db/mlflow.db")
    with pytest.raises(StoreError, match="MLflow is out of reach"):
        check_stores(rebuild=True)


def test_the_index_is_rebuilt_from_mlflow_alone(results: ResultStore) -> None:
    other = replace(BERT, version="2")
    record(results, other, UNLUCKY)
    export_pending()
    record(results, other)
    export_pending()
    everything = [evaluation.fingerprint for evaluation in (BERT, VIT, other)]
    before = results.outcomes(everything)
    forget(BERT, VIT, other)
    assert check_stores(rebuild=True) == {"restored": 3, "findings": []}
    assert (
        results.outcomes(everything)
        == before
        == {
            BERT.fingerprint: DONE,
            VIT.fingerprint: BROKEN,
            other.fingerprint: DONE,
        }
    )
    assert results.claim(BERT) is None
    assert export_pending() == 0
    assert check_stores(rebuild=True) == {"restored": 0, "findings": []}


def test_rebuilding_replaces_nothing_that_is_there(results: ResultStore) -> None:
    change(layer="another")
    forget(VIT)
    assert check_stores(rebuild=True)["restored"] == 1
    assert known(results)[BERT.fingerprint].layer == "another"


def test_what_was_given_back_uncomputed_is_nothing_wrong(results: ResultStore) -> None:
    claim = results.claim(replace(BERT, version="2"))
    assert claim is not None
    results.release(claim)
    assert check_stores()["findings"] == []


def test_rebuilding_takes_the_place_of_dead_claims_and_of_no_others(results: ResultStore) -> None:
    forget(BERT, VIT)
    dead, alive = results.claim(BERT), results.claim(VIT)
    assert dead is not None
    assert alive is not None
    results.release(dead)
    assert check_stores(rebuild=True)["restored"] == 1
    assert known(results) == {BERT.fingerprint: DONE}
    assert results.record(alive, BROKEN)


def test_rebuilding_says_which_runs_could_not_be_restored(results: ResultStore) -> None:
    _damage_the_run(results)
    forget(BERT, VIT)
    found = check_stores(rebuild=True)
    assert found["restored"] == 1
    (finding,) = found["findings"]
    assert finding["problem"] == "damaged MLflow runs without a row in the index"
    assert "its tags cannot be read" in finding["subjects"][0]
