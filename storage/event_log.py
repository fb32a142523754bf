"""The home's log of events: a line of JSON each, written by every process of the home."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from storage.events import FIELDS, LOGGER
from storage.settings import Settings

LOG_NAME = "shiftql.jsonl"
_FILE_BYTES = 20_000_000
_FILES_KEPT = 5
# What stands in these is never written down, wherever it turns up.
_SECRET_VARIABLES = re.compile(r"TOKEN|PASSWORD|SECRET|AUTH_STRING|API_KEY|ACCESS_KEY")
_SHORTEST_SECRET = 6
_PASSWORD_IN_URL = re.compile(r"(://[^/\s:@]*):[^@\s/]+@")


def log_to(settings: Settings) -> None:
    """Write events to the home's log from now on; where another home's was written, to this one's instead."""
    path = settings.home / "logs" / LOG_NAME
    for handler in LOGGER.handlers[:]:
        if isinstance(handler, JsonLog):
            if handler.path == path:
                return
            LOGGER.removeHandler(handler)
            handler.close()
    LOGGER.addHandler(JsonLog(path))
    LOGGER.setLevel(logging.INFO)


class JsonLog(logging.Handler):
    """Appends each event as a line of JSON to a file that several processes write.

    Whoever finds it full moves it aside; the others notice by its inode and go on in the new one.
    """

    def __init__(self, path: Path, file_bytes: int = _FILE_BYTES) -> None:
        super().__init__()
        self.path = path
        self._file_bytes = file_bytes
        self._descriptor: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # One write in append mode is whole, whoever else writes.
            os.write(self._opened(), (_line(record) + "\n").encode())
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        self._close()
        super().close()

    def _opened(self) -> int:
        if self._descriptor is not None:
            its = os.fstat(self._descriptor)
            try:
                is_in_place = os.stat(self.path).st_ino == its.st_ino
            except FileNotFoundError:
                is_in_place = False
            if is_in_place and its.st_size >= self._file_bytes:
                self._move_aside()
                is_in_place = False
            if not is_in_place:
                self._close()
        if self._descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        return self._descriptor

    def _move_aside(self) -> None:
        with FileLock(self.path.with_suffix(".lock")):
            # Another process may have been quicker.
            if self.path.exists() and self.path.stat().st_size >= self._file_bytes:
                for number in reversed(range(1, _FILES_KEPT)):
                    with contextlib.suppress(FileNotFoundError):
                        self._numbered(number).replace(self._numbered(number + 1))
                self.path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _line(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = {
        name: round(value, 6) if isinstance(value, float) else value for name, value in vars(record)[FIELDS].items()
    }
    line = json.dumps(
        {"time": at, "level": record.levelname.lower(), "event": record.getMessage(), "process": record.process}
        | fields,
        ensure_ascii=False,
        default=str,
    )
    return _without_secrets(line)


def _without_secrets(line: str) -> str:
    line = _PASSWORD_IN_URL.sub(r"\1:***@", line)
    for name, value in os.environ.items():
        if _SECRET_VARIABLES.search(name) and len(value) >= _SHORTEST_SECRET:
            line = line.replace(value, "***")
    return line
