"""Clusters of models that were found before, kept with the matrix they were found in.

They are one file, `<root>/<key>.clusters`: a checksum, and what it is of. Nothing rests on them: what is deleted,
damaged or could not be written is found again.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, fields
from hashlib import blake2b
from pathlib import Path

import numpy as np

from storage.in_place import put_in_place

# Room for the matrices of a few rankers and choices of models that are looked at by turns.
_KEPT = 8
_CHECKSUM_BYTES = 16


@dataclass(frozen=True, eq=False)
class KeptClusters:
    """The names of `models` and `datasets`, `values` (models, datasets), and `labels` (models,), equal in a cluster."""

    models: np.ndarray
    datasets: np.ndarray
    values: np.ndarray
    labels: np.ndarray


class ClusterStore:
    """Clusters in a local directory, shared by every process that opens it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, key: str) -> KeptClusters | None:
        """What is kept under a key; None where that is nothing, or damaged."""
        try:
            content = self._file(key).read_bytes()
        except OSError:
            return None
        checksum, arrays = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
        if checksum != _checksum(arrays):
            return None
        with np.load(io.BytesIO(arrays), allow_pickle=False) as found:
            return KeptClusters(*(found[field.name] for field in fields(KeptClusters)))

    def keep(self, key: str, clusters: KeptClusters) -> None:
        """Store clusters, and drop those that were written longest ago. Where the disk refuses, nothing is kept."""
        buffer = io.BytesIO()
        np.savez(buffer, **{field.name: getattr(clusters, field.name) for field in fields(clusters)})
        arrays = buffer.getvalue()
        with contextlib.suppress(OSError):
            with put_in_place(self._file(key)) as temporary:
                temporary.write_bytes(_checksum(arrays) + arrays)
            files = sorted(self._root.glob("*.clusters"), key=lambda file: -file.stat().st_mtime_ns)
            for old in files[_KEPT:]:
                old.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self._root / f"{key}.clusters"


def _checksum(content: bytes) -> bytes:
    return blake2b(content, digest_size=_CHECKSUM_BYTES).digest()
