from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from storage.database import Database
from storage.outages import again, explain
from storage.settings import current_settings


def test_a_full_database_is_a_full_disk(home: Path) -> None:
    database = Database(current_settings())
    with database.engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))
        with pytest.raises(OperationalError) as caught:
            connection.execute(text("CREATE TABLE more AS SELECT randomblob(100000) AS large"))
    told = explain(caught.value, current_settings())
    assert told is not None
    assert told.message == "the disk is full"
    assert str(home) in (told.fix or "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_whatever_it_made_fail(home: Path, number: int) -> None:
    try:
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise RuntimeError("the server answered 500") from error
    except RuntimeError as error:
        told = explain(error, current_settings())
    assert told is not None
    assert told.message == "the disk is full"


def test_where_no_space_is_left_whatever_fails_fails_for_the_want_of_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = current_settings()
    assert explain(RuntimeError("unforeseen"), settings) is None
    there = os.statvfs(home)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result([*there[:4], 0, *there[5:]]))
    told = explain(RuntimeError("unforeseen"), settings)
    assert told is not None
    assert told.message == "the disk is full"


def test_a_lost_connection_is_told_with_what_to_check(home: Path) -> None:
    lost = OperationalError("SELECT 1", None, Exception("connection refused"), connection_invalidated=True)
    told = explain(lost, current_settings())
    assert told is not None
    assert "does not answer: connection refused" in told.message
    assert "SHIFT_DATABASE_URL" in (told.fix or "")


def test_a_server_that_is_not_reached_does_not_answer(home: Path) -> None:
    engine = create_engine(f"sqlite:///{home / 'no' / 'such' / 'folder.db'}")
    with pytest.raises(OperationalError) as caught:
        engine.connect()
    told = explain(caught.value, current_settings())
    assert told is not None
    assert "does not answer: unable to open database file" in told.message


def test_work_whose_connection_is_lost_is_done_again_but_not_without_end() -> None:
    tried: list[str] = []

    def work() -> None:
        tried.append("once")
        raise OperationalError("SELECT 1", None, Exception("server closed the connection"), connection_invalidated=True)

    with pytest.raises(OperationalError, match="server closed"):
        again(work)
    assert tried == ["once"] * 3


def test_what_the_database_refuses_is_told(home: Path) -> None:
    told = explain(OperationalError("SELECT 1", None, Exception("parser stack overflow")), current_settings())
    assert told is not None
    assert "parser stack overflow" in told.message


def test_errors_of_ours_are_not_explained_away(home: Path) -> None:
    assert explain(KeyError("a mistake of ours"), current_settings()) is None
