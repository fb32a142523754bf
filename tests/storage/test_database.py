from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.exc import DatabaseError
from sqlmodel import Session, SQLModel

import storage.catalog
import storage.database
import storage.results
import storage.turns
import storage.watches
from storage.catalog import Catalog
from storage.database import SCHEMA_REVISION, Database, _Connecting
from storage.errors import StoreError
from storage.evaluations import Evaluation, Measurement, Subject
from storage.results import ResultStore
from storage.settings import current_settings
from tests.postgres import EMPTY

MIGRATIONS = Path(storage.catalog.__file__).parent / "migrations"


def _revision(database: Database) -> str:
    with database.engine.connect() as connection:
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The database of the home is of either kind and has no schema yet."""
    if request.param == "sqlite":
        yield
        return
    with request.getfixturevalue("postgresql").database(EMPTY) as url:
        monkeypatch.setenv("SHIFT_DATABASE_URL", url)
        yield


def test_a_fresh_home_gets_the_newest_schema(database: Database) -> None:
    assert _revision(database) == SCHEMA_REVISION
    assert {"models", "datasets", "evaluations", "turns"} <= set(inspect(database.engine).get_table_names())


def test_the_named_revision_is_the_newest_there_is() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA_REVISION


def test_migrations_and_models_describe_one_schema(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_a_second_opening_migrates_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("migrated again")

    Catalog(database).save_model(
        "bert", {"source": "huggingface", "path": "/m", "fingerprint": "f", "signature": "s", "modality": "text"}
    )
    monkeypatch.setattr(command, "upgrade", refuse)
    assert [model.name for model in Catalog(Database(current_settings())).models()] == ["bert"]


def test_an_older_database_is_upgraded_in_place(database: Database) -> None:
    with database.engine.begin() as connection:
        for table in inspect(database.engine).get_table_names():
            connection.execute(text(f"DROP TABLE {table}"))
    assert _revision(Database(current_settings())) == SCHEMA_REVISION


def test_upgrading_keeps_what_was_measured(database: Database) -> None:
    results = ResultStore(database)
    claim = results.claim(Evaluation(Subject("bert", "m"), Subject("train", "d"), None, "logme", "1"))
    assert claim is not None
    measured = Measurement(status="completed", cost_seconds=1.0, metric="logme", value=0.5)
    results.record(claim, measured)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    assert _revision(database) == "0001"
    upgraded = ResultStore(Database(current_settings()))
    assert _revision(database) == SCHEMA_REVISION
    assert upgraded.known([claim.evaluation.fingerprint]) == {claim.evaluation.fingerprint: measured}


def test_a_migration_that_is_cut_short_is_done_from_its_beginning(fresh: None) -> None:
    made: list[str] = []
    create_table = op.create_table

    def die_at_the_second(name: str, *columns: object, **options: object) -> object:
        made.append(name)
        if len(made) == 2:
            raise KeyboardInterrupt
        return create_table(name, *columns, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as dying:
        dying.setattr(op, "create_table", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            Database(current_settings())
    assert len(made) == 2
    assert _revision(Database(current_settings())) == SCHEMA_REVISION


def test_work_is_done_again_when_the_connection_is_lost_meanwhile(database: Database) -> None:
    if database.engine.name != "postgresql":
        pytest.skip("SQLite has no connection to lose")
    lost: list[int] = []

    def work(session: Session) -> int:
        number = session.connection().execute(text("SELECT pg_backend_pid()")).scalar_one()
        if not lost:
            lost.append(number)
            with database.engine.connect() as other:
                other.execute(text(f"SELECT pg_terminate_backend({number}, 5000)"))
        session.connection().execute(text("SELECT 1"))
        return number

    assert database.do(work) not in lost


def test_work_that_fails_otherwise_is_not_done_again(database: Database) -> None:
    done: list[str] = []

    def work(session: Session) -> None:
        done.append("once")
        session.connection().execute(text("SELECT * FROM no_such_table"))

    with pytest.raises(DatabaseError, match="no_such_table"):
        database.do(work)
    assert done == ["once"]


class _Dialect:
    """A server that is reached when it is up."""

    class loaded_dbapi:
        class OperationalError(Exception):
            pass

    def __init__(self) -> None:
        self.is_up = True

    def connect(self) -> str:
        if not self.is_up:
            raise self.loaded_dbapi.OperationalError("connection refused")
        return "a connection"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The instants that were slept at."""
    slept = [0.0]
    monkeypatch.setattr(storage.database.time, "monotonic", lambda: slept[-1])
    monkeypatch.setattr(storage.database.time, "sleep", lambda seconds: slept.append(slept[-1] + seconds))
    return slept


