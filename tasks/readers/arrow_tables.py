"""Parquet files, Arrow files and Arrow streams, and what Hugging Face's `datasets` writes into their schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import StoreError
from tasks.readers.splits import find_files
from tasks.readers.tables import FEATURES, Batch, Table

PARQUET_SUFFIXES = (".parquet",)
ARROW_SUFFIXES = (".arrow", ".feather", ".ipc")
# Column chunks are read piece by piece, however large a row group is.
_BUFFER_BYTES = 2**20


def open_parquet_sets(path: str) -> dict[str, Table]:
    """The Parquet table of every split at a path."""
    return {split: ArrowTable(files) for split, files in find_files(path, PARQUET_SUFFIXES).items()}


def open_arrow_sets(path: str) -> dict[str, Table]:
    """The Arrow table of every split at a path."""
    return {split: ArrowTable(files) for split, files in find_files(path, ARROW_SUFFIXES).items()}


class ArrowTable:
    """Files of one schema, one after the other; rows count from 0 in each."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def files(self) -> list[str]:
        return sorted(str(file) for file in self._files)

    def columns(self) -> Sequence[str]:
        return self._schema.names

    def class_names(self) -> Mapping[str, Sequence[str]]:
        features = _features_in(self._schema) or self._told_features()
        names = {column: _names_in(feature) for column, feature in features.items()}
        return {column: found for column, found in names.items() if found}

    def batches(self, columns: Sequence[str], size: int) -> Iterator[Batch]:
        for file in self._files:
            first = 0
            with _said_of(file), _opened(file) as stream:
                for cells in _record_batches(file, stream, columns, size):
                    yield _batch(file, first, cells, columns)
                    first += cells.num_rows

    @cached_property
    def _schema(self) -> pa.Schema:
        file = self._files[0]
        with _said_of(file), _opened(file) as stream:
            if file.suffix.lower() in PARQUET_SUFFIXES:
                return pq.read_schema(stream)
            return _open_arrow(stream).schema

    def _told_features(self) -> Mapping[str, Any]:
        """The features that a Hugging Face repository tells of beside its files."""
        for folder in (self._files[0].parent, self._files[0].parent.parent):
            told = folder / FEATURES
            if told.is_file():
                try:
                    configurations = json.loads(told.read_text(encoding="utf-8"))
                    return dict(next(iter(configurations.values()))["features"] or {})
                except (ValueError, AttributeError, KeyError, TypeError, StopIteration) as error:
                    raise StoreError(
                        f"{told} does not tell the features: {error}", subject=str(told), fix="mend or remove the file"
                    ) from error
        return {}


def _record_batches(file: Path, stream: Any, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
    if file.suffix.lower() in PARQUET_SUFFIXES:
        parquet = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        yield from parquet.iter_batches(size, columns=list(columns), use_threads=False)
        return
    reader = _open_arrow(stream)
    parts: Iterator[pa.RecordBatch] = (
        iter(reader)
        if isinstance(reader, pa.RecordBatchStreamReader)
        else (reader.get_batch(number) for number in range(reader.num_record_batches))
    )
    for part in parts:
        for start in range(0, part.num_rows, size):
            yield part.slice(start, size)


def _opened(file: Path) -> Any:
    # Batches of an Arrow file, however large, then stay on disk until their rows are looked at.
    return open(file, "rb") if file.suffix.lower() in PARQUET_SUFFIXES else pa.memory_map(str(file))


def _open_arrow(stream: Any) -> pa.RecordBatchStreamReader | pa.RecordBatchFileReader:
    is_file = stream.read(6) == b"ARROW1"
    stream.seek(0)
    return pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)


def _batch(file: Path, first: int, cells: pa.RecordBatch, columns: Sequence[str]) -> Batch:
    return Batch(
        file=f"{file}, row ",
        places=range(first, first + cells.num_rows),
        columns={name: cells.column(name).to_pylist() for name in columns},
        folder=str(file.parent),
    )


@contextmanager
def _said_of(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{file} cannot be read: {str(error).splitlines()[0]}",
            subject=str(file),
            fix="write the file again; all files of a split need the same columns",
        ) from error


def _features_in(schema: pa.Schema) -> Mapping[str, Any]:
    """The features that Hugging Face's `datasets` wrote into a schema; none where something else wrote there."""
    written = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        return dict(json.loads(written)["info"]["features"])
    except (ValueError, KeyError, TypeError):
        return {}


def _names_in(feature: Any) -> Sequence[str]:
    """The class names in a feature of Hugging Face's, or in the feature of its items."""
    if isinstance(feature, list) and feature:
        return _names_in(feature[0])
    if not isinstance(feature, dict):
        return ()
    names = feature.get("names")
    if feature.get("_type") == "ClassLabel" and isinstance(names, list):
        return [str(name) for name in names]
    return _names_in(feature.get("feature"))
