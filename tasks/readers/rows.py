"""What readers share: the hash that identifies a row's features, and the numbers of labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

from tasks.readers.base import ROW_HASH_BYTES


def row_hashes(features: Iterable[bytes]) -> np.ndarray:
    """BLAKE2b of each row's features alone: (rows, ROW_HASH_BYTES) uint8."""
    digests = [blake2b(row, digest_size=ROW_HASH_BYTES).digest() for row in features]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, ROW_HASH_BYTES)


def label_indices(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """The position of each label in `classes`: (rows,) int64."""
    positions = {name: index for index, name in enumerate(classes)}
    return np.array([positions[label] for label in labels], dtype=np.int64)
