"""MLflow as the record of everything measured: one run per evaluation, written from the index's outbox."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from filelock import FileLock
from sqlalchemy import or_, update
from sqlmodel import col, select

from storage.database import Database
from storage.results import EvaluationRecord
from storage.settings import Settings, current_settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

FINGERPRINT_TAG = "shift.fingerprint"
_ATTEMPT_TAG = "shift.attempt"
# MLflow refuses longer tags.
_LONGEST_TAG = 8000
# An export that has not ended by then has died with its process.
_EXPORT_EXPIRES_SECONDS = 60.0


def export_pending() -> int:
    """Write every evaluation without an MLflow run to MLflow; returns how many runs were written.

    Several processes may export at once: each row is taken by one. A row whose exporter died is looked up by
    its fingerprint first, so that it does not get a second run. Raises what MLflow raises when it is out of
    reach; the rows then wait in the outbox for the next call.
    """
    settings = current_settings()
    database = Database(settings)
    client = _open_client(settings)
    written = 0
    while (taken := _take(database)) is not None:
        row, was_taken_before = taken
        run_id = _find_run(client, row) if was_taken_before else None
        run_id = run_id or _create_run(client, row)
        _write_run(client, run_id, row)
        with database.session() as session:
            session.execute(
                update(EvaluationRecord)
                .where(col(EvaluationRecord.fingerprint) == row.fingerprint)
                .where(col(EvaluationRecord.recorded) == row.recorded)
                .values(mlflow_run_id=run_id)
            )
            session.commit()
        written += 1
    return written


def _open_client(settings: Settings) -> MlflowClient:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.tracking_uri)
    # The first use creates or migrates the store, which several processes at once would do to its harm.
    with FileLock(settings.home / "mlflow.lock"):
        client.search_experiments(max_results=1)
    return client


def _take(database: Database) -> tuple[EvaluationRecord, bool] | None:
    table, exporter, now = EvaluationRecord, uuid4().hex, time.time()
    pending = (col(table.status) != "claimed") & col(table.mlflow_run_id).is_(None)
    free = or_(col(table.exporter).is_(None), col(table.export_started) < now - _EXPORT_EXPIRES_SECONDS)
    with database.session() as session:
        while True:
            row = session.exec(select(table).where(pending, free).order_by(col(table.recorded)).limit(1)).first()
            if row is None:
                return None
            was_taken_before = row.exporter is not None
            result = session.execute(
                update(table)
                .where(col(table.fingerprint) == row.fingerprint, pending, free)
                .values(exporter=exporter, export_started=now)
            )
            session.commit()
            if result.rowcount:  # type: ignore[attr-defined]
                return row, was_taken_before


def _create_run(client: MlflowClient, row: EvaluationRecord) -> str:
    run = client.create_run(
        _experiment(client, f"{row.train_name}/{row.method}"),
        run_name=f"{row.method} {row.model_name}",
        start_time=_end(row) - round((row.cost_seconds or 0.0) * 1000),
        tags=_identity(row),
    )
    return run.info.run_id


def _write_run(client: MlflowClient, run_id: str, row: EvaluationRecord) -> None:
    """Write a row to its run; doing so twice is the same as once."""
    from mlflow.entities import Metric, Param, RunTag

    end = _end(row)
    params = {**json.loads(row.params), **json.loads(row.fidelity)}
    metrics = {**json.loads(row.metrics), "cost_seconds": row.cost_seconds or 0.0}
    if row.replicates:
        metrics[f"{row.metric}_standard_error"] = _standard_error(row.replicates)
    steps = [
        Metric(f"validation_{row.metric}", value, end, epoch + 1) for epoch, value in enumerate(json.loads(row.curve))
    ]
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, end, 0) for name, value in metrics.items()] + steps,
        params=[Param(name, str(value)) for name, value in params.items()],
        tags=[RunTag(name, str(value)) for name, value in _tags(row).items() if value is not None],
    )
    client.set_terminated(run_id, "FINISHED" if row.status == "completed" else "FAILED", end_time=end)


def _end(row: EvaluationRecord) -> int:
    """When the evaluation was recorded, in milliseconds."""
    return round((row.recorded or 0.0) * 1000)


def _identity(row: EvaluationRecord) -> dict[str, str]:
    """What tells a row's run from all others; a transient failure and the attempt after it are two runs."""
    return {FINGERPRINT_TAG: row.fingerprint, _ATTEMPT_TAG: str(row.token)}


def _tags(row: EvaluationRecord) -> dict[str, Any]:
    return {
        "shift.model": row.model_name,
        "shift.model_fingerprint": row.model_fingerprint,
        "shift.train": row.train_name,
        "shift.train_fingerprint": row.train_fingerprint,
        "shift.test": row.test_name,
        "shift.test_fingerprint": row.test_fingerprint,
        "shift.method": row.method,
        "shift.version": row.version,
        "shift.params": row.params,
        "shift.fidelity": row.fidelity,
        "shift.metric": row.metric,
        "shift.higher_is_better": row.higher_is_better,
        "shift.n_test": row.n_test,
        "shift.layer": row.layer,
        "shift.per_row_correct": _hex_that_fits(row.per_row_correct),
        "shift.replicates": _hex_that_fits(row.replicates),
        "shift.vector": _hex_that_fits(row.vector),
        "shift.reason": row.reason,
        "shift.transient": row.transient,
    }


def _find_run(client: MlflowClient, row: EvaluationRecord) -> str | None:
    experiment = _experiment(client, f"{row.train_name}/{row.method}")
    is_its_run = " AND ".join(f"tags.`{name}` = '{value}'" for name, value in _identity(row).items())
    runs = client.search_runs([experiment], is_its_run, max_results=1)
    return runs[0].info.run_id if runs else None


def _experiment(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    try:
        return client.create_experiment(name, artifact_location=_artifacts())
    except MlflowException:
        # Another process was quicker.
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id


def _standard_error(replicates: bytes) -> float:
    """The standard deviation of bootstrap replicates (Efron, 1979)."""
    import numpy as np

    return float(np.frombuffer(replicates, "<f4").std(ddof=1, dtype=np.float64))


def _hex_that_fits(packed: bytes | None) -> str | None:
    return packed.hex() if packed and len(packed) * 2 <= _LONGEST_TAG else None


def _artifacts() -> str | None:
    """Where artifacts go: into the home beside its own store; a server decides for itself."""
    settings = current_settings()
    is_own = settings.tracking_uri.startswith("sqlite")
    return (settings.home / "mlartifacts").as_uri() if is_own else None
