"""JSON Lines: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from storage.errors import StoreError
from tasks.readers.splits import find_files
from tasks.readers.tables import Batch, Table

SUFFIXES = (".jsonl", ".ndjson", ".json")
_MOST_BYTES = 2**28
# So many objects are looked at for the columns there are.
_HEADER_ROWS = 1000
_NO_OBJECT = "a JSON value where an object is expected"


def open_sets(path: str) -> dict[str, Table]:
    """The table of every split at a path."""
    return {split: JsonLines(files) for split, files in find_files(path, SUFFIXES).items()}


class JsonLines(Table):
    """UTF-8 files with a JSON object on every line that is not blank; a key that an object lacks is null."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def files(self) -> list[str]:
        return [str(file) for file in self._files]

    def columns(self) -> Sequence[str]:
        return self._header

    def batches(self, columns: Sequence[str], size: int) -> Iterator[Batch]:
        for file in self._files:
            records = _records(file)
            while batch := list(islice(records, size)):
                yield _batch(file, batch, columns)

    @cached_property
    def _header(self) -> list[str]:
        objects = [record for _, record in islice(_records(self._files[0]), _HEADER_ROWS) if isinstance(record, dict)]
        return list(dict.fromkeys(key for record in objects for key in record))


def _batch(file: Path, batch: Sequence[tuple[int, dict[str, Any] | str]], columns: Sequence[str]) -> Batch:
    problems = {position: record for position, (_, record) in enumerate(batch) if isinstance(record, str)}
    objects = [record if isinstance(record, dict) else {} for _, record in batch]
    return Batch(
        file=f"{file}, line ",
        places=[line for line, _ in batch],
        columns={name: [record.get(name) for record in objects] for name in columns},
        problems=problems,
        folder=str(file.parent),
    )


def _records(file: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The object on every line that is not blank, with the line's number; of a broken one, what is wrong."""
    try:
        with open(file, "rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(_MOST_BYTES), b""), start=1):
                if len(line) == _MOST_BYTES:
                    raise StoreError(
                        f"{file}, line {number}: longer than {_MOST_BYTES // 2**20} MiB",
                        subject=str(file),
                        fix="write one object a line",
                    )
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                    if line.lstrip().startswith(b"["):
                        raise StoreError(
                            f"{file}, line 1: a JSON array, which cannot be read row by row",
                            subject=str(file),
                            fix="write one object a line, for example with jq -c '.[]'",
                        )
                if not line.isspace():
                    yield number, _parsed(line)
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}", subject=str(file), fix="check the path") from error


def _parsed(line: bytes) -> dict[str, Any] | str:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _parsed_in_words(line)
    return record if isinstance(record, dict) else _NO_OBJECT


def _parsed_in_words(line: bytes) -> dict[str, Any] | str:
    """The same by the standard library, which takes NaN and says what is wrong more plainly."""
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError:
        return "not UTF-8 text"
    except ValueError as error:
        return f"not JSON: {error}"
    except RecursionError:
        return "not JSON that can be read: nested too deep"
    return record if isinstance(record, dict) else _NO_OBJECT
