"""Standing questions, and what they answered each time they were asked again."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from sqlalchemy import delete, func, update
from sqlmodel import Field, Session, SQLModel, col, select

from storage.database import Database

# Of a ranking so many places are kept; how many there were is kept beside them.
PLACES_KEPT = 100

# Why a question was asked: it was made, something was registered, its time had come, or somebody wanted it.
Reason = Literal["created", "registered", "schedule", "refreshed"]


class WatchRecord(SQLModel, table=True):
    """A standing question: the `script` that asks it, declarations first, at least every `every_seconds`.

    `asked` (seconds since 1970) is when it was last found to be answered by all there is, None where it never was;
    `failure` says why that could not be done since. `first` has the first place, which changed `changes` times.
    """

    __tablename__ = "watches"

    name: str = Field(primary_key=True)
    script: str
    every_seconds: float | None = None
    created: float
    asked: float | None = None
    first: str | None = None
    changes: int = 0
    failure: str | None = None


class WatchHistoryRecord(SQLModel, table=True):
    """One answer to a watch: how many models it `ranked`, and how many evaluations were computed and known for it.

    `first` has the first place from then on, and `changed` says that another had it before.
    """

    __tablename__ = "watch_history"

    history_id: int | None = Field(default=None, primary_key=True)
    watch: str = Field(index=True)
    recorded: datetime
    reason: str
    first: str | None
    changed: bool
    ranked: int
    evaluated: int
    reused: int
    seconds: float


class WatchPlaceRecord(SQLModel, table=True):
    """One place of a ranking that was recorded."""

    __tablename__ = "watch_places"

    history_id: int = Field(primary_key=True)
    rank: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    model_name: str
    score: float | None
    metric: str | None


class Place(NamedTuple):
    """Who has a place of a ranking, and by which score, where there is one."""

    name: str
    score: float | None = None
    metric: str | None = None


class Recorded(NamedTuple):
    """An answer of the past, best first, with the first PLACES_KEPT places."""

    record: WatchHistoryRecord
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Asked:
    """An answer to a watch, best first, and what it took; `seconds` by the clock."""

    places: Sequence[Place]
    reason: Reason
    evaluated: int = 0
    reused: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Change:
    """Another has the first place of a watch; the scores are of the new ranking, `before` may have left it."""

    watch: str
    before: str
    after: str
    before_score: float | None
    after_score: float | None
    metric: str | None


class WatchStore:
    """The watches of a database, by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[WatchRecord]:
        """All watches, by name."""
        return self._database.do(
            lambda session: list(session.exec(select(WatchRecord).order_by(col(WatchRecord.name))))
        )

    def find(self, name: str) -> WatchRecord | None:
        """The watch of that name, None where there is none."""
        return self._database.do(lambda session: session.get(WatchRecord, name))

    def save(self, name: str, script: str, every_seconds: float | None) -> None:
        """Make a watch. One that asked something else under this name is replaced, its history with it."""

        def work(session: Session) -> None:
            watch = session.get(WatchRecord, name)
            if watch is not None and watch.script == script:
                watch.every_seconds = every_seconds
            else:
                _forget(session, name)
                session.add(WatchRecord(name=name, script=script, every_seconds=every_seconds, created=time.time()))
            session.commit()

        self._database.do(work)

    def remove(self, name: str) -> None:
        """End a watch; its history goes with it."""

        def work(session: Session) -> None:
            _forget(session, name)
            session.commit()

        self._database.do(work)

    def record(self, name: str, script: str, asked: Asked) -> Change | None:
        """Note that a watch is answered, and its answer where that is news; who has the first place now, if it changed.

        It is news where anything was evaluated for it or its ranking is another than before. Who only equals the first
        does not take its place. Of several who record the same change at once one is told of it. What was meanwhile
        replaced or ended has no history any more.
        """

        def work(session: Session) -> Change | None:
            # The row is written first, so that whoever records at the same time waits.
            is_watched = update(WatchRecord).where(col(WatchRecord.name) == name, col(WatchRecord.script) == script)
            if not session.execute(is_watched.values(asked=time.time(), failure=None)).rowcount:  # type: ignore[attr-defined]
                return None
            watch = session.exec(select(WatchRecord).where(WatchRecord.name == name)).one()
            latest = _latest(session, name)
            first = first_of(asked.places, watch.first)
            # Whoever keeps the first place stands there.
            kept = tuple(sorted(asked.places, key=lambda place: place is not first)[:PLACES_KEPT])
            if latest is not None and not asked.evaluated and latest.places == kept:
                session.commit()
                return None
            change = None
            if latest is not None and watch.first is not None and first is not None and first.name != watch.first:
                score = next((place.score for place in asked.places if place.name == watch.first), None)
                change = Change(name, watch.first, first.name, score, first.score, first.metric)
                watch.changes += 1
            # A ranking that is empty for now has no first, and who is first after it is compared with who was before.
            watch.first = watch.first if first is None else first.name
            _add(session, watch, asked, kept, change is not None)
            session.commit()
            return change

        return self._database.do(work)

    def fail(self, name: str, script: str, reason: str) -> None:
        """Note why a watch could not be asked."""
        watched = update(WatchRecord).where(col(WatchRecord.name) == name, col(WatchRecord.script) == script)
        self._database.change(watched.values(failure=reason))

    def history(self, name: str) -> list[Recorded]:
        """What a watch answered, oldest first."""

        def work(session: Session) -> list[Recorded]:
            answers = select(WatchHistoryRecord).where(WatchHistoryRecord.watch == name)
            records = list(session.exec(answers.order_by(col(WatchHistoryRecord.history_id))))
            numbers = select(WatchHistoryRecord.history_id).where(WatchHistoryRecord.watch == name)
            places: dict[int | None, list[Place]] = {record.history_id: [] for record in records}
            for place in session.exec(
                select(WatchPlaceRecord)
                .where(col(WatchPlaceRecord.history_id).in_(numbers))
                .order_by(col(WatchPlaceRecord.rank))
            ):
                places[place.history_id].append(_place(place))
            return [Recorded(record, tuple(places[record.history_id])) for record in records]

        return self._database.do(work)

    def latest(self, names: Collection[str]) -> dict[str, WatchHistoryRecord]:
        """The latest answer of each of these watches that was answered."""

        def work(session: Session) -> dict[str, WatchHistoryRecord]:
            newest = (
                select(func.max(WatchHistoryRecord.history_id))
                .where(col(WatchHistoryRecord.watch).in_(names))
                .group_by(col(WatchHistoryRecord.watch))
            )
            found = session.exec(select(WatchHistoryRecord).where(col(WatchHistoryRecord.history_id).in_(newest)))
            return {record.watch: record for record in found}

        return self._database.do(work)


