"""The feature store: `(model, layer, pooling, row) → vector`, in checksummed memory-mapped segments.

A segment is a pair of files named by a checksum of its content: `<checksum>.rows.npy` holds the row hashes and
`<checksum>.npy` the vectors. Both are written under another name and moved into place, rows last, so that a
reader never sees half of one. Segments only divide storage: rows are found wherever they stand.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

import numpy as np

from storage.errors import StoreError
from storage.fingerprints import fingerprint_of
from storage.views import EMBEDDING_VERSION, LAST, View

# What numpy raises on a file that is torn or gone.
_UNREADABLE = (OSError, ValueError, EOFError)


class FeatureStore:
    """Features in a local directory, shared by every process that opens it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def key(self, model_fingerprint: str, view: View = LAST) -> str:
        """Under what the features of a model are stored."""
        return fingerprint_of(model_fingerprint, view.layer, view.pooling, EMBEDDING_VERSION)

    def missing(self, key: str, row_hashes: np.ndarray) -> np.ndarray:
        """Indices into `row_hashes` ((n, 16) uint8) of rows without features; of equal rows only the first."""
        halves = _halves(row_hashes)
        _, first = np.unique(halves[:, 0], return_index=True)
        first.sort()
        found = np.zeros(len(first), dtype=bool)
        for _, index in self._segments(key):
            found |= index.find(halves[first]) >= 0
        return first[~found]

    def write(self, key: str, row_hashes: np.ndarray, vectors: np.ndarray) -> None:
        """Add `vectors` ((n, dimensions) float32) for rows. Raises StoreError when the disk refuses."""
        hashes = np.ascontiguousarray(row_hashes, dtype=np.uint8)
        features = np.ascontiguousarray(vectors, dtype=np.float32)
        name = _checksum(hashes, features)
        directory = self._root / key
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _write_array(directory / f"{name}.npy", features)
            _write_array(directory / f"{name}.rows.npy", hashes)
        except OSError as error:
            raise StoreError(
                f"features cannot be written: {error.strerror or error}",
                subject=str(directory),
                fix="free some disk space or make the directory writable, then ask again: finished work is kept",
            ) from error

    def read(self, key: str, row_hashes: np.ndarray) -> np.ndarray:
        """Features of the rows, (n, dimensions) float32, in their order.

        A segment whose content does not match its checksum is dropped.
        Raises StoreError when features of any row are missing.
        """
        wanted = _halves(row_hashes)
        result: np.ndarray | None = None
        found = np.zeros(len(wanted), dtype=bool)
        for rows_file, index in self._segments(key):
            places = index.find(wanted)
            hits = (places >= 0) & ~found
            vectors = _open_vectors(rows_file) if hits.any() else None
            if vectors is None:
                continue
            if result is None:
                result = np.empty((len(wanted), vectors.shape[1]), dtype=np.float32)
            result[hits] = vectors[places[hits]]
            found |= hits
        if result is None or not found.all():
            raise StoreError(
                f"features of {int((~found).sum())} of {len(wanted)} rows are missing",
                subject=str(self._root / key),
                fix="ask again: what is missing is computed anew",
            )
        return result

    def _segments(self, key: str) -> Iterator[tuple[Path, _Index]]:
        """The file of row hashes and the index of every readable segment."""
        for rows_file in sorted((self._root / key).glob("*.rows.npy")):
            with contextlib.suppress(*_UNREADABLE):
                stat = rows_file.stat()
                yield rows_file, _load_index(rows_file, stat.st_ino, stat.st_mtime_ns)


@dataclass(frozen=True)
class _Index:
    """Where rows stand in a segment: their hashes as two numbers each, sorted by the first, and their places."""

    halves: np.ndarray
    places: np.ndarray

    def find(self, wanted: np.ndarray) -> np.ndarray:
        """The place of each wanted row ((n, 2) uint64), -1 where the segment lacks it."""
        near = np.minimum(np.searchsorted(self.halves[:, 0], wanted[:, 0]), len(self.places) - 1)
        return np.where((self.halves[near] == wanted).all(axis=1), self.places[near], -1)


def _halves(row_hashes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(row_hashes, dtype=np.uint8).view(np.uint64)


@lru_cache(maxsize=4096)
def _load_index(rows_file: Path, inode: int, modified: int) -> _Index:
    """The index of a segment, read once for each time it was written."""
    halves = _halves(np.load(rows_file))
    order = np.argsort(halves[:, 0], kind="stable")
    return _Index(halves[order], order)


def _open_vectors(rows_file: Path) -> np.ndarray | None:
    """The vectors of a segment, mapped into memory; None, and the segment dropped, when its checksum is wrong."""
    name = rows_file.name.removesuffix(".rows.npy")
    vectors_file = rows_file.with_name(f"{name}.npy")
    with contextlib.suppress(FileNotFoundError, ValueError, EOFError):
        vectors = np.load(vectors_file, mmap_mode="r")
        if _checksum(np.load(rows_file), vectors) == name:
            return vectors
    rows_file.unlink(missing_ok=True)
    vectors_file.unlink(missing_ok=True)
    return None


def _checksum(hashes: np.ndarray, vectors: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((hashes.shape, vectors.shape)).encode())
    digest.update(np.ascontiguousarray(hashes).data)
    digest.update(np.ascontiguousarray(vectors).data)
    return digest.hexdigest()


def _write_array(path: Path, array: np.ndarray) -> None:
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
