"""The one database of catalog and result index: opening, upgrading its schema, short sessions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, Executable, create_engine, event, text
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError, ProgrammingError
from sqlmodel import Session

from storage.errors import StoreError
from storage.outages import again, disk_full
from storage.settings import Settings

# The newest revision in storage/migrations/versions; a test holds the two together.
SCHEMA_REVISION = "0009"
T = TypeVar("T")
_BUSY_SECONDS = 30
_CACHE_KIBIBYTES = 65_536
# How long a server that was reached before is waited for, as while it restarts, and how often it is tried meanwhile.
_RESTART_SECONDS = 30.0
_TRY_AGAIN_SECONDS = 0.25
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """Opens the database of `settings`, upgrading its schema when it is older than this program.

    Raises StoreError when it cannot be opened or was written by a newer version.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.database_url
        self._lock_path = settings.home / "migration.lock"
        try:
            self.engine = _create_engine(self._url)
        except (ArgumentError, ImportError) as error:
            raise StoreError(
                f"the database cannot be opened: {error}",
                fix="write SHIFT_DATABASE_URL as postgresql+psycopg://user@host/name, and install shiftql[postgres]",
            ) from error
        try:
            if self._revision() != SCHEMA_REVISION:
                self._upgrade()
        except DatabaseError as error:
            raise disk_full(settings, error) or StoreError(
                f"the database cannot be opened: {error.orig}",
                subject=self.engine.url.render_as_string(hide_password=True),
                fix="check SHIFT_HOME and SHIFT_DATABASE_URL, and that the disk is writable and not full",
            ) from error

    def session(self) -> Session:
        """A short unit of work; records read in it may be used after it ends."""
        return Session(self.engine, expire_on_commit=False)

    def do(self, work: Callable[[Session], T]) -> T:
        """Do a short unit of work, and do it again when the connection is lost meanwhile, as by a restart.

        The work must bear being done twice: whether a commit came through is not known then.
        """

        def in_session() -> T:
            with self.session() as session:
                return work(session)

        return again(in_session)

    def change(self, statement: Executable) -> int:
        """Execute and commit one statement, as `do` does work; how many rows it changed."""

        def work(session: Session) -> int:
            result = session.execute(statement)
            session.commit()
            return result.rowcount  # type: ignore[attr-defined,no-any-return]

        return self.do(work)

    def _revision(self) -> str | None:
        with self.engine.connect() as connection:
            try:
                return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            except (OperationalError, ProgrammingError):
                return None

    def _upgrade(self) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError
        from filelock import FileLock

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with FileLock(self._lock_path), self.engine.connect() as connection:
            if self.engine.name == "postgresql":
                # Other homes may use the same server; the lock ends with the transaction, as the migration does.
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('shiftql migration'))"))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise StoreError(
                    f"the database was written by a newer version of shiftql: {error}",
                    subject=self.engine.url.render_as_string(hide_password=True),
                    fix="upgrade shiftql, or point SHIFT_HOME to another directory",
                ) from error


@cache
def _create_engine(url: str) -> Engine:
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})
        event.listen(engine, "connect", _configure_sqlite)
    else:
        engine = create_engine(url, pool_pre_ping=True)
        event.listen(engine, "do_connect", _Connecting())
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA cache_size=-{_CACHE_KIBIBYTES}")
    cursor.close()


class _Connecting:
    """Connects to a server, and waits for one that was reached before; one that never was is refused at once."""

    def __init__(self) -> None:
        self._was_reached = False

    def __call__(self, dialect: Any, _record: object, arguments: Any, keywords: Any) -> Any:
        give_up = time.monotonic() + (_RESTART_SECONDS if self._was_reached else 0.0)
        while True:
            try:
                connection = dialect.connect(*arguments, **keywords)
            except dialect.loaded_dbapi.OperationalError:
                if time.monotonic() >= give_up:
                    raise
                time.sleep(_TRY_AGAIN_SECONDS)
            else:
                self._was_reached = True
                return connection
