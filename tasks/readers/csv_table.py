"""CSV and TSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

from storage.errors import StoreError
from tasks.readers.splits import find_files
from tasks.readers.tables import Batch, Table

SUFFIXES = (".csv", ".tsv")
# The csv module refuses fields above 131,072 characters unless told otherwise. An unclosed quote ends here.
csv.field_size_limit(2**28)


def open_sets(path: str) -> dict[str, Table]:
    """The table of every split at a path."""
    return {split: CsvTable(files) for split, files in find_files(path, SUFFIXES).items()}


class CsvTable:
    """UTF-8 files with one header: tabs separate columns in .tsv, commas otherwise; blank lines are no records."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def files(self) -> list[str]:
        return [str(file) for file in self._files]

    def columns(self) -> Sequence[str]:
        return self._header

    def class_names(self) -> Mapping[str, Sequence[str]]:
        return {}

    def batches(self, columns: Sequence[str], size: int) -> Iterator[Batch]:
        for file in self._files:
            records = _records(file)
            if next(records, (0, []))[1] != self._header:
                raise StoreError(
                    f"{file}, line 1: other columns than in {self._files[0]}",
                    subject=str(file),
                    allowed=self._header,
                    fix="give all files of a folder the same header, or the path of one file",
                )
            wanted = [self._header.index(column) for column in columns]
            while batch := list(islice(records, size)):
                yield self._batch(file, batch, columns, wanted)

    def _batch(
        self, file: Path, batch: Sequence[tuple[int, list[str] | str]], columns: Sequence[str], wanted: Sequence[int]
    ) -> Batch:
        width = len(self._header)
        problems: dict[int, str] = {}
        records: list[Sequence[str]] = []
        for position, (_, record) in enumerate(batch):
            if isinstance(record, str):
                problems[position] = record
            elif len(record) != width:
                problems[position] = (
                    f"{len(record)} columns where the header has {width}; a field that holds the separator or a line"
                    " break stands in double quotes"
                )
            records.append([""] * width if position in problems else record)
        return Batch(
            file=f"{file}, line ",
            places=[line for line, _ in batch],
            columns={name: [r[at] for r in records] for name, at in zip(columns, wanted, strict=True)},
            problems=problems,
            folder=str(file.parent),
        )

    @cached_property
    def _header(self) -> list[str]:
        file = self._files[0]
        _, header = next(_records(file), (0, []))
        if not header:
            raise StoreError(f"{file} is empty", subject=str(file), fix="add a header line and rows")
        # Bytes that are not UTF-8 stand as lone surrogates.
        if isinstance(header, str) or any("\udc80" <= character <= "\udcff" for name in header for character in name):
            problem = header if isinstance(header, str) else "not UTF-8 text"
            raise StoreError(f"{file}, line 1: {problem}", subject=str(file), fix="save the file as UTF-8")
        if twice := [name for name in header if header.count(name) > 1]:
            raise StoreError(
                f"{file}, line 1: two columns are called {twice[0]!r}", subject=str(file), fix="rename one"
            )
        return header


def _records(file: Path) -> Iterator[tuple[int, list[str] | str]]:
    """Records that are not blank, header first, each with the line it starts on; of a broken one, what is wrong."""
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    try:
        with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            reader = csv.reader(lines, delimiter=separator, strict=True)
            line = 1
            while True:
                try:
                    for record in reader:
                        if record:
                            yield line, record
                        line = reader.line_num + 1
                    return
                except csv.Error as error:
                    if "unexpected end of data" in str(error) or "larger than" in str(error):
                        raise StoreError(
                            f"{file}, line {line}: {error}",
                            subject=str(file),
                            fix="double every quote inside a quoted field and close every quoted field",
                        ) from error
                    yield line, f"{error}; every quote inside a quoted field is doubled"
                    line = reader.line_num + 1
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}", subject=str(file), fix="check the path") from error