def first_of(places: Sequence[Place], before: str | None) -> Place | None:
    """Who has the first place: who had it before, where nobody has a better score."""
    if not places:
        return None
    best = places[0]
    level = (place for place in places if place.score is not None and place.score == best.score)
    return next((place for place in level if place.name == before), best)


def _latest(session: Session, name: str) -> Recorded | None:
    answers = select(WatchHistoryRecord).where(WatchHistoryRecord.watch == name)
    record = session.exec(answers.order_by(col(WatchHistoryRecord.history_id).desc()).limit(1)).first()
    if record is None:
        return None
    places = select(WatchPlaceRecord).where(WatchPlaceRecord.history_id == record.history_id)
    return Recorded(record, tuple(map(_place, session.exec(places.order_by(col(WatchPlaceRecord.rank))))))


def _place(record: WatchPlaceRecord) -> Place:
    return Place(record.model_name, record.score, record.metric)


def _add(session: Session, watch: WatchRecord, asked: Asked, kept: Sequence[Place], changed: bool) -> None:
    record = WatchHistoryRecord(
        watch=watch.name,
        recorded=datetime.now(UTC).replace(microsecond=0),
        reason=asked.reason,
        first=watch.first if kept else None,
        changed=changed,
        ranked=len(asked.places),
        evaluated=asked.evaluated,
        reused=asked.reused,
        seconds=asked.seconds,
    )
    session.add(record)
    session.flush()
    assert record.history_id is not None
    session.add_all(
        WatchPlaceRecord(
            history_id=record.history_id, rank=rank, model_name=place.name, score=place.score, metric=place.metric
        )
        for rank, place in enumerate(kept, start=1)
    )


def _forget(session: Session, name: str) -> None:
    numbers = select(WatchHistoryRecord.history_id).where(WatchHistoryRecord.watch == name)
    session.execute(delete(WatchPlaceRecord).where(col(WatchPlaceRecord.history_id).in_(numbers)))
    session.execute(delete(WatchHistoryRecord).where(col(WatchHistoryRecord.watch) == name))
    session.execute(delete(WatchRecord).where(col(WatchRecord.name) == name))
