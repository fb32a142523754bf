"""Deleting what was stored: recorded results with their MLflow runs, and features."""

from __future__ import annotations

import time
from collections.abc import Iterable

from sqlalchemy import ColumnElement, delete, func
from sqlmodel import and_, col, or_, select

from storage.catalog import ModelRecord
from storage.checkpoints import CheckpointStore
from storage.database import Database
from storage.errors import StoreError
from storage.features import open_features
from storage.live_runs import METHOD, training_of
from storage.names import did_you_mean
from storage.neighbours import forget_searches
from storage.results import EvaluationRecord
from storage.segments import Segment
from storage.settings import current_settings
from storage.stored_segments import keys_of, segments_in
from storage.tracking import delete_runs, reach_mlflow

_ROWS_AT_ONCE = 500
# What a row takes beside its texts and arrays.
_ROW_BYTES = 500


# What may be purged.
RESULTS, FEATURES, ALL = "results", "features", "all"


def purge(
    what: str, model: str | None = None, older_than: float | None = None, dry_run: bool = False
) -> dict[str, int]:
    """Delete `results`, `features` or `all` of it: everything, or what is of one model or older than some seconds.

    With features go the searches in them, and with results the checkpoints of trainings, uncounted. What somebody
    alive is computing stays. Returns how much was deleted, or with `dry_run` would be: `results`, `result_bytes`,
    `segments` (of features), `segment_bytes`, and the segments left to evaluations that are running,
    `segments_in_use`. Raises StoreError when there is no such model, and when MLflow is out of reach and there are
    results to delete; then nothing is deleted.
    """
    settings = current_settings()
    database = Database(settings)
    models = None if model is None else fingerprints_of(database, model)
    before = None if older_than is None else time.time() - older_than
    purged = {"results": 0, "result_bytes": 0, "segments": 0, "segment_bytes": 0, "segments_in_use": 0}
    if what != FEATURES:
        chosen = _chosen(models, before, settings.claim_seconds)
        purged["results"], purged["result_bytes"] = _measure(database, chosen)
        if purged["results"] and not dry_run:
            _delete_results(database, chosen)
    if what != RESULTS:
        keys = None if models is None else keys_of(models)
        in_use = keys_of(_claimed_models(database, settings.claim_seconds))
        store = open_features(settings)
        stored: list[tuple[Segment, int]] = [
            (segment, segment.size_bytes)
            for segment in segments_in(settings.features)
            if before is None or segment.last_used < before
        ]
        if before is None:
            # When those of other machines alone were used is not known here, nor how large they are.
            stored += [(segment, 0) for segment in store.not_here()]
        for segment, size_bytes in stored:
            key = segment.directory.name
            if keys is not None and key not in keys:
                continue
            if key in in_use:
                purged["segments_in_use"] += 1
                continue
            purged["segments"] += 1
            purged["segment_bytes"] += size_bytes
            if not dry_run:
                store.delete(segment)
        if not dry_run:
            forget_searches(settings.neighbours, keys, in_use, before)
    return purged


def fingerprints_of(database: Database, model: str) -> set[str]:
    """The fingerprints a model has and had when it was measured. Raises StoreError naming near models."""
    table = EvaluationRecord
    with database.session() as session:
        named = set(session.exec(select(ModelRecord.fingerprint).where(ModelRecord.name == model)))
        named |= set(session.exec(select(table.model_fingerprint).where(table.model_name == model).distinct()))
        if named:
            return named
        names = {*session.exec(select(ModelRecord.name)), *session.exec(select(table.model_name).distinct())}
    raise StoreError(
        f"there is no model named {model!r}, and no result of one",
        subject=model,
        fix=did_you_mean(model, names) or "'shiftql models list' shows all",
    )


# --- results ----------------------------------------------------------------------------------------------------------


def _chosen(models: Iterable[str] | None, before: float | None, claim_seconds: float) -> ColumnElement[bool]:
    """The rows to be deleted: what is recorded, and claims whose owner is dead."""
    table = EvaluationRecord
    is_recorded = col(table.status) != "claimed"
    if before is not None:
        is_recorded = and_(is_recorded, col(table.recorded) < before)
    is_dead = and_(
        col(table.status) == "claimed", col(table.heartbeat) < min(time.time() - claim_seconds, before or float("inf"))
    )
    chosen = or_(is_recorded, is_dead)
    return chosen if models is None else and_(chosen, col(table.model_fingerprint).in_(models))


def _measure(database: Database, chosen: ColumnElement[bool]) -> tuple[int, int]:
    table = EvaluationRecord
    columns = (table.per_row_correct, table.replicates, table.vector, table.metrics, table.curve, table.params)
    size = sum((func.coalesce(func.length(column), 0) for column in columns), start=_ROW_BYTES)
    with database.session() as session:
        count, in_bytes = (
            session.connection().execute(select(func.count(), func.sum(size)).select_from(table).where(chosen)).one()
        )
    return count, int(in_bytes or 0)


def _delete_results(database: Database, chosen: ColumnElement[bool]) -> None:
    """Delete rows, and their trainings, after their runs: a run without a row would be taken for a lost result."""
    table = EvaluationRecord
    client, checkpoints = reach_mlflow(current_settings()), CheckpointStore(current_settings())
    with database.session() as session:
        fingerprints = list(session.exec(select(table.fingerprint).where(chosen)))
    for start in range(0, len(fingerprints), _ROWS_AT_ONCE):
        batch = chosen & col(table.fingerprint).in_(fingerprints[start : start + _ROWS_AT_ONCE])
        with database.session() as session:
            rows = session.exec(select(table).where(batch)).all()
            delete_runs(client, rows)
            # What is asked for again is trained again.
            checkpoints.forget(training_of(row) for row in rows if row.method == METHOD)
        with database.session() as session:
            session.execute(delete(table).where(batch))
            session.commit()


# --- features ---------------------------------------------------------------------------------------------------------


def _claimed_models(database: Database, claim_seconds: float) -> set[str]:
    """The fingerprints of models that somebody alive evaluates."""
    table = EvaluationRecord
    is_alive = (col(table.status) == "claimed") & (col(table.heartbeat) >= time.time() - claim_seconds)
    with database.session() as session:
        return set(session.exec(select(table.model_fingerprint).where(is_alive)))
