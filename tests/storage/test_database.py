from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
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
import storage.turns
from storage.catalog import Catalog
from storage.database import SCHEMA_REVISION, Database
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
        for table in ("models", "datasets", "evaluations", "turns", "alembic_version"):
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
