"""Sentences and labels from a CSV or TSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from storage.errors import StoreError
from storage.manifests import ordered_classes
from storage.names import fold, near
from tasks.readers.base import CHUNK_ROWS, Chunk, Schema
from tasks.readers.rows import label_indices, row_hashes

_TEXT_COLUMNS = ("text", "sentence", "content", "review", "document", "question")
_LABEL_COLUMNS = ("label", "labels", "class", "target", "category")
# Rows looked at to tell two columns of unknown names apart.
_SAMPLE_ROWS = 1000
# The csv module refuses fields above 131,072 characters unless told otherwise; this is the most it takes everywhere.
csv.field_size_limit(2**31 - 1)


class _Columns(NamedTuple):
    text: int
    label: int


class CsvTable:
    """A UTF-8 file with a header: tabs separate columns in .tsv, commas otherwise.

    Columns not named are found by their usual names; of exactly two, the one with fewer distinct and
    shorter values holds the labels. Labels are compared without surrounding space; blank lines are
    skipped. Errors are StoreErrors that name file, line and column.
    """

    name = "csv"

    def __init__(self, path: str, text_column: str | None = None, label_column: str | None = None) -> None:
        self._path = path
        self._text_column = text_column
        self._label_column = label_column

    def files(self) -> list[str]:
        return [self._path]

    def schema(self) -> Schema:
        return self._schema

    def chunks(self, size: int = CHUNK_ROWS) -> Iterator[Chunk]:
        rows = self._rows()
        while batch := list(islice(rows, size)):
            texts = [text for text, _ in batch]
            labels = label_indices([label for _, label in batch], self._schema.classes)
            yield Chunk(texts, labels, row_hashes(text.encode() for text in texts))

    @cached_property
    def _schema(self) -> Schema:
        num_rows, labels = 0, set()
        for _, label in self._rows():
            num_rows += 1
            labels.add(label)
        if num_rows == 0:
            raise StoreError(f"{self._path} has no rows below its header", subject=self._path, fix="add rows")
        return Schema("text", "classification", num_rows, ordered_classes(labels))

    def _rows(self) -> Iterator[tuple[str, str]]:
        columns = self._columns
        records = self._records()
        _, header = next(records)
        for line, record in records:
            if len(record) != len(header):
                raise StoreError(
                    f"{self._path}, line {line}: {len(record)} columns where the header has {len(header)}",
                    subject=self._path,
                    fix="put a field that holds the separator or a line break in double quotes",
                )
            label = record[columns.label].strip()
            if not label:
                raise StoreError(
                    f"{self._path}, line {line}: column {header[columns.label]!r} is empty",
                    subject=self._path,
                    fix="label the row or remove it",
                )
            yield record[columns.text], label

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Records that are not blank, header first, each with the line it starts on."""
        separator = "\t" if Path(self._path).suffix.lower() == ".tsv" else ","
        try:
            with open(self._path, encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, delimiter=separator, strict=True)
                line = 1
                try:
                    for record in reader:
                        if record:
                            yield line, record
                        line = reader.line_num + 1
                except csv.Error as error:
                    raise StoreError(
                        f"{self._path}, line {line}: {error}",
                        subject=self._path,
                        fix="double every quote inside a quoted field and close every quoted field",
                    ) from error
        except UnicodeDecodeError as error:
            raise StoreError(
                f"{self._path}, line {_first_undecodable_line(self._path)}: not UTF-8 text",
                subject=self._path,
                fix="save the file as UTF-8",
            ) from error
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}", subject=self._path, fix="check the path") from error

    @cached_property
    def _columns(self) -> _Columns:
        _, header = next(self._records(), (0, []))
        if not header:
            raise StoreError(f"{self._path} is empty", subject=self._path, fix="add a header line and rows")
        text = self._named_column(header, "text_column", self._text_column, _TEXT_COLUMNS)
        label = self._named_column(header, "label_column", self._label_column, _LABEL_COLUMNS)
        if len(header) == 2 and text is None and label is None:
            return self._columns_by_shape(header)
        if len(header) == 2 and text is None and label is not None:
            text = 1 - label
        if len(header) == 2 and label is None and text is not None:
            label = 1 - text
        if text is None:
            raise self._column_error("no column is known to hold the text", header)
        if label is None:
            raise self._column_error("no column is known to hold the label", header)
        if text == label:
            raise self._column_error(f"column {header[text]!r} cannot be both text and label", header)
        return _Columns(text, label)

    def _named_column(self, header: Sequence[str], option: str, wanted: str | None, usual: Sequence[str]) -> int | None:
        if wanted is not None and wanted in header:
            return header.index(wanted)
        accepted = usual if wanted is None else (fold(wanted),)
        found = [index for index, column in enumerate(header) if fold(column) in accepted]
        if len(found) > 1:
            matches = " and ".join(repr(header[index]) for index in found)
            raise self._column_error(f"{option} may be {matches}", header)
        if wanted is not None and not found:
            meant = near(wanted, header)
            guess = f"; did you mean {' or '.join(meant)}?" if meant else ""
            raise self._column_error(f"there is no column {wanted!r}{guess}", header)
        return found[0] if found else None

    def _columns_by_shape(self, header: Sequence[str]) -> _Columns:
        sample = [record for _, record in islice(self._records(), 1, 1 + _SAMPLE_ROWS) if len(record) == 2]
        distinct = [len({record[index] for record in sample}) for index in (0, 1)]
        length = [sum(len(record[index]) for record in sample) for index in (0, 1)]
        for label in (0, 1):
            if distinct[label] < distinct[1 - label] and length[label] < length[1 - label]:
                return _Columns(1 - label, label)
        raise self._column_error("neither the names nor the values tell text from label", header)

    def _column_error(self, problem: str, header: Sequence[str]) -> StoreError:
        return StoreError(
            f"{self._path}, line 1: {problem}",
            subject=self._path,
            allowed=header,
            fix="name both columns: shiftql datasets add … --text-column … --label-column …",
        )


def _first_undecodable_line(path: str) -> int:
    with open(path, "rb") as file:
        return next(number for number, line in enumerate(file, start=1) if not _is_utf8(line))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
