from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlmodel import SQLModel

import storage.catalog
import storage.results
from storage.catalog import Catalog
from storage.database import SCHEMA_REVISION, Database
from storage.errors import StoreError
from storage.settings import current_settings

MIGRATIONS = Path(storage.catalog.__file__).parent / "migrations"


def _revision(database: Database) -> str:
    with database.engine.connect() as connection:
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def test_a_fresh_home_gets_the_newest_schema(database: Database) -> None:
    assert _revision(database) == SCHEMA_REVISION
    assert {"models", "datasets", "evaluations"} <= set(inspect(database.engine).get_table_names())


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
        for table in ("models", "datasets", "evaluations", "alembic_version"):
            connection.execute(text(f"DROP TABLE {table}"))
    assert _revision(Database(current_settings())) == SCHEMA_REVISION


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


def test_a_file_that_is_no_database_is_refused_by_name(home: Path) -> None:
    settings = current_settings()
    (home / "shift.db").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        Database(settings)


def test_threads_may_open_a_fresh_home_at_once(home: Path) -> None:
    settings = current_settings()
    with ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(lambda _: Database(settings), range(8)))
    assert {_revision(database) for database in opened} == {SCHEMA_REVISION}


def test_processes_may_open_a_fresh_home_at_once(home: Path) -> None:
    context = get_context("forkserver")
    context.set_forkserver_preload(["storage.catalog", "alembic.command"])
    processes = [context.Process(target=Database, args=(current_settings(),)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    assert _revision(Database(current_settings())) == SCHEMA_REVISION


def test_sqlite_lets_readers_and_a_writer_work_at_once(database: Database) -> None:
    with database.engine.connect() as connection:
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
