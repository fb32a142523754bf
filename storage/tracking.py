"""MLflow as the record of everything measured: one run per evaluation, written from the index's outbox."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING
from uuid import uuid4

from filelock import FileLock
from sqlalchemy import or_, update
from sqlmodel import col, select

from storage.database import Database
from storage.errors import StoreError
from storage.in_place import put_in_place
from storage.live_runs import METHOD, Epochs, noted_epochs, write_metrics
from storage.results import EvaluationRecord
from storage.run_tags import FINGERPRINT_TAG, identity_of, tags_of
from storage.settings import Settings, current_settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

# An export that has not ended by then has died with its process.
EXPORT_EXPIRES_SECONDS = 60.0
# How many epochs of trainings that go on this process has written, by the owner of the claim.
_live: dict[str, int] = {}
_ROWS_AT_ONCE = 32
_SQLITE = "sqlite:///"


def export_pending() -> int:
    """Write every evaluation without an MLflow run to MLflow; returns how many runs were written.

    Trainings that go on in this home have a run already, to which the epochs are written that are behind them.
    Several processes may export at once: each row is taken by one. A row whose exporter died is looked up by
    its fingerprint first, so that it does not get a second run. Raises what MLflow raises when it is out of
    reach; the rows then wait in the outbox for the next call.
    """
    settings = current_settings()
    database = Database(settings)
    client = _open_client(settings)
    experiments: dict[str, str] = {}
    written = 0
    _export_live(client, database, experiments)
    while taken := _take(database):
        runs: dict[str, EvaluationRecord] = {}
        try:
            for row, was_taken_before in taken:
                with _one_makes_runs_of(row):
                    run_id = _run_for(client, experiments, row, may_exist=was_taken_before or row.method == METHOD)
                _write_run(client, run_id, row, noted_epochs(settings, row))
                runs[run_id] = row
        finally:
            overtaken = _note_runs(database, runs)
            if unwritten := [row for row, _ in taken[len(runs) :]]:
                _give_back(database, unwritten[0], unwritten[1:])
        _delete_runs_of_purged(client, database, overtaken)
        written += len(runs)
    return written


def _export_live(client: MlflowClient, database: Database, experiments: dict[str, str]) -> None:
    """Write the epochs that trainings which go on have behind them and that this process has not written yet."""
    settings, table = current_settings(), EvaluationRecord
    going_on = select(table).where(table.method == METHOD, table.status == "claimed")
    with database.session() as session:
        rows = list(session.exec(going_on))
    for row in rows:
        epochs, written = noted_epochs(settings, row), _live.get(row.owner, 0)
        if epochs is None or len(epochs.curve) <= written:
            continue
        with _one_makes_runs_of(row), database.session() as session:
            # It may have been recorded, and have its run, meanwhile.
            if not session.exec(going_on.where(table.fingerprint == row.fingerprint, table.token == row.token)).first():
                continue
            run_id = _run_for(client, experiments, row, may_exist=True)
        write_metrics(client, run_id, epochs.metrics(after=written))
        _live[row.owner] = len(epochs.curve)


def _one_makes_runs_of(row: EvaluationRecord) -> AbstractContextManager[object]:
    """Of a training, that goes on or just ended, two exporters of this home do not make two runs."""
    return FileLock(current_settings().home / "mlflow-live.lock") if row.method == METHOD else nullcontext()


def _run_for(client: MlflowClient, experiments: dict[str, str], row: EvaluationRecord, may_exist: bool) -> str:
    """The run of a row, made where there is none; of its earlier attempts none goes on any more."""
    name = _experiment_name(row)
    if name not in experiments:
        experiments[name] = _experiment(client, name)
    if may_exist and (found := _find_run(client, experiments[name], row)) is not None:
        return found
    if row.method == METHOD and row.token > 1:
        for run_id in _runs_of(client, row):
            if client.get_run(run_id).info.status == "RUNNING":
                client.set_terminated(run_id, "KILLED")
    return _create_run(client, experiments[name], row)


def _give_back(database: Database, failed: EvaluationRecord, untouched: Iterable[EvaluationRecord]) -> None:
    """Leave rows to the next export: the one that failed, whose run is looked for then, and others as they were."""
    table = EvaluationRecord
    change = update(table).where(col(table.mlflow_run_id).is_(None))
    with database.session() as session:
        session.execute(change.where(col(table.fingerprint) == failed.fingerprint).values(export_started=0.0))
        for row in untouched:
            as_before = {"exporter": row.exporter, "export_started": row.export_started}
            session.execute(change.where(col(table.fingerprint) == row.fingerprint).values(as_before))
        session.commit()


def _note_runs(database: Database, runs: Mapping[str, EvaluationRecord]) -> Mapping[str, str]:
    """Write down the runs of rows; those, with the row's fingerprint, whose row is another meanwhile, or gone."""
    overtaken = {}
    with database.session() as session:
        for run_id, row in runs.items():
            result = session.execute(
                update(EvaluationRecord)
                .where(col(EvaluationRecord.fingerprint) == row.fingerprint)
                .where(col(EvaluationRecord.recorded) == row.recorded)
                .values(mlflow_run_id=run_id)
            )
            if not result.rowcount:  # type: ignore[attr-defined]
                overtaken[run_id] = row.fingerprint
        session.commit()
    return overtaken


