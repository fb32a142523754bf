"""CSV and TSV files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple

from storage.errors import StoreError
from tasks.readers.splits import find_files
from tasks.readers.tables import Batch, Table

SUFFIXES = (".csv", ".tsv")
# The csv module refuses fields above 131,072 characters unless told otherwise. An unclosed quote ends here.
csv.field_size_limit(2**28)

_LINE_BREAK = re.compile("\r\n|\r|\n")


def open_sets(path: str) -> dict[str, Table]:
    """The table of every split at a path."""
    return {split: CsvTable(files) for split, files in find_files(path, SUFFIXES).items()}


class CsvTable(Table):
    """UTF-8 files with one header: tabs separate columns in .tsv, commas otherwise; blank lines are no records."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def files(self) -> list[str]:
        return [str(file) for file in self._files]

    def columns(self) -> Sequence[str]:
        return self._header

    def batches(self, columns: Sequence[str], size: int) -> Iterator[Batch]:
        for file in self._files:
            runs = _runs(file, size)
            if next(runs, _Run((), [], {})).records != [self._header]:
                raise StoreError(
                    f"{file}, line 1: other columns than in {self._files[0]}",
                    subject=str(file),
                    allowed=self._header,
                    fix="give all files of a folder the same header, or the path of one file",
                )
            wanted = [self._header.index(column) for column in columns]
            for run in runs:
                yield self._batch(file, run, columns, wanted)

    def _batch(self, file: Path, run: _Run, columns: Sequence[str], wanted: Sequence[int]) -> Batch:
        width = len(self._header)
        problems = {
            at: f"{len(record)} columns where the header has {width}; a field that holds the separator or a line break"
            " stands in double quotes"
            for at, record in enumerate(run.records)
            if len(record) != width
        } | run.problems
        records = (
            [[""] * width if at in problems else r for at, r in enumerate(run.records)] if problems else run.records
        )
        return Batch(
            file=f"{file}, line ",
            places=run.lines,
            columns={name: [record[at] for record in records] for name, at in zip(columns, wanted, strict=True)},
            problems=problems,
            folder=str(file.parent),
        )

    @cached_property
    def _header(self) -> list[str]:
        file = self._files[0]
        first = next(_runs(file, 1), None)
        if first is None:
            raise StoreError(f"{file} is empty", subject=str(file), fix="add a header line and rows")
        header = first.records[0]
        # Bytes that are not UTF-8 stand as lone surrogates.
        is_utf8 = not any("\udc80" <= character <= "\udcff" for name in header for character in name)
        if first.problems or not is_utf8:
            problem = first.problems.get(0, "not UTF-8 text")
            raise StoreError(f"{file}, line 1: {problem}", subject=str(file), fix="save the file as UTF-8")
        if twice := [name for name in header if header.count(name) > 1]:
            raise StoreError(
                f"{file}, line 1: two columns are called {twice[0]!r}", subject=str(file), fix="rename one"
            )
        return header


class _Run(NamedTuple):
    """Consecutive records that are not blank, the line each starts on, and what is wrong with broken ones."""

    lines: Sequence[int]
    records: list[list[str]]
    problems: dict[int, str]


def _runs(file: Path, size: int) -> Iterator[_Run]:
    """The header alone, then all records, at most `size` at a time."""
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    try:
        with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            reader = csv.reader(lines, delimiter=separator, strict=True)
            count = 1
            while True:
                line = reader.line_num + 1
                records: list[list[str]] = []
                problem = None
                try:
                    for record in islice(reader, count):
                        records.append(record)
                except csv.Error as error:
                    problem = str(error)
                    if "unexpected end of data" in problem or "larger than" in problem:
                        raise StoreError(
                            f"{file}, line {line + sum(map(_num_lines, records))}: {problem}",
                            subject=str(file),
                            fix="double every quote inside a quoted field and close every quoted field",
                        ) from error
                    records.append([])
                if not records:
                    return
                run = _placed(records, line, reader.line_num, problem)
                if run.records:
                    count = size
                    yield run
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}", subject=str(file), fix="check the path") from error


def _placed(records: list[list[str]], first: int, last: int, problem: str | None) -> _Run:
    """Records that stand on the lines from `first` to `last`, of which the last has the problem, if there is one."""
    problems = {} if problem is None else {len(records) - 1: f"{problem}; every quote inside a quoted field is doubled"}
    if last - first + 1 == len(records) and all(records):
        return _Run(range(first, last + 1), records, problems)
    starts = list(accumulate(map(_num_lines, records), initial=first))
    kept = [at for at, record in enumerate(records) if record or at in problems]
    return _Run(
        [starts[at] for at in kept], [records[at] for at in kept], {len(kept) - 1: p for p in problems.values()}
    )


def _num_lines(record: Sequence[str]) -> int:
    return 1 + sum(len(_LINE_BREAK.findall(field)) for field in record)
