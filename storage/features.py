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
from storage.in_place import put_in_place
from storage.row_index import RowIndex, forget_index, halves_of, index_of
from storage.segments import ROWS, VECTORS, Segment, write_segment
from storage.settings import Settings
from storage.shared_files import SharedFiles
from storage.views import EMBEDDING_VERSION, LAST, View

_FOLDER = "features"


def open_features(settings: Settings, *, looks_once: bool = False) -> FeatureStore:
    """The feature store of an installation."""
    return FeatureStore(settings.features, settings.store_url, looks_once=looks_once)


class FeatureStore:
    """Features in a local directory, shared by every process that opens it, and at `url` by several machines.

    A plan asks for the rows of many models at one moment: with `looks_once` what other machines put at `url` after it
    was first looked for is not seen, and keys without features cost one request together.
    """

    def __init__(self, root: Path, url: str | None = None, *, looks_once: bool = False) -> None:
        self._root = root
        self._shared = SharedFiles(url) if url else None
        self._seen: dict[str, set[str]] | None = {} if looks_once else None

    def key(self, model_fingerprint: str, view: View = LAST) -> str:
        """Under what the features of a model are stored."""
        return fingerprint_of(model_fingerprint, view.layer, view.pooling, EMBEDDING_VERSION)

    def missing(self, key: str, row_hashes: np.ndarray) -> np.ndarray:
        """Indices into `row_hashes` ((n, 16) uint8) of rows without features; of equal rows only the first."""
        if not len(row_hashes):
            return np.empty(0, dtype=np.int64)
        wanted = _Wanted(row_hashes)
        index, places = self._find(key, wanted)
        is_found = places >= 0
        for number in np.unique(index.segments_of(places[is_found])):
            index.segments[number].touch()
        return np.sort(wanted.first[~is_found])

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
        was_dropped = False
        while True:
            index, places = self._find(key, wanted)
            segments = index.segments_of(places)
            numbers = np.unique(segments[places >= 0]).tolist()
            opened = {number: self._open(index.segments[number]) for number in numbers}
            vectors = {
                number: found[1]
                for number, found in opened.items()
                if found is not None and np.array_equal(halves_of(found[0]), index.halves[index.rows_of(number)])
            }
            if len(vectors) == len(numbers):
                break
            forget_index(index.directory)
            was_dropped |= sum(self.delete(index.segments[n]) for n, found in opened.items() if found is None) > 0
        if (places < 0).any():
            num_missing = int((places < 0)[wanted.distinct].sum())
            raise LostFeaturesError(
                f"features of {num_missing} of {len(row_hashes)} rows are missing",
                was="damaged" if was_dropped else "deleted meanwhile",
                subject=str(self._root / key),
                fix="ask again: what is missing is computed anew",
            )
        result = np.empty((len(row_hashes), vectors[numbers[0]].shape[1]), dtype=np.float32)
        # In the order in which they are stored.
        order = np.argsort(places)
        for number in numbers:
            here = order[segments[order] == number]
            rows = places[here] - index.rows_of(number).start
            stored = vectors[number]
            index.segments[number].touch()
            result[wanted.first[here]] = stored if len(rows) == len(stored) else stored[rows]
        same = wanted.first[wanted.distinct]
        repeated = np.flatnonzero(same != np.arange(len(same)))
        result[repeated] = result[same[repeated]]
        return result

    def drop_torn(self, key: str) -> int:
        """Delete the segments on this machine without readable row hashes, in which nothing is found; how many.

        To be called by whoever alone writes features of the model: of a segment that is being written there are no
        row hashes yet.
        """
        directory = self._root / key
        names = {file.name.split(".")[0] for file in directory.glob(f"*{VECTORS}")}
        return sum(self.delete(Segment(directory, name)) for name in names - index_of(directory).sizes.keys())

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

    def _find(self, key: str, wanted: _Wanted) -> tuple[RowIndex, np.ndarray]:
        """Where rows are among those of the segments on this machine, -1 where they are not.

        Those of the shared store's segments are fetched while rows are not found.
        """
        index = index_of(self._root / key)
        places = index.find(wanted.halves)
        if self._shared is not None and (places < 0).any():
            elsewhere = sorted(self._shared_segments(key) - index.sizes.keys())
            while elsewhere and (places < 0).any():
                # As many again as there are, for they are all put in order anew.
                fetched = [Segment(index.directory, name) for name in elsewhere[: max(1, len(index.sizes))]]
                elsewhere = elsewhere[len(fetched) :]
                for segment in fetched:
                    self._fetch(segment.rows)
                index = index_of(index.directory)
                for segment in fetched:
                    if segment.name not in index.sizes:
                        self.delete(segment)
                places = index.find(wanted.halves)
        return index, places

    def _shared_segments(self, key: str) -> set[str]:
        """The names of the segments in the shared store, if there is one."""
        if self._shared is None or (self._seen is not None and key not in self._names(_FOLDER)):
            return set()
        return {name.removesuffix(ROWS) for name in self._names(f"{_FOLDER}/{key}") if name.endswith(ROWS)}

    def _names(self, folder: str) -> set[str]:
        assert self._shared is not None
        if self._seen is None:
            return self._shared.names(folder)
        if folder not in self._seen:
            self._seen[folder] = self._shared.names(folder)
        return self._seen[folder]

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
        halves = halves_of(row_hashes)
        _, self.first, self.distinct = np.unique(halves[:, 0], return_index=True, return_inverse=True)
        self.halves = halves[self.first]


def _path(file: Path) -> str:
    """Where a file of a segment is in the shared store."""
    return f"{_FOLDER}/{file.parent.name}/{file.name}"