def _delete_runs_of_purged(client: MlflowClient, database: Database, runs: Mapping[str, str]) -> None:
    """Delete the runs whose rows were purged while they were written."""
    if runs:
        with database.session() as session:
            fingerprint = col(EvaluationRecord.fingerprint)
            there = set(session.exec(select(fingerprint).where(fingerprint.in_(runs.values()))))
        for run_id in (run_id for run_id, purged in runs.items() if purged not in there):
            client.delete_run(run_id)


def delete_runs(client: MlflowClient, rows: Iterable[EvaluationRecord]) -> None:
    """Delete the runs of evaluations, also of earlier attempts. MLflow keeps what is deleted until `mlflow gc`."""
    from mlflow.exceptions import MlflowException

    for row in rows:
        runs = {row.mlflow_run_id} - {None}
        if row.token > 1 or (row.exporter is not None and not runs):
            runs |= set(_runs_of(client, row))
        for run_id in runs:
            try:
                client.delete_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise


def _runs_of(client: MlflowClient, row: EvaluationRecord) -> list[str]:
    """All runs of an evaluation that are not deleted."""
    experiment = client.get_experiment_by_name(_experiment_name(row))
    if experiment is None:
        return []
    is_of_it = f"tags.`{FINGERPRINT_TAG}` = '{row.fingerprint}'"
    return [run.info.run_id for run in client.search_runs([experiment.experiment_id], is_of_it)]


def _experiment_name(row: EvaluationRecord) -> str:
    return f"{row.train_name}/{row.method}"


def _open_client(settings: Settings) -> MlflowClient:
    """MLflow's client, and its store made or migrated. Raises what MLflow raises when it is out of reach."""
    from mlflow import MlflowClient

    # The first use creates or migrates the store, which several processes at once would do to its harm.
    with FileLock(settings.home / "mlflow.lock"):
        own = settings.home / "mlflow.db"
        if settings.tracking_uri == f"sqlite:///{own}" and not own.exists():
            # MLflow makes its schema step by step, and never opens one again whose making was cut short.
            with put_in_place(own) as unfinished:
                MlflowClient(tracking_uri=f"sqlite:///{unfinished}").search_experiments(max_results=1)
        client = MlflowClient(tracking_uri=settings.tracking_uri)
        client.search_experiments(max_results=1)
        if settings.tracking_uri.startswith(_SQLITE):
            # Kept in the file. MLflow leaves SQLite's default, which takes twice as long to commit.
            with closing(sqlite3.connect(settings.tracking_uri.removeprefix(_SQLITE))) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
    return client


