"""The reader of every table: rows and labels from the columns that hold them, whatever format they are stored in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import StoreError
from storage.manifests import ordered_classes
from tasks.readers.base import CHUNK_ROWS, Chunk, Row, Schema, Skipped
from tasks.readers.labels import Label, classes_in, encode, label_reader
from tasks.readers.roles import Roles, Told, find_roles, kind_of
from tasks.readers.rows import row_hashes, row_reader
from tasks.readers.splits import Split
from tasks.readers.tables import Batch, Table, Unreadable, between

# Records looked at to tell what a column holds; images are told by a few.
_SAMPLE_ROWS, _SAMPLE_IMAGES = 1000, 16
_READ_ROWS = 1024
# A chunk of large photographs is cut short here, so that memory does not grow with their size.
_CHUNK_BYTES = 64 * 2**20
# Of this many records one may be unreadable, and a few of any number.
_ONE_IN, _AT_LEAST = 100, 10
# More are rather texts that were taken for labels.
_MOST_CLASSES = 100_000


class TableReader:
    """Rows of one split of a table.

    Which columns are read is told or found out (tasks.readers.roles), `classes` names the classes that whole numbers
    stand for. Records that cannot be read are left out, `max_skipped` of them at most; where it is None, one percent,
    and ten of any number. Errors are StoreErrors that name file, line or row, and column.
    """

    def __init__(
        self,
        name: str,
        path: str,
        table: Table,
        split: Split,
        told: Told,
        classes: Sequence[str] = (),
        max_skipped: int | None = None,
    ) -> None:
        self.name = name
        self.skipped = Skipped()
        self._path = path
        self._table = table
        self._split = split
        self._told = told
        self._classes = classes
        self._max_skipped = max_skipped

    def files(self) -> list[str]:
        images: set[str] = set()
        if self._roles.kind == "image" and any(isinstance(c, str) for c in self._sample[self._roles.features[0]]):
            for batch in self._batches(self._roles.features, _READ_ROWS):
                cells = batch.columns[self._roles.features[0]]
                paths = (Path(batch.folder, cell) for cell in cells if isinstance(cell, str))
                images.update(str(path) for path in paths if path.is_file())
        return sorted({*self._table.files(), *images})

    def schema(self) -> Schema:
        return self._schema

    def chunks(self, size: int = CHUNK_ROWS) -> Iterator[Chunk]:
        roles, classes = self._roles, self._schema.classes
        rows: list[Row] = []
        contents: list[bytes] = []
        labels: list[Label] = []
        num_bytes = 0
        for row, content, label in self._records():
            rows.append(row)
            contents.append(content)
            labels.append(label)
            num_bytes += row.nbytes if isinstance(row, np.ndarray) else len(content)
            if len(rows) == size or num_bytes >= _CHUNK_BYTES:
                encoded, lengths = encode(labels, roles, classes)
                yield Chunk(rows, encoded, row_hashes(contents), lengths)
                rows, contents, labels, num_bytes = [], [], [], 0
        if rows:
            encoded, lengths = encode(labels, roles, classes)
            yield Chunk(rows, encoded, row_hashes(contents), lengths)

    def _records(self) -> Iterator[tuple[Row, bytes, Label]]:
        """The rows that can be read, what identifies them, and their labels."""
        roles = self._roles
        row_of, label_of = row_reader(roles), label_reader(roles, self._class_names)
        num_read, num_skipped, first = 0, 0, ""
        self.skipped = Skipped()
        for batch in self._batches((*roles.features, *roles.targets), self._read_rows):
            features = zip(*(batch.columns[name] for name in roles.features), strict=True)
            targets = zip(*(batch.columns[name] for name in roles.targets), strict=True)
            for position, (cells, target) in enumerate(zip(features, targets, strict=True)):
                try:
                    if batch.problems and position in batch.problems:
                        raise Unreadable(batch.problems[position])
                    label = label_of(target)
                    row, content = row_of(cells, batch.folder)
                    if isinstance(row, list) and len(row) != len(classes_in(label)):
                        reason = f"has {len(classes_in(label))} tags for {len(row)} words"
                        raise Unreadable(reason, roles.targets[0])
                except Unreadable as problem:
                    num_skipped += 1
                    first = first or batch.complaint(position, problem)
                    if num_skipped > self._limit:
                        raise self._too_many(num_skipped, first) from problem
                    self.skipped = Skipped(num_skipped, first)
                    continue
                num_read += 1
                yield row, content, label
        if not num_read:
            raise self._too_many(num_skipped, first)

    def _too_many(self, num_skipped: int, first: str) -> StoreError:
        if num_skipped == 1:
            return StoreError(first, subject=self._path, fix="mend the row or remove it")
        return StoreError(
            f"{first} (and {num_skipped - 1} more rows cannot be read)",
            subject=self._path,
            fix=f"mend the rows or remove them, or allow more than {self._limit} to be skipped with max_skipped",
        )

    @cached_property
    def _limit(self) -> int:
        if self._max_skipped is not None:
            return self._max_skipped
        return max(self._schema.num_rows // _ONE_IN, _AT_LEAST)

    @cached_property
    def _schema(self) -> Schema:
        roles = self._roles
        label_of = label_reader(roles, self._class_names)
        num_records = 0
        classes: set[str] = set()
        for batch in self._batches(roles.targets, _READ_ROWS):
            num_records += batch.num_rows
            if roles.task == "regression":
                continue
            for cells in _distinct(list(zip(*(batch.columns[name] for name in roles.targets), strict=True))):
                # What cannot be read is said, and counted, when the rows are.
                with suppress(Unreadable):
                    classes.update(classes_in(label_of(cells)))
            if len(classes) > _MOST_CLASSES:
                raise StoreError(
                    f"{self._path}: column {roles.targets[0]!r} has more than {_MOST_CLASSES} different labels",
                    subject=self._path,
                    fix="name the column of labels with label_column, or task=regression where they are numbers",
                )
        if not num_records:
            raise self._no_rows()
        return Schema(roles.modality, roles.task, num_records, ordered_classes(classes))

    def _no_rows(self) -> StoreError:
        return StoreError(f"{self._path} has no rows", subject=self._path, fix="add rows, or name another split")

    @cached_property
    def _roles(self) -> Roles:
        return find_roles(self._path, self._sample, self._class_names, self._told)

    @cached_property
    def _class_names(self) -> Mapping[str, Sequence[str]]:
        if self._classes:
            return dict.fromkeys(self._table.columns(), self._classes)
        return self._table.class_names()

    @cached_property
    def _sample(self) -> Mapping[str, Sequence[Any]]:
        """The first readable cells of every column."""
        columns = self._table.columns()
        few = self._cells(columns, _SAMPLE_IMAGES)
        light = [name for name in columns if kind_of(few[name]) != "images"]
        return {**few, **self._cells(light, _SAMPLE_ROWS)}

    def _cells(self, columns: Sequence[str], num_rows: int) -> dict[str, list[Any]]:
        batch = next(self._table.batches(columns, num_rows), None)
        if batch is None:
            raise self._no_rows()
        return {
            name: [cell for position, cell in enumerate(cells) if position not in batch.problems]
            for name, cells in batch.columns.items()
        }

    @property
    def _read_rows(self) -> int:
        return _SAMPLE_IMAGES if self._roles.kind == "image" else _READ_ROWS

    def _batches(self, columns: Sequence[str], size: int) -> Iterator[Batch]:
        batches = self._table.batches(columns, size)
        return batches if self._split.is_whole else between(batches, *self._span)

    @cached_property
    def _span(self) -> tuple[int, int]:
        start, stop = self._split.rows(sum(batch.num_rows for batch in self._table.batches((), _READ_ROWS)))
        if start >= stop:
            raise self._no_rows()
        return start, stop


def _distinct(cells: list[tuple[Any, ...]]) -> Collection[tuple[Any, ...]]:
    """Each once where they can be compared quickly, which lists cannot."""
    try:
        return set(cells)
    except TypeError:
        return cells
