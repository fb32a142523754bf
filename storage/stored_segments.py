"""The segments of the feature store as files: what there is, whether it is whole, and deleting it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from storage.features import _checksum
from storage.fingerprints import fingerprint_of
from storage.views import EMBEDDING_VERSION

_ROWS, _VECTORS = ".rows.npy", ".npy"
# Every view there may be of a model's forward pass.
_MOST_LAYERS = 512
_LAYERS = ("last", "mean", "probabilities", *map(str, range(_MOST_LAYERS)))
_POOLINGS = ("default", "cls", "mean", "max", "last", "first")


@dataclass(frozen=True)
class Segment:
    """One segment, or what is left of it: its key in the store, its name (the checksum of its content) and files."""

    key: str
    name: str
    files: tuple[Path, ...]
    size_bytes: int
    modified: float

    @property
    def has_both_files(self) -> bool:
        return len(self.files) == 2

    def is_intact(self) -> bool:
        """Whether both files are there and their content is what the name says; reads all of it."""
        if not self.has_both_files:
            return False
        vectors, rows = self.files
        with contextlib.suppress(OSError, ValueError, EOFError):
            return _checksum(np.load(rows), np.load(vectors, mmap_mode="r")) == self.name
        return False

    def delete(self) -> None:
        """Delete it, the row hashes first, so that nobody finds rows whose vectors are gone."""
        for file in reversed(self.files):
            file.unlink(missing_ok=True)


def segments_in(root: Path) -> Iterator[Segment]:
    """Every segment of the feature store in a directory."""
    found: dict[tuple[Path, str], list[Path]] = {}
    for file in sorted(root.glob(f"*/[!.]*{_VECTORS}")):
        found.setdefault((file.parent, file.name.split(".")[0]), []).append(file)
    for (directory, name), files in found.items():
        with contextlib.suppress(FileNotFoundError):
            stats = [file.stat() for file in files]
            size, modified = sum(stat.st_size for stat in stats), max(stat.st_mtime for stat in stats)
            yield Segment(directory.name, name, tuple(files), size, modified)


def keys_of(models: Iterable[str]) -> set[str]:
    """The keys under which features of models (fingerprints) may be stored, by any version of the embedding code."""
    versions = range(1, EMBEDDING_VERSION + 1)
    return {fingerprint_of(*parts) for parts in product(models, _LAYERS, _POOLINGS, versions)}