def _take(database: Database) -> list[tuple[EvaluationRecord, bool]]:
    """Some rows of the outbox, now this caller's, and whether another took them before and died."""
    table, exporter, now = EvaluationRecord, uuid4().hex, time.time()
    pending = (col(table.status) != "claimed") & col(table.mlflow_run_id).is_(None)
    free = or_(col(table.exporter).is_(None), col(table.export_started) < now - EXPORT_EXPIRES_SECONDS)
    with database.session() as session:
        while True:
            # A row that MLflow refuses does not hold up those that were never tried.
            never_tried_first = (col(table.exporter).is_not(None), col(table.export_started).desc())
            rows = session.exec(
                select(table).where(pending, free).order_by(*never_tried_first).limit(_ROWS_AT_ONCE)
            ).all()
            found = [(row, row.exporter is not None) for row in rows]
            if not rows:
                return []
            among_them = col(table.fingerprint).in_([row.fingerprint for row in rows])
            session.execute(
                update(table).where(among_them, pending, free).values(exporter=exporter, export_started=now),
                execution_options={"synchronize_session": False},
            )
            session.commit()
            taken = set(session.exec(select(table.fingerprint).where(among_them, table.exporter == exporter)))
            if taken:
                return [(row, was_taken_before) for row, was_taken_before in found if row.fingerprint in taken]


def _create_run(client: MlflowClient, experiment: str, row: EvaluationRecord) -> str:
    run = client.create_run(
        experiment,
        run_name=f"{row.method} {row.model_name}",
        start_time=round(time.time() * 1000) if row.recorded is None else _start(row),
        # With the run they cost next to nothing, written to it afterwards 0.3 ms each.
        tags=tags_of(row),
    )
    return run.info.run_id


def _write_run(client: MlflowClient, run_id: str, row: EvaluationRecord, epochs: Epochs | None) -> None:
    """Write the figures of a row, and of its epochs, to its run and end it; doing so twice is the same as once."""
    from mlflow.entities import Metric, Param, RunTag

    end = _end(row)
    params = {**json.loads(row.params), **json.loads(row.fidelity)}
    metrics = {**json.loads(row.metrics), "cost_seconds": row.cost_seconds or 0.0}
    if row.replicates:
        metrics[f"{row.metric}_standard_error"] = _standard_error(row.replicates)
    curve: list[float] = json.loads(row.curve)
    if epochs is not None and len(epochs.curve) == len(curve):
        steps = epochs.metrics()
    else:
        name = f"validation_{str(row.metric).removeprefix('validation_')}"
        steps = [Metric(name, value, end, epoch + 1) for epoch, value in enumerate(curve)]
    # What has a curve ends with its last epoch.
    has_curve = {step.key for step in steps} - {f"validation_{row.metric}", row.metric}
    write_metrics(
        client,
        run_id,
        [Metric(name, value, end, 0) for name, value in metrics.items() if name not in has_curve] + steps,
        params=[Param(name, str(value)) for name, value in params.items()],
        # A run that was made while it went on lacks most.
        **({"tags": [RunTag(name, value) for name, value in tags_of(row).items()]} if row.method == METHOD else {}),
    )
    client.set_terminated(run_id, "FINISHED" if row.status == "completed" else "FAILED", end_time=end)


def _start(row: EvaluationRecord) -> int:
    """When it was begun to compute what it cost, in milliseconds."""
    return _end(row) - round((row.cost_seconds or 0.0) * 1000)


def _end(row: EvaluationRecord) -> int:
    """When the evaluation was recorded, in milliseconds."""
    return round((row.recorded or 0.0) * 1000)


def _find_run(client: MlflowClient, experiment: str, row: EvaluationRecord) -> str | None:
    is_its_run = " AND ".join(f"tags.`{name}` = '{value}'" for name, value in identity_of(row).items())
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


def _artifacts() -> str | None:
    """Where artifacts go: into the home beside its own store; a server decides for itself."""
    settings = current_settings()
    is_own = settings.tracking_uri.startswith("sqlite")
    return (settings.home / "mlartifacts").as_uri() if is_own else None


def reach_mlflow(settings: Settings) -> MlflowClient:
    """MLflow's client, for what cannot wait until it is back. Raises StoreError when it is out of reach."""
    try:
        return _open_client(settings)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise StoreError(
            f"MLflow is out of reach: {reason}", fix="start it, or correct MLFLOW_TRACKING_URI; nothing was changed"
        ) from error
