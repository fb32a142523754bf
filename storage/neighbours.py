"""Nearest neighbours that were searched before, kept so that a changed dataset is searched only where it is new.

A search is one file named by a checksum of its bytes: `<root>/<key>/<checksum>.npz`. The key is that of the features
and, below it, what was done with them. Nothing rests on a search: what is deleted, damaged or could not be written is
searched again.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Container, Iterator
from dataclasses import dataclass, fields
from hashlib import blake2b
from pathlib import Path

import numpy as np

from storage.in_place import put_in_place

# For each model, layer and distance: room for a few training and test splits that are asked about by turns.
_KEPT = 4
_LARGEST_BYTES = 2**26


@dataclass(frozen=True)
class Search:
    """The training rows nearest to each test row.

    `train` and `test` are the hashes of the rows that were compared, (rows, 2) uint64, each row once; `rows` (test
    rows, width) int32 are numbers of training rows, nearest first, and `distances` (test rows, width) float64 theirs.
    At equal distance the earlier training row is the nearer. After the last one known stand -1 and infinity.
    """

    train: np.ndarray
    test: np.ndarray
    rows: np.ndarray
    distances: np.ndarray


class SearchStore:
    """Searches in a local directory, shared by every process that opens it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, key: str) -> Iterator[tuple[Path, Search]]:
        """The searches under a key and their files, the last used first. A damaged one is dropped."""
        for file in self._files(key):
            with contextlib.suppress(FileNotFoundError):
                if search := _load(file):
                    yield file, search
                else:
                    file.unlink(missing_ok=True)

    def touch(self, file: Path) -> None:
        """Say that a search was of use."""
        with contextlib.suppress(OSError):
            os.utime(file)

    def keep(self, key: str, search: Search) -> None:
        """Store a search, and drop those that were not used for longest. Where the disk refuses, nothing is kept."""
        buffer = io.BytesIO()
        np.savez(buffer, **{field.name: getattr(search, field.name) for field in fields(search)})
        content = buffer.getvalue()
        if len(content) > _LARGEST_BYTES:
            return
        file = self._root / key / f"{_checksum(content)}.npz"
        with contextlib.suppress(OSError):
            with put_in_place(file) as temporary:
                temporary.write_bytes(content)
            for old in self._files(key)[_KEPT:]:
                old.unlink(missing_ok=True)

    def _files(self, key: str) -> list[Path]:
        used = {}
        for file in (self._root / key).glob("*.npz"):
            with contextlib.suppress(FileNotFoundError):
                used[file] = file.stat().st_mtime_ns
        return sorted(used, key=lambda file: (-used[file], file.name))


def forget_searches(root: Path, keys: Container[str] | None, but: Container[str], before: float | None) -> None:
    """Delete the searches in features of these keys, or of any; where a time is given, those not used since then."""
    for directory in root.glob("*"):
        if directory.name not in but and (keys is None or directory.name in keys):
            for file in directory.rglob("*.npz"):
                with contextlib.suppress(FileNotFoundError):
                    if before is None or file.stat().st_mtime < before:
                        file.unlink()


def _load(file: Path) -> Search | None:
    content = file.read_bytes()
    if _checksum(content) != file.stem:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return Search(*(arrays[field.name] for field in fields(Search)))


def _checksum(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()
