"""The feature store: `(model, layer, pooling, row) → vector`, in checksummed memory-mapped segments.

Segments (storage.segments) only divide storage: rows are found wherever they stand. Those in the home are mapped into
memory. With a shared store (SHIFT_STORE_URL) the home is its working copy: row hashes are fetched from there when rows
are looked for, vectors when they are read, and what is written goes to both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from storage.errors import LostFeaturesError, StoreError
from storage.fingerprints import fingerprint_of
from storage.segments import ROWS, VECTORS, Segment, put_in_place, write_segment
from storage.settings import Settings
from storage.shared_files import SharedFiles
from storage.views import EMBEDDING_VERSION, LAST, View

_FOLDER = "features"


def open_features(settings: Settings) -> FeatureStore:
    """The feature store of an installation."""
    return FeatureStore(settings.features, settings.store_url)


class FeatureStore:
    """Features in a local directory, shared by every process that opens it, and at `url` by several machines."""

    def __init__(self, root: Path, url: str | None = None) -> None:
        self._root = root
        self._shared = SharedFiles(url) if url else None

    def key(self, model_fingerprint: str, view: View = LAST) -> str:
        """Under what the features of a model are stored."""
        return fingerprint_of(model_fingerprint, view.layer, view.pooling, EMBEDDING_VERSION)

    def missing(self, key: str, row_hashes: np.ndarray) -> np.ndarray:
        """Indices into `row_hashes` ((n, 16) uint8) of rows without features; of equal rows only the first."""
        if not len(row_hashes):
            return np.empty(0, dtype=np.int64)
        wanted = _Wanted(row_hashes)
        found = np.zeros(len(wanted.first), dtype=bool)
        for segment, hashes in self._segments(key):
            here, _ = wanted.find(hashes)
            if len(here):
                segment.touch()
                found[here] = True
            if found.all():
                break
        return np.sort(wanted.first[~found])

    def write(self, key: str, row_hashes: np.ndarray, vectors: np.ndarray) -> None:
        """Add `vectors` ((n, dimensions) float32) for rows. Raises StoreError when the disk refuses."""
        directory = self._root / key
        try:
            segment = write_segment(directory, row_hashes, vectors)
        except OSError as error:
            raise StoreError(
                f"features cannot be written: {error.strerror or error}",
                subject=str(directory),
                fix="free some disk space or make the directory writable, then ask again: finished work is kept",
            ) from error
        if self._shared is not None:
            for file in (segment.vectors, segment.rows):
                self._shared.put(file, _path(file))

    def read(self, key: str, row_hashes: np.ndarray) -> np.ndarray:
        """Features of the rows, (n, dimensions) float32, in their order.

        A segment whose content does not match its checksum is dropped. Raises LostFeaturesError when features of any
        row are missing.
        """
        assert len(row_hashes)
        wanted = _Wanted(row_hashes)
        found = np.zeros(len(wanted.first), dtype=bool)
        result: np.ndarray | None = None
        num_dropped = 0
        for segment, hashes in self._segments(key):
            here, _ = wanted.find(hashes)
            if found[here].all():
                continue
            opened = self._open(segment)
            if opened is None:
                num_dropped += self.delete(segment)
                continue
            segment.touch()
            hashes, vectors = opened
            here, there = wanted.find(hashes)
            if result is None:
                result = np.empty((len(row_hashes), vectors.shape[1]), dtype=np.float32)
            result[wanted.first[here]] = vectors if len(there) == len(vectors) else vectors[there]
            found[here] = True
            if found.all():
                break
        if result is None or not found.all():
            num_missing = int((~found)[wanted.distinct].sum())
            raise LostFeaturesError(
                f"features of {num_missing} of {len(row_hashes)} rows are missing",
                was="damaged" if num_dropped else "deleted meanwhile",
                subject=str(self._root / key),
                fix="ask again: what is missing is computed anew",
            )
        same = wanted.first[wanted.distinct]
        repeated = np.flatnonzero(same != np.arange(len(same)))
        result[repeated] = result[same[repeated]]
        return result

    def drop_torn(self, key: str) -> int:
        """Delete the segments on this machine without readable row hashes, in which nothing is found; how many.

        To be called by whoever alone writes features of the model: of a segment that is being written there are no
        row hashes yet.
        """
        names = {file.name.split(".")[0] for file in (self._root / key).glob(f"*{VECTORS}")}
        torn = [segment for name in names if (segment := Segment(self._root / key, name)).load_hashes() is None]
        return sum(self.delete(segment) for segment in torn)

    def not_here(self) -> Iterator[Segment]:
        """The segments of the shared store of which nothing is on this machine."""
        if self._shared is not None:
            for key in sorted(self._shared.names(_FOLDER)):
                for name in sorted(self._shared_segments(key)):
                    segment = Segment(self._root / key, name)
                    if not (segment.rows.exists() or segment.vectors.exists()):
                        yield segment

    def delete(self, segment: Segment) -> bool:
        """Delete a segment wherever it is; False when it was gone from this machine already."""
        was_here = segment.rows.exists() or segment.vectors.exists()
        segment.delete()
        if self._shared is not None:
            for file in (segment.rows, segment.vectors):
                self._shared.delete(_path(file))
        return was_here

    def _segments(self, key: str) -> Iterator[tuple[Segment, np.ndarray]]:
        """Every segment with its row hashes, those on this machine first; torn ones are left out."""
        directory = self._root / key
        readable = set()
        for file in sorted(directory.glob(f"*{ROWS}")):
            segment = Segment(directory, file.name.removesuffix(ROWS))
            if (hashes := segment.load_hashes()) is not None:
                readable.add(segment.name)
                yield segment, hashes
        for name in sorted(self._shared_segments(key) - readable):
            segment = Segment(directory, name)
            self._fetch(segment.rows)
            if (hashes := segment.load_hashes()) is not None:
                yield segment, hashes
            else:
                self.delete(segment)

    def _shared_segments(self, key: str) -> set[str]:
        """The names of the segments in the shared store, if there is one."""
        names = self._shared.names(f"{_FOLDER}/{key}") if self._shared is not None else set()
        return {name.removesuffix(ROWS) for name in names if name.endswith(ROWS)}

    def _open(self, segment: Segment) -> tuple[np.ndarray, np.ndarray] | None:
        """The row hashes and vectors of a segment; None when they are damaged or gone wherever it is."""
        if self._shared is None:
            return segment.open()
        if not segment.vectors.exists():
            self._fetch(segment.vectors)
        opened = segment.open()
        if opened is None:
            # What is damaged here only is mended from there.
            self._fetch(segment.vectors)
            self._fetch(segment.rows)
            opened = segment.open()
        return opened

    def _fetch(self, file: Path) -> None:
        """Bring a file of a segment from the shared store, in place of the one that is here."""
        assert self._shared is not None
        with contextlib.suppress(FileNotFoundError), put_in_place(file) as temporary:
            self._shared.fetch(_path(file), temporary)


class _Wanted:
    """Rows that are looked for: `first` says where each distinct one comes first, `distinct` which one each row is."""

    def __init__(self, row_hashes: np.ndarray) -> None:
        halves = _halves(row_hashes)
        self._numbers, self.first, self.distinct = np.unique(halves[:, 0], return_index=True, return_inverse=True)
        self._halves = halves[self.first]

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the distinct rows are among `hashes`, and where."""
        halves = _halves(hashes)
        # In order, neighbours are looked for side by side, in what is in the processor's caches already.
        order = np.argsort(halves[:, 0])
        near = np.empty(len(halves), dtype=np.int64)
        near[order] = np.minimum(np.searchsorted(self._numbers, halves[order, 0]), len(self._numbers) - 1)
        is_here = (self._halves[near] == halves).all(axis=1)
        return near[is_here], np.flatnonzero(is_here)


def _halves(row_hashes: np.ndarray) -> np.ndarray:
    """Hashes as two numbers each."""
    return np.ascontiguousarray(row_hashes, dtype=np.uint8).view(np.uint64)


def _path(file: Path) -> str:
    """Where a file of a segment is in the shared store."""
    return f"{_FOLDER}/{file.parent.name}/{file.name}"
