"""Reading chosen rows of registered datasets, checked against their manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from storage.catalog import Catalog, DatasetRecord
from storage.derivation import derive, rows_in
from storage.errors import EvaluationError
from storage.manifests import Manifest, load_manifest
from storage.parts import Part, one_per_dataset
from storage.settings import current_settings
from tasks.readers import open_reader
from tasks.readers.base import Rows
from tasks.shared_datasets import local_dataset


def read_rows(dataset: DatasetRecord, wanted: np.ndarray, row_hashes: np.ndarray) -> Iterator[tuple[Rows, np.ndarray]]:
    """The rows whose numbers are `wanted`, with these numbers, ascending and chunk by chunk.

    `row_hashes` are those of all rows of the dataset. Raises what `read_chunks` does.
    """
    for rows, start, found in read_chunks(dataset, wanted, row_hashes):
        if len(found):
            yield [rows[index] for index in found], start + found  # type: ignore[misc, call-overload]


def read_chunks(
    dataset: DatasetRecord, wanted: np.ndarray, row_hashes: np.ndarray
) -> Iterator[tuple[Rows, int, np.ndarray]]:
    """Chunks of rows, the number of the first of each, and the places in it of the rows whose numbers are `wanted`.

    `row_hashes` are those of all rows of the dataset. Raises a transient EvaluationError when the files are of
    other content, and StoreError when there are none; what stands after the last wanted row is not looked at.
    """
    changed = EvaluationError(f"dataset {dataset.name} changed while it was read", transient=True, fix="ask again")
    is_wanted = np.zeros(len(row_hashes), dtype=bool)
    is_wanted[wanted] = True
    left = int(is_wanted.sum())
    start = 0
    here = local_dataset(dataset)
    for chunk in open_reader(here.type, here.path, here.reader_options).chunks():
        if not left:
            return
        stop = start + len(chunk.rows)
        if not np.array_equal(chunk.row_hashes, row_hashes[start:stop]):
            raise changed
        found = np.flatnonzero(is_wanted[start:stop])
        yield chunk.rows, start, found
        left -= len(found)
        start = stop
    if left:
        raise changed


def read_parts(catalog: Catalog, parts: Sequence[Part]) -> tuple[list[Any], list[str]]:
    """The rows of all parts in order and what is to be predicted of each; every dataset is read once."""
    rows, derived = read_derived(catalog, parts)
    return rows, derived.targets.tolist()


def read_derived(catalog: Catalog, parts: Sequence[Part]) -> tuple[list[Any], Manifest]:
    """The rows of all parts in order, and the manifest that tells their labels; every dataset is read once."""
    root = current_settings().manifests
    derived = derive(root, parts)
    rows: dict[tuple[str, int], Any] = {}
    for part in one_per_dataset(parts):
        hashes = load_manifest(root, part.dataset.fingerprint).row_hashes
        for chunk, numbers in read_rows(catalog.dataset(part.dataset.name), rows_in(part.spans), hashes):
            rows |= {(part.dataset.fingerprint, number): row for number, row in zip(numbers, chunk, strict=True)}
    return [rows[part.dataset.fingerprint, number] for part in parts for number in rows_in(part.spans)], derived
