from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, update

from storage.checkpoints import CheckpointStore, training_key
from storage.database import Database
from storage.evaluations import Evaluation, Measurement, Subject
from storage.results import EvaluationRecord, ResultStore
from storage.run_tags import FINGERPRINT_TAG
from storage.settings import current_settings
from storage.tracking import export_pending

EVALUATION = Evaluation(
    Subject("bert", "m"),
    Subject("reviews-train", "d"),
    Subject("reviews-test", "t"),
    "linear",
    "1",
    {"lr": 0.1, "k": 3},
)
DONE = Measurement(
    status="completed",
    cost_seconds=12.5,
    metric="accuracy",
    value=0.75,
    n_test=4,
    per_row_correct=np.packbits([1, 1, 0, 1]).tobytes(),
    replicates=np.array([0.5, 1.0, 0.75], "<f4").tobytes(),
    layer="last",
    vector=np.array([0.25, 1.0], "<f4").tobytes(),
    metrics={"accuracy": 0.75, "macro_f1": 0.5},
    curve=(0.25, 0.5),
)
BROKEN = Measurement(status="failed", cost_seconds=0.5, reason="its weights are truncated")


@pytest.fixture(autouse=True)
def migrated(home: Path, database_url: str, tracking_template: Path) -> None:
    """MLflow takes seconds to make its schema, so every test starts from a copy of one."""
    home.mkdir(exist_ok=True)
    (home / "mlflow.db").write_bytes(tracking_template.read_bytes())


def _record(evaluation: Evaluation = EVALUATION, measurement: Measurement = DONE) -> None:
    results = ResultStore(Database(current_settings()))
    claim = results.claim(evaluation)
    assert claim is not None
    results.record(claim, measurement)


def _runs() -> Sequence[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=current_settings().tracking_uri)
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def _forget_export(**columns: object) -> None:
    """As if the exporter had died before it wrote down the run's id."""
    with Database(current_settings()).session() as session:
        session.execute(update(EvaluationRecord).values(mlflow_run_id=None, **columns))
        session.commit()


def test_a_run_holds_the_whole_evaluation() -> None:
    from mlflow import MlflowClient

    _record()
    assert export_pending() == 1
    (run,) = _runs()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "linear bert"
    assert run.info.end_time - run.info.start_time == 12_500
    assert run.data.params == {"lr": "0.1", "k": "3"}
    assert run.data.metrics == {
        "accuracy": 0.75,
        "macro_f1": 0.5,
        "cost_seconds": 12.5,
        "accuracy_standard_error": 0.25,
        "validation_accuracy": 0.5,
    }
    assert (
        run.data.tags.items()
        >= {
            FINGERPRINT_TAG: EVALUATION.fingerprint,
            "shift.model": "bert",
            "shift.model_fingerprint": "m",
            "shift.train_fingerprint": "d",
            "shift.test_fingerprint": "t",
            "shift.method": "linear",
            "shift.version": "1",
            "shift.n_test": "4",
            "shift.per_row_correct": "d0",
            "shift.replicates": "0000003f0000803f0000403f",
            "shift.vector": "0000803e0000803f",
        }.items()
    )
    client = MlflowClient(tracking_uri=current_settings().tracking_uri)
    assert client.get_experiment(run.info.experiment_id).name == "reviews-train/linear"
    curve = client.get_metric_history(run.info.run_id, "validation_accuracy")
    assert [(point.step, point.value) for point in curve] == [(1, 0.25), (2, 0.5)]


def test_every_evaluation_has_one_run() -> None:
    for number in range(3):
        _record(replace(EVALUATION, params={"lr": float(number)}))
    assert export_pending() == 3
    assert sorted(run.data.params["lr"] for run in _runs()) == ["0.0", "1.0", "2.0"]


def test_a_second_export_writes_nothing() -> None:
    _record()
    export_pending()
    assert export_pending() == 0
    assert len(_runs()) == 1


