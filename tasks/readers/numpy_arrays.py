"""NumPy .npz files, read as a stream."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from storage.errors import StoreError
from storage.names import fold
from tasks.readers.roles import USUAL_NAMES
from tasks.readers.splits import find_files
from tasks.readers.tables import Batch, Table

SUFFIXES = (".npz",)
_MOST_ROW_BYTES = 2**28
_READ_BYTES = 2**26


def open_sets(path: str) -> dict[str, Table]:
    """The table of every split at a path."""
    return {split: NumpyArrays(files) for split, files in find_files(path, SUFFIXES).items()}


class NumpyArrays(Table):
    """The arrays of an .npz file as columns, by their names; a cell is what stands in the row of an array.

    An array of one column is taken as that column. Arrays of other lengths than most are no columns, unless their
    name is a usual one. Nothing is unpickled, and no more of an array is in memory than is asked for.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._path = files[0]
        if len(files) > 1:
            raise StoreError(
                f"{self._path.parent} holds several .npz files", subject=str(self._path.parent), fix="give one of them"
            )

    def files(self) -> list[str]:
        return [str(self._path)]

    def columns(self) -> Sequence[str]:
        lengths = self._lengths
        usual = [key for key in lengths if fold(key) in USUAL_NAMES]
        for key in usual[1:]:
            if lengths[key] != lengths[usual[0]]:
                raise self._error(
                    f"{usual[0]!r} has {lengths[usual[0]]} rows and {key!r} {lengths[key]}",
                    "save one label for each row",
                )
        num_rows = lengths[usual[0]] if usual else max(lengths.values())
        return [key for key, length in lengths.items() if length == num_rows]

    def batches(self, columns: Sequence[str], size: int) -> Iterator[Batch]:
        if not columns:
            columns = self.columns()[:1]
        num_rows = self._lengths[columns[0]]
        with ExitStack() as opened:
            arrays = [opened.enter_context(self._array(key)) for key in columns]
            readers = [self._rows(key, array) for key, array in zip(columns, arrays, strict=True)]
            start = 0
            while start < num_rows:
                largest = max(_row_bytes(shape, dtype) for _, shape, dtype in arrays)
                count = min(size, num_rows - start, max(_READ_BYTES // max(largest, 1), 1))
                cells = {key: reader(start, count) for key, reader in zip(columns, readers, strict=True)}
                yield Batch(f"{self._path}, row ", range(start, start + count), cells)
                start += count

    @cached_property
    def _lengths(self) -> dict[str, int]:
        """How many rows each array has that has any."""
        with self._archive() as archive:
            keys = [member.removesuffix(".npy") for member in archive.namelist() if member.endswith(".npy")]
        lengths = {}
        for key in keys:
            with self._array(key) as (_, shape, _):
                if shape:
                    lengths[key] = shape[0]
        if not lengths:
            raise self._error("no arrays of rows", "save features and labels with numpy.savez")
        return lengths

    def _rows(self, key: str, array: tuple[IO[bytes], tuple[int, ...], np.dtype]) -> Any:
        """What reads the next rows of an array as cells."""
        stream, shape, dtype = array
        row_bytes, row_items = _row_bytes(shape, dtype), math.prod(shape[1:])

        def read(start: int, count: int) -> Sequence[Any]:
            block = stream.read(count * row_bytes)
            if len(block) < count * row_bytes:
                raise self._error(f"array {key!r} ends before row {start + count}", "save the file again")
            rows = np.frombuffer(block, dtype, count * row_items).reshape(count, *(() if row_items == 1 else shape[1:]))
            return rows.tolist() if rows.ndim == 1 else list(rows)

        return read

    @contextmanager
    def _array(self, key: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
        """The array's bytes as a stream, with its shape and type."""
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        with self._archive() as archive, archive.open(f"{key}.npy") as stream:
            try:
                shape, fortran_order, dtype = readers[np.lib.format.read_magic(stream)](stream)
            except (ValueError, KeyError) as error:
                raise self._error(
                    f"{key!r} is not a NumPy array: {error}", "write the file with numpy.savez"
                ) from error
            if dtype.hasobject:
                raise self._error(
                    f"array {key!r} holds pickled objects, which could run code and are never opened",
                    "save it with a plain type, for example array.astype(str)",
                )
            if fortran_order and len(shape) > 1:
                raise self._error(
                    f"array {key!r} is stored column by column and cannot be read row by row",
                    "save numpy.ascontiguousarray of it",
                )
            if _row_bytes(shape, dtype) > _MOST_ROW_BYTES:
                raise self._error(f"a row of array {key!r} has more than {_MOST_ROW_BYTES // 2**20} MiB", "save less")
            yield stream, shape, dtype

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                yield archive
        # RuntimeError is zipfile's word for an encrypted member, its NotImplementedError for an unknown compression.
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise self._error(f"not a readable .npz file: {error}", "write the file with numpy.savez") from error

    def _error(self, problem: str, fix: str) -> StoreError:
        return StoreError(f"{self._path}: {problem}", subject=str(self._path), fix=fix)


def _row_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return dtype.itemsize * math.prod(shape[1:])
