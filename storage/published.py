"""Published results that come with SHiFT, beside what was measured here: rows of a table of their own.

They are no evaluations: nobody claims them, no query reuses them, and neither a purge nor MLflow knows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, text
from sqlmodel import Field, Session, SQLModel, col, select

from storage.database import Database


class PublishedRecord(SQLModel, table=True):
    """One published result: of a model on a dataset, in the table `origin`, by a method.

    Models go by the names the hub has for them now. `curve` is the validation accuracy after each epoch, where that was
    published; `version` is of the shipped tables.
    """

    __tablename__ = "published_results"

    origin: str = Field(primary_key=True)
    dataset_name: str = Field(primary_key=True)
    model_name: str = Field(primary_key=True)
    method: str = Field(primary_key=True)
    metric: str
    value: float
    cost_seconds: float | None = None
    fidelity: str = "{}"
    params: str = "{}"
    curve: str = "[]"
    version: int


class PublishedModelRecord(SQLModel, table=True):
    """A spelling of a published model's name: a registered model whose name or handle it is, is that model."""

    __tablename__ = "published_models"

    spelling: str = Field(primary_key=True)
    model_name: str = Field(index=True)


@dataclass(frozen=True)
class Published:
    """Rows of both tables: `results` by the columns of PublishedRecord but for the version, and names by spelling."""

    results: Iterable[Mapping[str, Any]]
    spellings: Mapping[str, str]


def keep_published(database: Database, version: int, read: Callable[[], Published]) -> None:
    """Replace what is published by what `read` gives, unless the database holds this version of it or a newer one.

    Of several who do so at once one writes, and the others find it written.
    """
    held = select(PublishedRecord.version).limit(1)

    def is_there(session: Session) -> bool:
        found = session.exec(held).first()
        return found is not None and found >= version

    def write(session: Session) -> None:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text("SELECT pg_advisory_xact_lock(hashtext('shiftql published'))"))
        # In SQLite this takes the right to write, before anything is read.
        session.execute(delete(PublishedRecord).where(col(PublishedRecord.version) < version))
        if not is_there(session):
            published = read()
            session.execute(delete(PublishedModelRecord))
            session.execute(
                insert(PublishedModelRecord),
                [{"spelling": spelling, "model_name": name} for spelling, name in published.spellings.items()],
            )
            session.execute(insert(PublishedRecord), [{**row, "version": version} for row in published.results])
        session.commit()

    if not database.do(is_there):
        database.do(write)
