"""Rows to be predicted: what the readers read, and files that hold no labels at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from storage.errors import StoreError
from tasks.readers import COLUMN_OPTIONS, check_exists, guess_reader, open_table
from tasks.readers.base import Row
from tasks.readers.roles import IMAGE_SUFFIXES, Kind, Roles, Told, find_features
from tasks.readers.rows import row_reader
from tasks.readers.splits import Split, is_hidden
from tasks.readers.table_reader import TableReader
from tasks.readers.tables import Batch, Table, Unreadable

_TEXT_SUFFIX = ".txt"
_LONGEST_SHOWN = 80


class Given(NamedTuple):
    """One row as it was given: what people recognise it by, and the row, or why it cannot be read."""

    shown: str
    row: Row | None
    problem: str | None = None


def read_unlabelled(
    path: str, takes: Kind, reader: str | None = None, options: Mapping[str, str] | None = None
) -> Iterator[list[Given]]:
    """All rows of a file, a folder or a name that a reader knows, in order, some at a time.

    `takes` is what the model takes: image, text (also pairs of them) or words. Without a reader, an image, a folder of
    images and the lines of a text file are rows too. Raises StoreError when nothing there can be read.
    """
    check_exists(path)
    given = dict(options or {})
    split, table = Split(), None if reader else _bare_files(path)
    if table is None:
        split, table = open_table(reader or guess_reader(path), path, given)
    if takes == "image" and isinstance(table, _Lines):
        raise StoreError(
            f"{path} holds lines of text, and the model takes images",
            subject=path,
            fix="name an image or a folder of them",
        )
    if takes != "image" and isinstance(table, _Images):
        raise StoreError(f"{path} holds images, and the model takes text", subject=path, fix="name a file of texts")
    told = Told(**{option: given[option] for option in COLUMN_OPTIONS if option in given})
    return _FeatureReader(path, table, split, told, takes).rows()


class _FeatureReader(TableReader):
    """The features alone of a table, whatever else is in it."""

    def __init__(self, path: str, table: Table, split: Split, told: Told, takes: Kind) -> None:
        super().__init__("", path, table, split, told)
        self._takes = takes

    def rows(self) -> Iterator[list[Given]]:
        row_of = row_reader(self._roles)
        for batch in self._batches(self._roles.features, self._read_rows):
            found = []
            for position, cells in enumerate(zip(*batch.columns.values(), strict=True)):
                shown = " / ".join(_shown(cell, is_path=self._takes == "image") for cell in cells)
                try:
                    if position in batch.problems:
                        raise Unreadable(batch.problems[position])
                    row, _ = row_of(cells, batch.folder)
                except Unreadable as problem:
                    found.append(Given(shown, None, batch.complaint(position, problem)))
                else:
                    found.append(Given(shown, row))
            yield found

    @cached_property
    def _roles(self) -> Roles:
        return find_features(self._path, self._sample, self._takes, self._told)


class _Lines(Table):
    """The lines of a text file that are not blank."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def files(self) -> list[str]:
        return [str(self._file)]

    def columns(self) -> Sequence[str]:
        return ("text",)

    def batches(self, columns: Sequence[str], size: int) -> Iterator[Batch]:
        try:
            with self._file.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
                numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
        except OSError as error:
            raise StoreError(
                f"{self._file}: {error.strerror}", subject=str(self._file), fix="check the path"
            ) from error
        numbers, texts = zip(*numbered, strict=True) if numbered else ((), ())
        cells = dict.fromkeys(columns, texts)
        yield from Batch(f"{self._file}, line ", numbers, cells, is_column_said=False).parts(size)


class _Images(Table):
    """Images, each in a file of its own."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def files(self) -> list[str]:
        return [str(file) for file in self._files]

    def columns(self) -> Sequence[str]:
        return ("image",)

    def batches(self, columns: Sequence[str], size: int) -> Iterator[Batch]:
        cells = {name: self.files() for name in columns}
        yield from Batch("", self._files, cells, is_column_said=False).parts(size)


def _bare_files(path: str) -> Table | None:
    """The table of what is no dataset but lies in files; None of anything else."""
    place = Path(path)
    if place.suffix.lower() == _TEXT_SUFFIX and place.is_file():
        return _Lines(place)
    if place.suffix.lower() in IMAGE_SUFFIXES and place.is_file():
        return _Images([place])
    if place.is_dir() and _has_only_images(place):
        files = [file for file in sorted(place.rglob("*")) if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
        return _Images([file for file in files if not is_hidden(file, place)])
    return None


def _has_only_images(folder: Path) -> bool:
    """Whether no reader of tables would take the folder, and there are images in it."""
    try:
        reader = guess_reader(str(folder))
    except StoreError:
        reader = "image_folder"
    return reader == "image_folder" and any(file.suffix.lower() in IMAGE_SUFFIXES for file in folder.rglob("*"))


def _shown(cell: object, *, is_path: bool) -> str:
    """A path, or a text on one line and cut short; nothing of pixels."""
    if is_path:
        return cell if isinstance(cell, str) else ""
    words = cell if isinstance(cell, list) else str(cell).split() if isinstance(cell, str) else ()
    text = " ".join(map(str, words))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
