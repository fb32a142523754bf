"""Holding out a test split where a question names none."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from storage.derivation import spans_of
from storage.errors import StoreError
from storage.manifests import Manifest
from storage.parts import Spans

_SEED_BYTES = 8
_DRAW_BYTES = 8


def held_out(manifest: Manifest, share: float = 0.2, seed: int = 0) -> tuple[Spans, Spans]:
    """The rows to train and to test on, ascending; `share` of each class is for testing.

    A class of two rows or more has one at least on either side, a single row is for training. Rows are drawn by
    a keyed hash of their content, so that the same seed draws the same rows everywhere, and most of them still
    after rows were added or replaced. Raises StoreError when every class has a single row.
    """
    key = seed.to_bytes(_SEED_BYTES, "little", signed=True)
    digests = (blake2b(row.tobytes(), key=key, digest_size=_DRAW_BYTES).digest() for row in manifest.row_hashes)
    draws = np.frombuffer(b"".join(digests), dtype="<u8")
    is_test = np.zeros(len(draws), dtype=bool)
    for label in range(len(manifest.classes)):
        rows = np.flatnonzero(manifest.labels == label)
        if len(rows) >= 2:
            number = min(max(round(share * len(rows)), 1), len(rows) - 1)
            is_test[rows[np.argsort(draws[rows], kind="stable")[:number]]] = True
    if not is_test.any():
        raise StoreError("no test rows can be held out: every class has a single row", fix="name some with TESTED ON")
    return spans_of(np.flatnonzero(~is_test)), spans_of(np.flatnonzero(is_test))
