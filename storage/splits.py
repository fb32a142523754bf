"""Two splits of a dataset: holding one out where a question names none, and what two have in common."""

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

    A class of two rows or more has one at least on either side, a single row is for training. Where a row has not
    one class (several labels, tagged words, a number), `share` of all rows is for testing. Rows are drawn by
    a keyed hash of their content, so that the same seed draws the same rows everywhere, and most of them still
    after rows were added or replaced. Raises StoreError when every class has a single row.
    """
    key = seed.to_bytes(_SEED_BYTES, "little", signed=True)
    digests = (blake2b(row.tobytes(), key=key, digest_size=_DRAW_BYTES).digest() for row in manifest.row_hashes)
    draws = np.frombuffer(b"".join(digests), dtype="<u8")
    is_test = np.zeros(len(draws), dtype=bool)
    for rows in _strata(manifest):
        if len(rows) >= 2:
            number = min(max(round(share * len(rows)), 1), len(rows) - 1)
            is_test[rows[np.argsort(draws[rows], kind="stable")[:number]]] = True
    if not is_test.any():
        raise StoreError("no test rows can be held out: every class has a single row", fix="name some with TESTED ON")
    return spans_of(np.flatnonzero(~is_test)), spans_of(np.flatnonzero(is_test))


def count_shared(train: Manifest, test: Manifest) -> int:
    """How many test rows have exactly the features of some training row, whatever their labels."""
    # As text without its last zero bytes, which are still the same bytes of a fixed length.
    content = f"S{train.row_hashes.shape[1]}"
    return int(np.isin(_as(content, test.row_hashes), _as(content, train.row_hashes)).sum())


def _strata(manifest: Manifest) -> list[np.ndarray]:
    if manifest.task in ("classification", "pair_classification"):
        return [np.flatnonzero(manifest.labels == label) for label in range(len(manifest.classes))]
    return [np.arange(manifest.num_rows)]


def _as(content: str, row_hashes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(row_hashes).view(content).ravel()
