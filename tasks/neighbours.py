"""Nearest neighbours of rows known by their hashes: only what no earlier search has compared is compared now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from storage.neighbours import Search, SearchStore
from tasks.rankers.nearest_neighbour import SPARE_CANDIDATES, nearest_lists

# Positions looked at together where training rows occur several times.
_BLOCK_POSITIONS = 2**22


def find_neighbours(
    store: SearchStore,
    key: str,
    train: np.ndarray,
    test: np.ndarray,
    k: int,
    *,
    cosine: bool,
    features: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray | None:
    """What `nearest_rows` says of the features of `train` and `test`: indices (test rows, k), the same to the last.

    `train` and `test` are hashes of rows, (rows, 16) uint8; `features` reads the vectors of such. Of the searches
    under `key` that one is taken which leaves least to do: training rows it lacks are compared with the test rows, and
    merged by distance; test rows it lacks, or of which it does not know k neighbours that are still there, are
    compared with all training rows. None where that is not possible: there are fewer than k training rows, or a
    feature that is looked at is not finite.
    """
    if k > len(train):
        return None
    train_rows, train_numbers = _distinct(train)
    test_rows, test_numbers = _distinct(test)
    carried = _Carried.nothing(len(train_rows), len(test_rows))
    used = None
    for file, search in store.find(key):
        candidate = _carry(search, train_rows, test_rows, k)
        if candidate.work < carried.work:
            carried, used = candidate, file
        if not carried.work:
            break
    rows, distances = carried.rows, carried.distances
    if used is not None:
        store.touch(used)
    if carried.work:
        searched = _searched(carried, train_rows, test_rows, k, cosine, features)
        if searched is None:
            return None
        rows, distances = searched
        store.keep(key, Search(train_rows, test_rows, rows.astype(np.int32), distances))
    return _positions(rows, distances, train_numbers, k)[test_numbers]


@dataclass(frozen=True)
class _Carried:
    """What an earlier search says of the present rows, by their numbers; see Search.

    `is_known` (test rows,) bool: of the training rows that were there before, at least k are known or all of them.
    `is_all` (test rows,) bool: all of them. `is_new` (training rows,) bool: those that were not.
    """

    rows: np.ndarray
    distances: np.ndarray
    is_known: np.ndarray
    is_all: np.ndarray
    is_new: np.ndarray

    @classmethod
    def nothing(cls, train_rows: int, test_rows: int) -> _Carried:
        none = np.zeros(test_rows, dtype=bool)
        empty = np.empty((test_rows, 0))
        return cls(empty.astype(np.int64), empty, none, none, np.ones(train_rows, dtype=bool))

    @property
    def work(self) -> int:
        """How many pairs of rows are left to compare."""
        known = int(self.is_known.sum())
        return known * int(self.is_new.sum()) + (len(self.is_known) - known) * len(self.is_new)


def _carry(search: Search, train: np.ndarray, test: np.ndarray, k: int) -> _Carried:
    numbers = _numbers(search.train, train)
    kept = numbers[numbers >= 0]
    places = _numbers(test, search.test)
    rows, distances = search.rows[places].astype(np.int64), search.distances[places]
    is_listed = (rows >= 0) & (places >= 0)[:, None]
    if (np.diff(kept) < 0).any():
        # Rows change places, so of those as far as the last one listed another may come first.
        is_whole = is_listed.sum(axis=1) == len(search.train)
        is_listed &= is_whole[:, None] | (distances < np.where(is_listed, distances, -np.inf).max(axis=1)[:, None])
    rows = np.where(is_listed, numbers[rows], -1)
    is_there = rows >= 0
    is_all = (places >= 0) & (is_there.sum(axis=1) == len(kept))
    is_known = is_all | (is_there.sum(axis=1) >= k)
    is_new = np.ones(len(train), dtype=bool)
    is_new[kept] = False
    return _Carried(*_ordered(rows, np.where(is_there, distances, np.inf)), is_known, is_all, is_new)


def _searched(
    carried: _Carried,
    train: np.ndarray,
    test: np.ndarray,
    k: int,
    cosine: bool,
    features: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray] | None:
    """The lists of all test rows, once what is left to compare is compared; None where features are not finite."""
    is_merged = carried.is_known & carried.is_new.any()
    is_whole = ~carried.is_known
    is_read, is_test = carried.is_new | is_whole.any(), is_merged | is_whole
    train_x, test_x = features(_hashes(train[is_read])), features(_hashes(test[is_test]))
    if not (np.isfinite(train_x).all() and np.isfinite(test_x).all()):
        return None
    rows = np.full((len(test), k + SPARE_CANDIDATES), -1)
    distances = np.full(rows.shape, np.inf)
    is_all = np.ones(len(test), dtype=bool)
    for at, among in ((is_whole, np.ones_like(is_read)), (is_merged, carried.is_new)):
        if at.any():
            # All that was read, where it is searched whole: no copy.
            within = slice(None) if (among == is_read).all() else among[is_read]
            near, near_distances = nearest_lists(train_x[within], test_x[at[is_test]], k, cosine=cosine)
            rows[at, : near.shape[1]] = np.where(near >= 0, np.flatnonzero(among)[near], -1)
            distances[at, : near.shape[1]] = near_distances
            is_all[at] = (near >= 0).sum(axis=1) == among.sum()
    before, before_distances = carried.rows.copy(), carried.distances.copy()
    before[is_whole], before_distances[is_whole] = -1, np.inf
    # A list says nothing of what comes after its end, where the other may go on.
    is_certain = np.hstack(
        [
            _is_within(before, before_distances, rows, distances, is_all),
            _is_within(rows, distances, before, before_distances, carried.is_all | is_whole),
        ]
    )
    merged = np.where(is_certain, np.hstack([before, rows]), -1)
    merged, distances = _ordered(merged, np.where(is_certain, np.hstack([before_distances, distances]), np.inf))
    width = max(rows.shape[1], before.shape[1])
    return merged[:, :width], distances[:, :width]


def _is_within(
    rows: np.ndarray, distances: np.ndarray, others: np.ndarray, other_distances: np.ndarray, is_all: np.ndarray
) -> np.ndarray:
    """Which rows come no later than the last of other lists; every one where these are of `all`."""
    end = np.where(others >= 0, other_distances, -np.inf).max(axis=1, initial=-np.inf)[:, None]
    last = np.where(other_distances == end, others, -1).max(axis=1, initial=-1)[:, None]
    return is_all[:, None] | (distances < end) | ((distances == end) & (rows <= last))


def _ordered(rows: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((rows, distances), axis=-1)
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _positions(rows: np.ndarray, distances: np.ndarray, numbers: np.ndarray, k: int) -> np.ndarray:
    """The first k positions (test rows, k) of the rows listed, each of which may stand at several in the split.

    They are among those of the first k rows: where one is, so is the first position of every row before its own.
    """
    copies = np.bincount(numbers)
    if len(copies) == len(numbers):
        return rows[:, :k]
    members, starts = np.argsort(numbers, kind="stable"), np.cumsum(copies) - copies
    nearest = np.empty((len(rows), k), dtype=np.int64)
    step = max(1, _BLOCK_POSITIONS // (k * min(k, int(copies.max()))))
    for start in range(0, len(rows), step):
        listed, far = rows[start : start + step, :k], distances[start : start + step, :k]
        counts = np.where(listed >= 0, np.minimum(copies[listed], k), 0)
        flat = counts.ravel()
        ends = np.cumsum(flat)
        places = np.repeat(starts[listed.ravel()] - (ends - flat), flat) + np.arange(ends[-1])
        owners = np.repeat(np.arange(len(listed)), counts.sum(axis=1))
        positions = members[places]
        order = np.lexsort((positions, np.repeat(far.ravel(), flat), owners))
        firsts = np.cumsum(counts.sum(axis=1)) - counts.sum(axis=1)
        nearest[start : start + step] = positions[order[firsts[:, None] + np.arange(k)]]
    return nearest


def _distinct(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows (rows, 2) uint64 in the order of their first positions, and the number of that at each."""
    halves = np.ascontiguousarray(hashes).view(np.uint64)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    is_first = np.append(True, (halves[order[1:]] != halves[order[:-1]]).any(axis=1))
    firsts = order[is_first]
    ranks = np.empty(len(firsts), dtype=np.int64)
    ranks[np.argsort(firsts)] = np.arange(len(firsts))
    numbers = np.empty(len(halves), dtype=np.int64)
    numbers[order] = ranks[np.cumsum(is_first) - 1]
    return halves[np.sort(firsts)], numbers


def _numbers(rows: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The number of each row among others that are distinct, -1 where it is none of them."""
    if np.array_equal(rows, among):
        return np.arange(len(rows))
    order = np.argsort(among[:, 0])
    # Should two of them share a half, one may be missed: it is searched once more.
    near = order[np.searchsorted(among[:, 0], rows[:, 0], sorter=order).clip(max=len(among) - 1)]
    return np.where((among[near] == rows).all(axis=1), near, -1)


def _hashes(rows: np.ndarray) -> np.ndarray:
    return rows.view(np.uint8).reshape(len(rows), -1)
