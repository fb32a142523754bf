"""A PostgreSQL server of the tests' own, from the system's packages."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import create_engine, text

from storage.database import Database, _create_engine
from storage.settings import Settings

NO_SERVER = "no PostgreSQL server here: install Debian's postgresql to run these"

# Nothing that is made here outlives the tests.
_OPTIONS = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c listen_addresses=''"
_TEMPLATE = "migrated"
# PostgreSQL's own template, which holds nothing.
EMPTY = "template0"


@dataclass(frozen=True)
class Server:
    """A running server, reached through a Unix socket in `directory`."""

    directory: Path

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://shift@/{database}?host={self.directory}"

    @contextmanager
    def database(self, template: str = _TEMPLATE) -> Iterator[str]:
        """A database of its own, with the newest schema in it, for as long as the context lasts; gives its URL."""
        name = f"test_{uuid4().hex}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            _create_engine(self.url(name)).dispose()
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def make_template(self) -> None:
        """Migrate the database that others are copied from."""
        self._run(f"CREATE DATABASE {_TEMPLATE} TEMPLATE {EMPTY}")
        Database(Settings(self.directory, self.url(_TEMPLATE), "")).engine.dispose()

    def _run(self, statement: str) -> None:
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


def find_programs() -> Path | None:
    """The directory of initdb and pg_ctl; None where no server is installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)


@contextmanager
def run_server(programs: Path) -> Iterator[Server]:
    """A server with an empty data directory, stopped and removed at the end."""
    # Not below pytest's directory: a socket's path has at most 107 characters, and the server's user has to get there.
    with tempfile.TemporaryDirectory(prefix="shift-") as directory:
        data = Path(directory) / "data"
        identity = _unprivileged(Path(directory))

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [programs / program, "-D", data, *arguments],
                cwd=directory,
                check=True,
                stdout=subprocess.DEVNULL,
                **identity,
            )

        run("initdb", "-U", "shift", "-A", "trust", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-w", "-s", "-l", f"{directory}/log", "-o", f"{_OPTIONS} -k {directory}", "start")
        try:
            server = Server(Path(directory))
            server.make_template()
            yield server
        finally:
            run("pg_ctl", "-w", "-s", "-m", "immediate", "stop")


def _unprivileged(directory: Path) -> dict[str, Any]:
    """PostgreSQL does not run as root: then the user it runs as instead, who is given the directory."""
    if os.geteuid() != 0:
        return {}
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = users.get("postgres") or users["nobody"]
    os.chown(directory, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
