"""The result store's index: one row per evaluation, unique by fingerprint, and who is computing it.

The committed row is the truth and enough to answer a query. MLflow receives each row later through
storage.tracking, for which the columns `mlflow_run_id`, `exporter` and `export_started` serve as outbox.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import uuid4

from sqlalchemy import or_, update
from sqlalchemy import select as sa_select
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, col, select

from storage.database import Database
from storage.evaluations import Evaluation, Measurement
from storage.events import tell
from storage.settings import current_settings

# SQLite takes 32,766 parameters.
_FINGERPRINTS_PER_QUERY = 30_000
# The columns that hold a measurement, two of them as JSON.
_MEASURED = tuple(field.name for field in fields(Measurement))


class EvaluationRecord(SQLModel, table=True):
    """One evaluation: claimed while `owner` computes it, then completed or failed."""

    __tablename__ = "evaluations"

    fingerprint: str = Field(primary_key=True)
    status: str
    token: int
    owner: str
    heartbeat: float
    model_fingerprint: str = Field(index=True)
    model_name: str
    train_fingerprint: str = Field(index=True)
    train_name: str
    test_fingerprint: str | None = None
    test_name: str | None = None
    method: str = Field(index=True)
    version: str
    params: str
    fidelity: str
    metric: str | None = None
    value: float | None = None
    higher_is_better: bool | None = None
    n_test: int | None = None
    per_row_correct: bytes | None = None
    replicates: bytes | None = None
    layer: str | None = None
    vector: bytes | None = None
    metrics: str = "{}"
    curve: str = "[]"
    cost_seconds: float | None = None
    reason: str | None = None
    transient: bool = False
    recorded: float | None = None
    mlflow_run_id: str | None = Field(default=None, index=True)
    exporter: str | None = None
    export_started: float | None = None


@dataclass(frozen=True)
class Claim:
    """The right to compute one evaluation. `token` fences off a former owner that comes back late."""

    evaluation: Evaluation
    owner: str
    token: int


class ResultStore:
    """Known results, and claims that let one of many askers compute what is not known yet."""

    def __init__(self, database: Database, claim_expires_seconds: float | None = None) -> None:
        self._database = database
        self._expires = current_settings().claim_seconds if claim_expires_seconds is None else claim_expires_seconds

    def known(self, fingerprints: Iterable[str]) -> dict[str, Measurement]:
        """The measurements that need not be made again, by fingerprint: all but transient failures."""
        return {
            fingerprint: measurement
            for fingerprint, measurement in self.outcomes(fingerprints).items()
            if not measurement.transient
        }

    def outcomes(self, fingerprints: Iterable[str]) -> dict[str, Measurement]:
        """Whatever came of these evaluations last, by fingerprint."""
        table = EvaluationRecord.__table__  # type: ignore[attr-defined]
        columns = [table.c[name] for name in ("fingerprint", *_MEASURED)]
        rows = self._rows(fingerprints, sa_select(*columns).where(table.c.status != "claimed"))
        return {fingerprint: _measurement(*measured) for fingerprint, *measured in rows}

    def records(self, fingerprints: Iterable[str]) -> list[EvaluationRecord]:
        """The rows of those of these evaluations that are recorded, in the order that they were."""
        rows = self._rows(fingerprints, sa_select(EvaluationRecord).where(col(EvaluationRecord.status) != "claimed"))
        return sorted((record for (record,) in rows), key=lambda each: each.recorded or 0.0)

    def claimed(self, fingerprints: Iterable[str]) -> set[str]:
        """Those of these evaluations that somebody alive computes."""
        table = EvaluationRecord
        is_alive = (col(table.status) == "claimed") & (col(table.heartbeat) >= time.time() - self._expires)
        return {fingerprint for (fingerprint,) in self._rows(fingerprints, select(table.fingerprint).where(is_alive))}

    def measured(self, fingerprints: Iterable[str]) -> list[tuple[str, float]]:
        """The model and the seconds of each of these evaluations that is recorded."""
        table = EvaluationRecord
        rows = self._rows(
            fingerprints, select(table.model_fingerprint, table.cost_seconds).where(col(table.status) != "claimed")
        )
        return [(model, seconds or 0.0) for model, seconds in rows]

    def _rows(self, fingerprints: Iterable[str], query: Any) -> list[Any]:
        """What a SELECT finds of the evaluations with these fingerprints, in several queries where they are many."""
        wanted = list(dict.fromkeys(fingerprints))

        def look_up(session: Session) -> list[Any]:
            found: list[Any] = []
            for start in range(0, len(wanted), _FINGERPRINTS_PER_QUERY):
                batch = wanted[start : start + _FINGERPRINTS_PER_QUERY]
                found += session.execute(query.where(col(EvaluationRecord.fingerprint).in_(batch)))
            return found

        return self._database.do(look_up)

    def claim(self, evaluation: Evaluation) -> Claim | None:
        """Take the evaluation for this caller, or None when it is known or somebody alive computes it.

        An expired claim (no heartbeat for `claim_expires_seconds`) and a transient failure are taken over.
        """
        owner, now = uuid4().hex, time.time()

        def take(session: Session) -> Claim | None:
            try:
                session.add(_claimed_record(evaluation, owner, now))
                session.commit()
                return Claim(evaluation, owner, token=1)
            except IntegrityError:
                session.rollback()
            table = EvaluationRecord
            takeover = (
                update(table)
                .where(col(table.fingerprint) == evaluation.fingerprint)
                .where(
                    or_(
                        (col(table.status) == "claimed") & (col(table.heartbeat) < now - self._expires),
                        (col(table.status) == "failed") & col(table.transient).is_(True),
                        # This caller's own, whose commit came through before the connection was lost.
                        col(table.owner) == owner,
                    )
                )
                .values(status="claimed", owner=owner, heartbeat=now, token=col(table.token) + 1, transient=False)
            )
            if session.execute(takeover).rowcount == 0:  # type: ignore[attr-defined]
                session.rollback()
                return None
            session.commit()
            is_its_own = (col(table.fingerprint) == evaluation.fingerprint) & (col(table.owner) == owner)
            token = session.exec(select(table.token).where(is_its_own)).one()
            return Claim(evaluation, owner, token)

        claim = self._database.do(take)
        if claim is not None:
            # Beyond the first it is taken over from somebody who died, or tried again.
            tell("claimed", evaluation, attempt=claim.token)
        return claim

    def heartbeat(self, claims: Sequence[Claim]) -> None:
        """Say that the owner of these claims is alive."""
        table = EvaluationRecord
        # Without the fingerprints every row would be looked at.
        is_one = col(table.fingerprint).in_([claim.evaluation.fingerprint for claim in claims])
        is_theirs = col(table.owner).in_([claim.owner for claim in claims])
        is_claimed = col(table.status) == "claimed"
        self._database.change(update(table).where(is_one, is_theirs, is_claimed).values(heartbeat=time.time()))

    def holds(self, claim: Claim) -> bool:
        """Whether nobody has taken the evaluation over from this claim, before or after it was recorded."""
        table = EvaluationRecord
        is_its_own = (col(table.owner) == claim.owner) & (col(table.token) == claim.token)
        wanted = select(table.owner).where(table.fingerprint == claim.evaluation.fingerprint, is_its_own)
        return self._database.do(lambda session: session.exec(wanted).first() is not None)

    def record(self, claim: Claim, measurement: Measurement) -> bool:
        """Commit the measurement. False when the claim was taken over meanwhile: the other result stands."""
        changes = {
            **{name: getattr(measurement, name) for name in _MEASURED},
            "metrics": json.dumps(dict(measurement.metrics)),
            "curve": json.dumps(list(measurement.curve)),
        }
        stands = self._finish(claim, {**changes, "recorded": time.time(), "mlflow_run_id": None, "exporter": None})
        tell(
            measurement.status if stands else "overtaken",
            claim.evaluation,
            level=logging.INFO if stands and measurement.status == "completed" else logging.WARNING,
            status=measurement.status,
            seconds=measurement.cost_seconds,
            reason=measurement.reason,
        )
        return stands

    def release(self, claim: Claim) -> None:
        """Give an evaluation back uncomputed, so that the next asker need not wait for its expiry."""
        if self._finish(claim, {"heartbeat": 0.0}):
            tell("released", claim.evaluation)

    def _finish(self, claim: Claim, changes: Mapping[str, object]) -> bool:
        its_own = (
            update(EvaluationRecord)
            .where(col(EvaluationRecord.fingerprint) == claim.evaluation.fingerprint)
            .where(col(EvaluationRecord.owner) == claim.owner, col(EvaluationRecord.token) == claim.token)
            .where(col(EvaluationRecord.status) == "claimed")
        )
        return bool(self._database.change(its_own.values(**changes)))


def _measurement(*values: Any) -> Measurement:
    measured = dict(zip(_MEASURED, values, strict=True))
    return Measurement(
        **{
            **measured,
            "cost_seconds": measured["cost_seconds"] or 0.0,
            "higher_is_better": measured["higher_is_better"] is not False,
            "metrics": json.loads(measured["metrics"]),
            "curve": tuple(json.loads(measured["curve"])),
        }
    )


def _claimed_record(evaluation: Evaluation, owner: str, now: float) -> EvaluationRecord:
    test = evaluation.test
    return EvaluationRecord(
        fingerprint=evaluation.fingerprint,
        status="claimed",
        token=1,
        owner=owner,
        heartbeat=now,
        model_fingerprint=evaluation.model.fingerprint,
        model_name=evaluation.model.name,
        train_fingerprint=evaluation.train.fingerprint,
        train_name=evaluation.train.name,
        test_fingerprint=test.fingerprint if test else None,
        test_name=test.name if test else None,
        method=evaluation.method,
        version=evaluation.version,
        params=json.dumps(dict(evaluation.params), sort_keys=True),
        fidelity=json.dumps(dict(evaluation.fidelity), sort_keys=True),
    )
