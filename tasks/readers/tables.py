"""The contract every file format fulfils: records in named columns, batch by batch, with where each one stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

# What tells of the columns of Arrow and Parquet files, in the folder with the files.
FEATURES = "dataset_infos.json"


class Unreadable(Exception):
    """One record cannot be used; the text says why, as what is said of `column` or of the whole record."""

    def __init__(self, reason: str, column: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.column = column


@dataclass(frozen=True)
class Batch:
    """Consecutive records, by column. `file` and the record's entry in `places` say where it stands.

    `problems` say by position why a record is none; its cells mean nothing. Paths in cells are relative to `folder`.
    Where `is_column_said` is false a place alone says which cell is meant.
    """

    file: str
    places: Sequence[object]
    columns: Mapping[str, Sequence[Any]]
    problems: Mapping[int, str] = field(default_factory=dict)
    folder: str = ""
    is_column_said: bool = True

    @property
    def num_rows(self) -> int:
        return len(self.places)

    def part(self, start: int, stop: int) -> Batch:
        """The records at positions [start, stop)."""
        return replace(
            self,
            places=self.places[start:stop],
            columns={name: cells[start:stop] for name, cells in self.columns.items()},
            problems={at - start: why for at, why in self.problems.items() if start <= at < stop},
        )

    def parts(self, size: int) -> Iterator[Batch]:
        """All records in order, at most `size` at a time."""
        for start in range(0, self.num_rows, size):
            yield self.part(start, min(start + size, self.num_rows))

    def complaint(self, position: int, problem: Unreadable) -> str:
        """Where and why the record at a position cannot be used."""
        place = f"{self.file}{self.places[position]}"
        if problem.column is None:
            return f"{place}: {problem.reason}"
        column = f": column {problem.column!r}" if self.is_column_said else ""
        return f"{place}{column} {problem.reason}"


class Table(Protocol):
    """Records in columns, read as often as asked for. Opening one costs nothing; errors are StoreErrors."""

    def files(self) -> list[str]:
        """The files the records stand in, sorted."""
        ...

    def columns(self) -> Sequence[str]: ...

    def class_names(self) -> Mapping[str, Sequence[str]]:
        """What the whole numbers of a column stand for, by column, where the files say so."""
        return {}

    def batches(self, columns: Sequence[str], size: int) -> Iterator[Batch]:
        """All records in order, with the cells of these columns, at most `size` at a time."""
        ...


def between(batches: Iterator[Batch], start: int, stop: int) -> Iterator[Batch]:
    """The records numbered [start, stop) among all."""
    first = 0
    for batch in batches:
        if first >= stop:
            return
        after = first + batch.num_rows
        if after > start:
            yield batch.part(max(start - first, 0), min(stop - first, batch.num_rows))
        first = after
