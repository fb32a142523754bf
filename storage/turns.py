"""Whose turn it is to embed with a model: one at a time, of all processes that share the database.

Which rows two askers have in common is only known row by row, so it is the model that is taken and not its rows. Whose
turn comes next looks again which rows are missing. A turn is held while rows are embedded and for nothing else, and who
holds one waits for nobody's, so no two can wait for each other.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from uuid import uuid4

from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, SQLModel, col

from storage.database import Database


class TurnRecord(SQLModel, table=True):
    """A model that `owner` embeds with, alive at `heartbeat` (seconds since 1970)."""

    __tablename__ = "turns"

    model_fingerprint: str = Field(primary_key=True)
    owner: str
    heartbeat: float


class Turns:
    """Turns by the fingerprint of the model. One without a heartbeat for `expires_seconds` is taken over."""

    def __init__(self, database: Database, expires_seconds: float) -> None:
        self._database = database
        self._expires = expires_seconds

    def take(self, model_fingerprint: str) -> str | None:
        """The owner to give back, or None while somebody alive embeds with the model."""
        owner, now = uuid4().hex, time.time()
        with self._database.session() as session:
            takeover = (
                update(TurnRecord)
                .where(col(TurnRecord.model_fingerprint) == model_fingerprint)
                .where(col(TurnRecord.heartbeat) < now - self._expires)
                .values(owner=owner, heartbeat=now)
            )
            if session.execute(takeover).rowcount:  # type: ignore[attr-defined]
                session.commit()
                return owner
            try:
                session.add(TurnRecord(model_fingerprint=model_fingerprint, owner=owner, heartbeat=now))
                session.commit()
            except IntegrityError:
                return None
            return owner

    def heartbeat(self, owners: Collection[str]) -> None:
        """Say that these owners are alive."""
        with self._database.session() as session:
            session.execute(update(TurnRecord).where(col(TurnRecord.owner).in_(owners)).values(heartbeat=time.time()))
            session.commit()

    def give_back(self, owner: str) -> None:
        """Let the next one in; nothing, when the turn was taken over meanwhile."""
        with self._database.session() as session:
            session.execute(delete(TurnRecord).where(col(TurnRecord.owner) == owner))
            session.commit()
