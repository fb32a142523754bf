"""The index's rows from MLflow alone: which runs hold an evaluation, and rows made of them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col

from storage.database import Database
from storage.errors import StoreError
from storage.results import EvaluationRecord
from storage.run_tags import ATTEMPT_TAG, FINGERPRINT_TAG, row_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_RUNS_AT_ONCE = 2000
_ROWS_AT_ONCE = 500
_INSERT: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True)
class RecordedRun:
    """A run of an evaluation: which attempt at it, and its value. `damage` is why it holds no whole evaluation."""

    run_id: str
    name: str
    fingerprint: str
    attempt: int
    value: float | None
    damage: str | None

    def __str__(self) -> str:
        return f"{self.name} (run {self.run_id}{f': {self.damage}' if self.damage else ''})"


def recorded_runs(client: MlflowClient) -> Iterator[RecordedRun]:
    """All runs of evaluations, those that were deleted left out."""
    for run in _runs(client):
        row, damage = _read(run)
        tags = run.data.tags
        attempt = tags.get(ATTEMPT_TAG, "")
        yield RecordedRun(
            run.info.run_id,
            run.info.run_name,
            tags[FINGERPRINT_TAG],
            int(attempt) if attempt.isdecimal() else 0,
            row.value if row else None,
            damage,
        )


def restore(client: MlflowClient, database: Database, runs: Collection[str], claim_seconds: float) -> None:
    """Give undamaged runs a row in the index where their evaluation has none; a dead claim gives way to it."""
    rows: list[EvaluationRecord] = []
    for run in _runs(client):
        if run.info.run_id in runs:
            row, _ = _read(run)
            rows += [row] if row else []
            if len(rows) >= _ROWS_AT_ONCE:
                _insert(database, rows, claim_seconds)
                rows = []
    if rows:
        _insert(database, rows, claim_seconds)


def _read(run: Run) -> tuple[EvaluationRecord, None] | tuple[None, str]:
    """The row that a run holds, or why it holds none."""
    if run.info.status not in ("FINISHED", "FAILED"):
        return None, "it was never written to its end"
    try:
        return row_of(run.info.run_id, run.data.tags), None
    except StoreError as error:
        return None, error.message


def _insert(database: Database, rows: list[EvaluationRecord], claim_seconds: float) -> None:
    table = EvaluationRecord
    is_dead = (col(table.status) == "claimed") & (col(table.heartbeat) < time.time() - claim_seconds)
    insert = _INSERT[database.engine.name]
    with database.session() as session:
        session.execute(delete(table).where(col(table.fingerprint).in_([row.fingerprint for row in rows]), is_dead))
        session.execute(insert(table).on_conflict_do_nothing(), [row.model_dump() for row in rows])
        session.commit()


def _runs(client: MlflowClient) -> Iterator[Run]:
    token = None
    while True:
        experiments = client.search_experiments(page_token=token)
        for experiment in experiments:
            yield from _runs_in(client, experiment.experiment_id)
        if not (token := experiments.token):
            return


def _runs_in(client: MlflowClient, experiment: str) -> Iterator[Run]:
    token = None
    while True:
        runs = client.search_runs(
            [experiment], f"tags.`{FINGERPRINT_TAG}` != ''", max_results=_RUNS_AT_ONCE, page_token=token
        )
        yield from runs
        if not (token := runs.token):
            return