def test_what_is_only_claimed_is_not_exported() -> None:
    assert ResultStore(Database(current_settings())).claim(EVALUATION) is not None
    assert export_pending() == 0


def test_a_failure_is_a_failed_run_with_its_reason() -> None:
    _record(measurement=BROKEN)
    export_pending()
    (run,) = _runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["shift.reason"] == "its weights are truncated"


def test_a_retried_failure_has_a_run_for_each_try() -> None:
    _record(measurement=replace(BROKEN, transient=True))
    export_pending()
    _record()
    export_pending()
    assert sorted(run.info.status for run in _runs()) == ["FAILED", "FINISHED"]


def test_a_row_whose_exporter_died_gets_no_second_run() -> None:
    _record()
    export_pending()
    before = [run.to_dictionary() for run in _runs()]
    _forget_export(export_started=0.0)
    assert export_pending() == 1
    assert [run.to_dictionary() for run in _runs()] == before
    assert export_pending() == 0


def test_a_run_left_half_written_is_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    _record()
    with monkeypatch.context() as dying:
        dying.setattr(MlflowClient, "log_batch", die)
        with pytest.raises(KeyboardInterrupt):
            export_pending()
    _forget_export(export_started=0.0)
    assert export_pending() == 1
    (run,) = _runs()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["accuracy"] == 0.75


def test_a_store_whose_making_was_cut_short_is_made_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying:
        def __init__(self, tracking_uri: str) -> None:
            self._path = Path(tracking_uri.removeprefix("sqlite:///"))

        def search_experiments(self, **_: object) -> None:
            self._path.write_bytes(b"half of a schema")
            raise KeyboardInterrupt

    _record()
    made = (home / "mlflow.db").read_bytes()
    (home / "mlflow.db").unlink()
    with monkeypatch.context() as dying:
        dying.setattr("mlflow.MlflowClient", Dying)
        with pytest.raises(KeyboardInterrupt):
            export_pending()
    assert not (home / "mlflow.db").exists()
    (home / "mlflow.db").write_bytes(made)
    assert export_pending() == 1


def test_a_row_of_a_second_try_does_not_take_the_run_of_the_first() -> None:
    _record(measurement=replace(BROKEN, transient=True))
    export_pending()
    _record()
    export_pending()
    _forget_export(export_started=0.0)
    export_pending()
    assert sorted(run.info.status for run in _runs()) == ["FAILED", "FINISHED"]


def test_a_row_that_another_exporter_is_writing_is_left_to_it() -> None:
    _record()
    export_pending()
    _forget_export()
    assert export_pending() == 0


def test_more_rows_are_exported_than_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.tracking._ROWS_AT_ONCE", 2)
    for number in range(5):
        _record(replace(EVALUATION, params={"lr": float(number)}))
    assert export_pending() == 5
    assert len(_runs()) == 5


def test_a_row_that_mlflow_refuses_holds_up_no_other_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    written = MlflowClient.log_batch
    refused = ["1.0"]

    def refuse(client: Any, run_id: str, metrics: Any, params: Any) -> None:
        if params[0].value in refused:
            raise ValueError("refused")
        written(client, run_id, metrics=metrics, params=params)

    def finished() -> list[str]:
        return sorted(run.data.params["lr"] for run in _runs() if run.info.status == "FINISHED")

    monkeypatch.setattr(MlflowClient, "log_batch", refuse)
    for number in range(3):
        _record(replace(EVALUATION, params={"lr": float(number)}))
    for _ in range(3):
        with pytest.raises(ValueError, match="refused"):
            export_pending()
    assert finished() == ["0.0", "2.0"]
    refused.clear()
    assert export_pending() == 1
    assert finished() == ["0.0", "1.0", "2.0"]
    assert len(_runs()) == 3


def test_a_row_that_is_purged_while_it_is_exported_leaves_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    terminated = MlflowClient.set_terminated

    def purge_first(client: Any, *arguments: Any, **keywords: Any) -> None:
        with Database(current_settings()).session() as session:
            session.execute(delete(EvaluationRecord))
            session.commit()
        terminated(client, *arguments, **keywords)

    monkeypatch.setattr(MlflowClient, "set_terminated", purge_first)
    _record()
    export_pending()
    assert _runs() == []


