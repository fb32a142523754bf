"""Where rows stand among the segments of a directory, kept in memory: what a segment holds never changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from cachetools import LRUCache

from storage.segments import ROWS, Segment

# Of the directories used last, in a process. A row takes 24 bytes: its hash, and its place in the order of all.
_KEPT_BYTES = 256 << 20
_ROW_BYTES = 24


@dataclass(frozen=True, eq=False)
class RowIndex:
    """The rows of segments, one segment's after the other's: `halves` are their hashes, (rows, 2) uint64.

    `sizes` are the segments by name with the bytes of their row hashes' files, `stops` (segments,) where each ends.
    """

    directory: Path
    sizes: Mapping[str, int] = field(default_factory=dict)
    halves: np.ndarray = field(default_factory=lambda: np.empty((0, 2), dtype=np.uint64))
    stops: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @cached_property
    def segments(self) -> Sequence[Segment]:
        return [Segment(self.directory, name) for name in self.sizes]

    @property
    def num_bytes(self) -> int:
        return _ROW_BYTES * len(self.halves)

    def find(self, halves: np.ndarray) -> np.ndarray:
        """Where rows are among those of the segments, of several places the first; -1 where they are not."""
        if not len(self.halves):
            return np.full(len(halves), -1)
        order, numbers = self._order
        places = order[np.minimum(np.searchsorted(numbers, halves[:, 0]), len(order) - 1)]
        return np.where((self.halves[places] == halves).all(axis=1), places, -1)

    def segments_of(self, places: np.ndarray) -> np.ndarray:
        """The numbers of the segments that hold these places."""
        return np.searchsorted(self.stops, places, side="right")

    def rows_of(self, segment: int) -> slice:
        """The places of a segment's rows."""
        return slice(int(self.stops[segment - 1]) if segment else 0, int(self.stops[segment]))

    @cached_property
    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self.halves[:, 0], kind="stable")
        return order, self.halves[order, 0]


_kept: LRUCache[Path, RowIndex] = LRUCache(_KEPT_BYTES, getsizeof=lambda index: index.num_bytes)
_lock = threading.Lock()


def index_of(directory: Path) -> RowIndex:
    """The index of the segments in a directory; those whose row hashes cannot be read are left out.

    Only files that are new, or of another size than before, are read. Raises StoreError when the disk does not give
    them.
    """
    sizes = _sizes(directory)
    with _lock:
        before = _kept.get(directory)
    if before is not None and before.sizes == sizes:
        return before
    index = _read(directory, sizes, before or RowIndex(directory))
    if index.num_bytes <= _KEPT_BYTES:
        with _lock:
            _kept[directory] = index
    return index


def forget_index(directory: Path) -> None:
    """Have the files of a directory read anew: they are not what they were."""
    with _lock:
        _kept.pop(directory, None)


def halves_of(row_hashes: np.ndarray) -> np.ndarray:
    """Hashes, (n, 16) uint8, as two numbers each."""
    return np.ascontiguousarray(row_hashes, dtype=np.uint8).view(np.uint64)


def _sizes(directory: Path) -> dict[str, int]:
    """The names of the segments in a directory, with the bytes of the files of their row hashes."""
    sizes = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(ROWS):
                    sizes[entry.name.removesuffix(ROWS)] = entry.stat().st_size
    except FileNotFoundError:
        # The directory, or a segment that is deleted just now, which is no longer asked for.
        return {} if not directory.exists() else _sizes(directory)
    return dict(sorted(sizes.items()))


def _read(directory: Path, sizes: Mapping[str, int], before: RowIndex) -> RowIndex:
    numbers = {name: number for number, name in enumerate(before.sizes)}
    found: dict[str, np.ndarray] = {}
    for name, size in sizes.items():
        if before.sizes.get(name) == size:
            found[name] = before.halves[before.rows_of(numbers[name])]
        elif (hashes := Segment(directory, name).load_hashes()) is not None:
            found[name] = halves_of(hashes)
    if not found:
        return RowIndex(directory)
    return RowIndex(
        directory,
        {name: sizes[name] for name in found},
        np.concatenate(list(found.values())),
        np.cumsum([len(halves) for halves in found.values()]),
    )
