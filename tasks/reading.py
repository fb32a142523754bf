"""Reading chosen rows of a registered dataset, checked against its manifest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from storage.catalog import DatasetRecord
from storage.errors import EvaluationError
from tasks.readers import open_reader
from tasks.readers.base import Rows


def read_rows(dataset: DatasetRecord, wanted: np.ndarray, row_hashes: np.ndarray) -> Iterator[tuple[Rows, np.ndarray]]:
    """The rows whose numbers are `wanted`, with these numbers, ascending and chunk by chunk.

    `row_hashes` are those of all rows of the dataset. Raises a transient EvaluationError when the files are of
    other content; what stands after the last wanted row is not looked at.
    """
    changed = EvaluationError(f"dataset {dataset.name} changed while it was read", transient=True, fix="ask again")
    is_wanted = np.zeros(len(row_hashes), dtype=bool)
    is_wanted[wanted] = True
    left = int(is_wanted.sum())
    start = 0
    for chunk in open_reader(dataset.type, dataset.path, dataset.reader_options).chunks():
        if not left:
            return
        stop = start + len(chunk.rows)
        if not np.array_equal(chunk.row_hashes, row_hashes[start:stop]):
            raise changed
        found = np.flatnonzero(is_wanted[start:stop])
        if len(found):
            yield [chunk.rows[index] for index in found], start + found  # type: ignore[misc, call-overload]
        left -= len(found)
        start = stop
    if left:
        raise changed
