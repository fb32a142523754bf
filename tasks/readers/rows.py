"""What readers share: the hash that identifies a row's features, and the order of classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

from tasks.readers.base import ROW_HASH_BYTES


def row_hashes(features: Iterable[bytes]) -> np.ndarray:
    """BLAKE2b of each row's features alone: (rows, ROW_HASH_BYTES) uint8."""
    digests = [blake2b(row, digest_size=ROW_HASH_BYTES).digest() for row in features]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, ROW_HASH_BYTES)


def ordered_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels, sorted: by value when all are numbers, else as text.

    >>> ordered_classes(["10", "9", "9"])
    ('9', '10')
    """
    distinct = sorted(set(labels))
    try:
        return tuple(sorted(distinct, key=float))
    except ValueError:
        return tuple(distinct)


def label_indices(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """The position of each label in `classes`: (rows,) int64."""
    positions = {name: index for index, name in enumerate(classes)}
    return np.array([positions[label] for label in labels], dtype=np.int64)
