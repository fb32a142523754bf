"""Pairs of models that may be near, found without comparing all with all.

Dasgupta and Freund, Random projection trees and low dimensional manifolds, 2008.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_TREES = 4
# Rows of which all pairs are compared.
_LEAF = 512
_NEIGHBOURS = 8
# With fewer common datasets two models are infinitely far apart.
_COMMON = 6


def near_pairs(profiles: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Pairs of rows (pairs, 2), each ascending and once, of profiles (rows, datasets), NaN where unknown.

    Several trees halve the rows along random directions until a few hundred are left; of those each row gets its
    nearest by the mean square difference on common datasets.
    """
    import numpy as np

    known = ~np.isnan(profiles)
    counts = np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, profiles - np.nansum(profiles, axis=0) / counts, 0.0).astype(np.float32)
    # What is unknown of a row is taken to lie as far from the dataset's mean as the row does elsewhere.
    general = centred.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    filled = np.where(known, centred, general[:, None])
    found = [_nearest(centred, known, leaf) for _ in range(_TREES) for leaf in _leaves(filled, random)]
    codes = np.unique(np.concatenate([low * len(profiles) + high for low, high in found]))
    return np.stack(np.divmod(codes, len(profiles)), axis=1)


def _leaves(filled: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    """The row numbers in each leaf of one tree."""
    import numpy as np

    waiting, leaves = [np.arange(len(filled))], []
    while waiting:
        rows = waiting.pop()
        if len(rows) <= _LEAF:
            leaves.append(rows)
            continue
        # The direction from one row to another follows how these rows vary.
        one, other = filled[random.choice(rows, 2, replace=False)]
        order = np.argsort(filled[rows] @ (one - other), kind="stable")
        waiting += [rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]]
    return leaves


def _nearest(centred: np.ndarray, known: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lower and higher row numbers of pairs of these rows of which one is among the nearest of the other."""
    import numpy as np

    x, is_known = centred[rows], known[rows].astype(np.float32)
    squares = x * x @ is_known.T
    common = is_known @ is_known.T
    apart = (squares + squares.T - 2 * x @ x.T) / np.maximum(common, 1)
    apart[common < _COMMON] = np.inf
    np.fill_diagonal(apart, np.inf)
    count = min(_NEIGHBOURS, len(rows) - 1)
    nearest = np.argpartition(apart, count - 1, axis=1)[:, :count]
    one, other = np.repeat(rows, count), rows[nearest.ravel()]
    kept = np.isfinite(np.take_along_axis(apart, nearest, axis=1).ravel())
    return np.minimum(one, other)[kept], np.maximum(one, other)[kept]
