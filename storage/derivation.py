"""Derived datasets: registered ones with rows replaced, one after the other, or some of their rows.

They have no files of their own, only a manifest; their rows are read where the registered datasets have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from storage.errors import StoreError
from storage.evaluations import Subject
from storage.manifests import Manifest, join, load_manifest
from storage.parts import Part, Spans


def derive(root: Path, parts: Sequence[Part]) -> Manifest:
    """The manifest of the rows of all parts in order, with the classes that occur, matched by name.

    Equal rows with equal labels in equal order have one fingerprint, whatever they were derived from. `root` is
    where the manifests of the registered datasets are. Raises StoreError when a dataset lacks a row, and when
    the datasets are for different tasks.
    """
    manifests = {
        fingerprint: load_manifest(root, fingerprint) for fingerprint in {p.dataset.fingerprint for p in parts}
    }
    for part in parts:
        num_rows = manifests[part.dataset.fingerprint].num_rows
        for start, stop in part.spans:
            _require_row(part.dataset, start, num_rows)
            _require_row(part.dataset, stop - 1, num_rows)
    return join([manifests[part.dataset.fingerprint].take(rows_in(part.spans)) for part in parts])


def change_parts(
    dataset: Subject, num_rows: int, changes: Sequence[tuple[Sequence[int], Subject, Sequence[int]]]
) -> tuple[Part, ...]:
    """The parts of `dataset`, of `num_rows` rows, in which each change (rows, by, by_rows) puts rows of `by` in place.

    Rows count from 0 and are those of the datasets before any change. Raises StoreError when `dataset` lacks a row.
    """
    datasets = list(dict.fromkeys([dataset, *(by for _, by, _ in changes)]))
    origins = np.zeros(num_rows, dtype=np.int64)
    rows = np.arange(num_rows)
    for replaced, by, by_rows in changes:
        for row in replaced:
            _require_row(dataset, row, num_rows)
        origins[list(replaced)] = datasets.index(by)
        rows[list(replaced)] = by_rows
    edges = [0, *(np.flatnonzero(np.diff(origins)) + 1), num_rows]
    return tuple(Part(datasets[origins[start]], spans_of(rows[start:stop])) for start, stop in pairwise(edges))


def first_rows(manifest: Manifest, count: int) -> np.ndarray:
    """Which rows come first by the hashes of their content, in the order of these: (count,) int64, all if fewer.

    Hashes are as good as random, and the same wherever a row stands.
    """
    return np.lexsort(manifest.row_hashes.T[::-1])[:count]


def parts_with(parts: Sequence[Part], rows: np.ndarray) -> tuple[Part, ...]:
    """The rows of these numbers, of all parts together, in the order in which they stand."""
    edges = np.cumsum([0, *(part.num_rows for part in parts)])
    is_kept = np.zeros(edges[-1], dtype=bool)
    is_kept[rows] = True
    return tuple(
        Part(part.dataset, spans_of(rows_in(part.spans)[is_kept[start:stop]]))
        for part, (start, stop) in zip(parts, pairwise(edges), strict=True)
        if is_kept[start:stop].any()
    )


def rows_of(spans: Spans, manifest: Manifest) -> np.ndarray:
    """The hashes of these rows of a dataset: (rows, 16) uint8."""
    return manifest.row_hashes[rows_in(spans)]


def rows_in(spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """The number of every row in spans: (rows,) int64."""
    return np.concatenate([np.arange(start, stop) for start, stop in spans])


def spans_of(rows: np.ndarray) -> Spans:
    """The spans of rows in order.

    >>> spans_of(np.array([4, 5, 6, 9, 0]))
    ((4, 7), (9, 10), (0, 1))
    """
    edges = np.flatnonzero(np.diff(rows) != 1)
    starts, lasts = rows[[0, *(edges + 1)]], rows[[*edges, -1]]
    return tuple(zip(starts.tolist(), (lasts + 1).tolist(), strict=True))


def _require_row(dataset: Subject, row: int, num_rows: int) -> None:
    if not 0 <= row < num_rows:
        raise StoreError(
            f"{dataset.name} has {num_rows} rows and no row {row}",
            subject=dataset.name,
            fix=f"rows count from 0 to {num_rows - 1}",
        )