def test_a_server_that_was_reached_before_is_waited_for(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    dialect, connect = _Dialect(), _Connecting()
    assert connect(dialect, None, (), {}) == "a connection"
    dialect.is_up = False

    def sleep(seconds: float) -> None:
        clock.append(clock[-1] + seconds)
        dialect.is_up = clock[-1] > 10.0

    monkeypatch.setattr(storage.database.time, "sleep", sleep)
    assert connect(dialect, None, (), {}) == "a connection"
    assert 10.0 < clock[-1] < 11.0


def test_a_server_is_not_waited_for_without_end(clock: list[float]) -> None:
    dialect, connect = _Dialect(), _Connecting()
    connect(dialect, None, (), {})
    dialect.is_up = False
    with pytest.raises(dialect.loaded_dbapi.OperationalError):
        connect(dialect, None, (), {})
    assert 29.0 < clock[-1] < 31.0


def test_a_server_that_was_never_reached_is_refused_at_once(clock: list[float]) -> None:
    dialect = _Dialect()
    dialect.is_up = False
    with pytest.raises(dialect.loaded_dbapi.OperationalError):
        _Connecting()(dialect, None, (), {})
    assert clock == [0.0]


def test_a_forked_process_has_connections_of_its_own(database: Database) -> None:
    if database.engine.name != "postgresql":
        pytest.skip("SQLite's connections are told apart by nothing")

    def number() -> int:
        with database.engine.connect() as connection:
            return connection.execute(text("SELECT pg_backend_pid()")).scalar_one()

    ours = number()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(number()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 100)) != ours
    assert number() == ours


def test_a_newer_database_is_refused_and_left_as_it_is(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer version") as caught:
        Database(current_settings())
    assert "upgrade shiftql" in (caught.value.fix or "")
    assert _revision(database) == "9999"


def test_a_database_that_cannot_be_opened_is_named(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHIFT_DATABASE_URL", f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}")
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        Database(current_settings())
    assert "folder.db" in (caught.value.subject or "")
    assert "SHIFT_DATABASE_URL" in (caught.value.fix or "")


def test_a_kind_of_database_there_is_no_driver_for_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("postgres://host/shift", "oracle://host/shift", "no url at all"):
        monkeypatch.setenv("SHIFT_DATABASE_URL", url)
        with pytest.raises(StoreError, match="cannot be opened") as caught:
            Database(current_settings())
        assert "postgresql+psycopg://" in (caught.value.fix or "")


def test_a_password_is_not_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFT_DATABASE_URL", "postgresql+psycopg://shift:secret@127.0.0.1:1/shift")
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        Database(current_settings())
    assert "secret" not in str(caught.value)


def test_texts_are_ordered_alike_everywhere(database: Database) -> None:
    catalog = Catalog(database)
    names = ["B", "_", "a", "a-b", "ab", "b", "ä"]
    for name in reversed(names):
        catalog.save_model(
            name, {"source": "huggingface", "path": "/m", "fingerprint": "f", "signature": "s", "modality": "text"}
        )
    assert [model.name for model in catalog.models()] == names


def test_every_text_in_postgresql_is_ordered_by_its_characters(database: Database) -> None:
    if database.engine.name != "postgresql":
        pytest.skip("SQLite does so unasked")
    with database.engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' AND"
                " data_type = 'character varying' AND collation_name IS DISTINCT FROM 'C'"
                " AND table_name <> 'alembic_version'"
            )
        )
        assert found.all() == []


def test_sizes_may_exceed_32_bits(database: Database) -> None:
    saved = Catalog(database).save_model(
        "llama",
        {
            "source": "huggingface",
            "path": "/m",
            "fingerprint": "f",
            "signature": "s",
            "modality": "text",
            "num_params": 70_000_000_000,
            "size_bytes": 280_000_000_000,
        },
    )
    assert (saved.num_params, saved.size_bytes) == (70_000_000_000, 280_000_000_000)


def test_a_file_that_is_no_database_is_refused_by_name(home: Path) -> None:
    settings = current_settings()
    (home / "shift.db").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        Database(settings)


def test_threads_may_open_a_fresh_database_at_once(fresh: None) -> None:
    settings = current_settings()
    with ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(lambda _: Database(settings), range(8)))
    assert {_revision(database) for database in opened} == {SCHEMA_REVISION}


@pytest.mark.parametrize("homes", ["one home", "a home each"])
def test_processes_may_open_a_fresh_database_at_once(fresh: None, homes: str, tmp_path: Path) -> None:
    settings = current_settings()
    if homes == "a home each" and settings.database_url.startswith("sqlite"):
        pytest.skip("a SQLite file is of one home")
    context = get_context("forkserver")
    context.set_forkserver_preload(["storage.catalog", "alembic.command"])
    processes = []
    for number in range(8):
        own = tmp_path / str(number) if homes == "a home each" else settings.home
        own.mkdir(exist_ok=True)
        processes.append(context.Process(target=Database, args=(replace(settings, home=own),)))
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    assert _revision(Database(current_settings())) == SCHEMA_REVISION


def test_sqlite_lets_readers_and_a_writer_work_at_once(home: Path) -> None:
    with Database(current_settings()).engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1


def test_opening_one_home_often_holds_no_more_files(home: Path) -> None:
    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))

    Database(current_settings())
    before = opened()
    for _ in range(20):
        with Database(current_settings()).session() as session:
            session.connection()
    assert opened() <= before + 2
