"""The segments of the feature store as files: what there is, and whether it is whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from storage.errors import StoreError
from storage.fingerprints import fingerprint_of
from storage.segments import VECTORS, Segment
from storage.views import EMBEDDING_VERSION

# Every view there may be of a model's forward pass.
_MOST_LAYERS = 512
_LAYERS = ("last", "mean", "probabilities", *map(str, range(_MOST_LAYERS)))
_POOLINGS = ("default", "cls", "mean", "max", "last", "first")


@dataclass(frozen=True)
class StoredSegment(Segment):
    """One segment, or what is left of it: how many of its files there are, their bytes, and when it was last used."""

    num_files: int
    size_bytes: int
    last_used: float

    @property
    def key(self) -> str:
        return self.directory.name

    @property
    def has_both_files(self) -> bool:
        return self.num_files == 2

    def is_intact(self) -> bool:
        """Whether both files are there and their content is what the name says; reads all of it."""
        with contextlib.suppress(StoreError):
            return self.open() is not None
        return False


def segments_in(root: Path) -> Iterator[StoredSegment]:
    """Every segment of the feature store in a directory."""
    for directory in sorted(root.glob("*/")):
        found: dict[str, list[os.stat_result]] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(directory) as files:
            for file in files:
                if file.name.endswith(VECTORS):
                    with contextlib.suppress(FileNotFoundError):
                        found.setdefault(file.name.split(".")[0], []).append(file.stat())
        for name, stats in sorted(found.items()):
            # Whoever uses a segment says so by its row hashes, which were written last.
            last_used = max(stat.st_mtime for stat in stats)
            yield StoredSegment(directory, name, len(stats), sum(stat.st_size for stat in stats), last_used)


def keys_of(models: Iterable[str]) -> set[str]:
    """The keys under which features of models (fingerprints) may be stored, by any version of the embedding code."""
    versions = range(1, EMBEDDING_VERSION + 1)
    return {fingerprint_of(*parts) for parts in product(models, _LAYERS, _POOLINGS, versions)}
