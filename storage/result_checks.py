"""The index of results and MLflow held against each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, update
from sqlalchemy import select as sa_select
from sqlmodel import col

from storage.database import Database
from storage.findings import Finding, finding
from storage.restoring import RecordedRun, recorded_runs, restore
from storage.results import EvaluationRecord
from storage.settings import Settings
from storage.tracking import EXPORT_EXPIRES_SECONDS, export_pending, reach_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient

_AGAIN = "written to MLflow again"
_DELETED = "deleted in MLflow, which keeps what is deleted until 'mlflow gc'"
_RESTORED = "restored to the index"


class _Row(NamedTuple):
    """What the checks need of a row of the index."""

    fingerprint: str
    status: str
    token: int
    heartbeat: float
    value: float | None
    mlflow_run_id: str | None
    exporter: str | None
    export_started: float | None
    method: str
    model_name: str
    train_name: str

    def __str__(self) -> str:
        return f"{self.method} {self.model_name} on {self.train_name} ({self.fingerprint})"


def check_results(client: MlflowClient, settings: Settings, database: Database) -> Iterator[Finding]:
    """What the index and MLflow do not agree on."""
    # Whatever run there is, its row was there before.
    started = time.time()
    runs = list(recorded_runs(client))
    rows = {row.fingerprint: row for row in _rows(database)}
    yield from _dead_claims(rows.values(), settings, database)
    yield from _unwritten(rows.values())
    yield from _badly_written(rows.values(), runs, started - EXPORT_EXPIRES_SECONDS, client, database)
    yield from _without_row(rows, runs, client, database, settings)
    yield from _superfluous(rows, runs, client)


def rebuild_index(settings: Settings, database: Database) -> int:
    """Restore every evaluation of which MLflow has a whole run and the index no row; returns how many.

    Raises StoreError when MLflow is out of reach.
    """
    client = reach_mlflow(settings)
    alive = time.time() - settings.claim_seconds
    known = {row.fingerprint for row in _rows(database) if row.status != "claimed" or row.heartbeat >= alive}
    lost = _lost(known, recorded_runs(client))
    restore(client, database, {run.run_id for run in lost}, settings.claim_seconds)
    return len(lost)


def _rows(database: Database) -> list[_Row]:
    table = EvaluationRecord.__table__  # type: ignore[attr-defined]
    with database.session() as session:
        found = session.connection().execute(sa_select(*(table.c[name] for name in _Row._fields)))
        return [_Row(*row) for row in found]


def _dead_claims(rows: Iterable[_Row], settings: Settings, database: Database) -> tuple[Finding, ...]:
    expired = time.time() - settings.claim_seconds
    table = EvaluationRecord
    # What was given back, as when an interrupt ended a query, has none.
    is_dead = (col(table.status) == "claimed") & (col(table.heartbeat) > 0) & (col(table.heartbeat) < expired)

    def forget() -> None:
        with database.session() as session:
            session.execute(delete(table).where(is_dead))
            session.commit()

    dead = [str(row) for row in rows if row.status == "claimed" and 0 < row.heartbeat < expired]
    return finding("claimed by somebody who gives no sign of life", dead, "the claims are forgotten", forget)


def _unwritten(rows: Iterable[_Row]) -> tuple[Finding, ...]:
    expired = time.time() - EXPORT_EXPIRES_SECONDS
    waiting = [
        str(row)
        for row in rows
        if row.status != "claimed"
        and row.mlflow_run_id is None
        and (row.exporter is None or (row.export_started or 0.0) < expired)
    ]
    return finding("results that are not written to MLflow yet", waiting, "written to MLflow", export_pending)


def _badly_written(
    rows: Iterable[_Row], runs: Sequence[RecordedRun], since: float, client: MlflowClient, database: Database
) -> tuple[Finding, ...]:
    """`since` is when a run may have been begun that was not there yet when `runs` were read."""
    by_id = {run.run_id: run for run in runs}

    def is_well_written(row: _Row) -> bool:
        if row.mlflow_run_id is None:
            return True
        run = by_id.get(row.mlflow_run_id)
        if run is None:
            return (row.export_started or 0.0) >= since and _is_active(client, row.mlflow_run_id)
        return run.damage is None and repr(run.value) == repr(row.value) and run.fingerprint == row.fingerprint

    bad = [row for row in rows if row.status != "claimed" and not is_well_written(row)]

    def write_again() -> None:
        table = EvaluationRecord
        for row in bad:
            if row.mlflow_run_id in by_id:
                client.delete_run(row.mlflow_run_id)
            with database.session() as session:
                session.execute(
                    update(table)
                    .where(col(table.fingerprint) == row.fingerprint)
                    .where(col(table.mlflow_run_id) == row.mlflow_run_id)
                    .values(mlflow_run_id=None, exporter=None)
                )
                session.commit()
        export_pending()

    return finding("results whose MLflow runs are gone, damaged or say otherwise", map(str, bad), _AGAIN, write_again)


def _is_active(client: MlflowClient, run_id: str) -> bool:
    """Whether a run was written while the others were read."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def _without_row(
    rows: Mapping[str, _Row],
    runs: Sequence[RecordedRun],
    client: MlflowClient,
    database: Database,
    settings: Settings,
) -> Iterator[Finding]:
    lost = _lost(rows, runs)
    damaged = [run for run in runs if run.fingerprint not in rows and run.damage]

    def bring_back() -> None:
        restore(client, database, {run.run_id for run in lost}, settings.claim_seconds)

    yield from finding("MLflow runs without a row in the index", map(str, lost), _RESTORED, bring_back)
    yield from finding(
        "damaged MLflow runs without a row in the index", map(str, damaged), _DELETED, _deleting(client, damaged)
    )


def _lost(known: Container[str], runs: Iterable[RecordedRun]) -> list[RecordedRun]:
    """The last whole run of every evaluation that the index does not know."""
    last: dict[str, RecordedRun] = {}
    for run in runs:
        if run.damage is None and run.fingerprint not in known:
            other = last.get(run.fingerprint)
            if other is None or run.attempt > other.attempt:
                last[run.fingerprint] = run
    return list(last.values())


def _superfluous(rows: Mapping[str, _Row], runs: Sequence[RecordedRun], client: MlflowClient) -> tuple[Finding, ...]:
    """Runs that were begun for a row which has another now; those of earlier attempts are none."""
    more = [
        run
        for run in runs
        if (row := rows.get(run.fingerprint)) is not None
        and row.mlflow_run_id not in (None, run.run_id)
        and (run.damage is not None or run.attempt == row.token)
        and row.status != "claimed"
    ]
    return finding("second MLflow runs of one result", map(str, more), _DELETED, _deleting(client, more))


def _deleting(client: MlflowClient, runs: Iterable[RecordedRun]) -> Callable[[], None]:
    def delete_all() -> None:
        for run in runs:
            client.delete_run(run.run_id)

    return delete_all