def test_rows_wait_while_mlflow_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    _record()
    with monkeypatch.context() as unreachable:
        unreachable.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{current_settings().home}/mlflow.db/mlflow.db")
        with pytest.raises(Exception, match="File exists"):
            export_pending()
    assert export_pending() == 1


FINE_TUNE = replace(EVALUATION, method="finetune", params={"epochs": 3})


def _note(*values: float) -> None:
    """That so many epochs are behind the training of FINE_TUNE."""
    epochs = range(1, len(values) + 1)
    note = {
        "metric": "validation_accuracy",
        "curve": values,
        "figures": [{"train_loss": 1 / epoch, "rows_per_second": 100.0} for epoch in epochs],
        "ended": [1e9 + epoch for epoch in epochs],
    }
    CheckpointStore(current_settings()).note(training_key(FINE_TUNE), note)


def _points(name: str) -> list[tuple[int, float, int]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=current_settings().tracking_uri)
    (run,) = _runs()
    return [(point.step, point.value, point.timestamp) for point in client.get_metric_history(run.info.run_id, name)]


def test_a_training_is_followed_epoch_by_epoch_and_ends_in_the_same_run() -> None:
    results = ResultStore(Database(current_settings()))
    claim = results.claim(FINE_TUNE)
    assert claim is not None
    export_pending()
    assert _runs() == []
    _note(0.25)
    export_pending()
    (live,) = _runs()
    assert live.info.status == "RUNNING"
    assert _points("validation_accuracy") == [(1, 0.25, 1_000_000_001_000)]
    _note(0.25, 0.5)
    export_pending()
    export_pending()
    assert [(step, value) for step, value, _ in _points("train_loss")] == [(1, 1.0), (2, 0.5)]
    _note(0.25, 0.5, 0.375)
    results.record(claim, replace(DONE, curve=(0.25, 0.5, 0.375), metrics={"accuracy": 0.75, "train_loss": 1 / 3}))
    assert export_pending() == 1
    (run,) = _runs()
    assert (run.info.run_id, run.info.status) == (live.info.run_id, "FINISHED")
    assert [(step, value) for step, value, _ in _points("validation_accuracy")] == [(1, 0.25), (2, 0.5), (3, 0.375)]
    assert [(step, value) for step, value, _ in _points("train_loss")] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert run.data.metrics["accuracy"] == 0.75
    assert run.data.tags["shift.value"] == "0.75"


def test_the_final_figures_are_there_though_nothing_was_noted() -> None:
    _record(FINE_TUNE, replace(DONE, metrics={"accuracy": 0.75, "train_loss": 0.25}))
    export_pending()
    (run,) = _runs()
    assert run.data.metrics["train_loss"] == 0.25
    assert [(step, value) for step, value, _ in _points("validation_accuracy")] == [(1, 0.25), (2, 0.5)]


def test_a_rung_has_the_epochs_up_to_its_own() -> None:
    _note(0.25, 0.5, 0.375)
    rung = replace(FINE_TUNE, fidelity={"epochs": 2})
    _record(rung, replace(DONE, metric="validation_accuracy", value=0.5, metrics={}, curve=(0.25, 0.5)))
    export_pending()
    assert [(step, value) for step, value, _ in _points("validation_accuracy")] == [(1, 0.25), (2, 0.5)]


def test_the_run_of_a_training_that_died_goes_on_no_more() -> None:
    results = ResultStore(Database(current_settings()), claim_expires_seconds=0)
    assert results.claim(FINE_TUNE)
    _note(0.25)
    export_pending()
    claim = results.claim(FINE_TUNE)
    assert claim is not None
    assert claim.token == 2
    export_pending()
    assert sorted(run.info.status for run in _runs()) == ["KILLED", "RUNNING"]
