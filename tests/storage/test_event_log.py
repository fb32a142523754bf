from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from storage.event_log import LOG_NAME, JsonLog, log_to
from storage.events import FIELDS, LOGGER, tell, telling_of
from storage.settings import current_settings


@pytest.fixture(autouse=True)
def _silent_again() -> Iterator[None]:
    yield
    for handler in [each for each in LOGGER.handlers if isinstance(each, JsonLog)]:
        LOGGER.removeHandler(handler)
        handler.close()
    LOGGER.setLevel(logging.NOTSET)


def _told(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _record(event: str = "claimed", **fields: Any) -> logging.LogRecord:
    record = logging.LogRecord("shift", logging.INFO, __file__, 1, event, (), None)
    vars(record)[FIELDS] = fields
    return record


def test_an_event_is_a_line_of_json_with_what_it_happened_within(home: Path) -> None:
    log_to(current_settings())
    with telling_of(query="q1", run=None):
        tell("embedded", level=logging.WARNING, model="bert", rows=3, reason=None)
    [told] = _told(home / "logs" / LOG_NAME)
    assert told["time"].endswith("Z")
    assert told.keys() == {"time", "level", "event", "process", "query", "model", "rows"}
    assert (told["level"], told["event"], told["query"], told["rows"]) == ("warning", "embedded", "q1", 3)


def test_of_two_homes_each_has_its_own_events(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_to(current_settings())
    log_to(current_settings())
    tell("first")
    monkeypatch.setenv("SHIFT_HOME", str(tmp_path / "other"))
    log_to(current_settings())
    tell("second")
    assert [each["event"] for each in _told(home / "logs" / LOG_NAME)] == ["first"]
    assert [each["event"] for each in _told(tmp_path / "other" / "logs" / LOG_NAME)] == ["second"]


def test_without_a_log_nothing_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    tell("failed", level=logging.ERROR)
    assert capfd.readouterr() == ("", "")


def test_secrets_are_left_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    log_to(current_settings())
    tell("failed", reason="postgresql://shift:hunter2@host/db refused hf_verysecret")
    line = (home / "logs" / LOG_NAME).read_text()
    assert "postgresql://shift:***@host/db refused ***" in line


def test_logs_that_are_deleted_meanwhile_are_begun_anew(home: Path) -> None:
    log_to(current_settings())
    tell("first")
    shutil.rmtree(home / "logs")
    tell("second")
    assert [each["event"] for each in _told(home / "logs" / LOG_NAME)] == ["second"]


def test_a_full_file_is_moved_aside_and_few_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = JsonLog(path, file_bytes=1)
    for number in range(8):
        log.emit(_record(number=number))
    kept = {each.name: _told(each)[0]["number"] for each in tmp_path.glob("events.jsonl*")}
    numbered = {f"events.jsonl.{age}": 7 - age for age in range(1, 6)}
    assert kept == {"events.jsonl": 7, **numbered}


def test_no_line_of_several_writers_is_lost_or_torn(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    # Each its own, as in processes of their own.
    logs = [JsonLog(path, file_bytes=8_000) for _ in range(4)]

    def write(writer: int) -> None:
        for number in range(60):
            logs[writer].emit(_record(number=60 * writer + number, padding="x" * 50))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    numbers = [
        told["number"] for file in tmp_path.glob("events.jsonl*") if file.suffix != ".lock" for told in _told(file)
    ]
    assert sorted(numbers) == list(range(240))
