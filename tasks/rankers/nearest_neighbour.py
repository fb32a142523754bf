"""k-nearest-neighbour prediction, Euclidean and cosine: exact, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import ClassVar

import numpy as np

from storage.errors import EvaluationError
from tasks.rankers.base import Labels, Score, checked_labels, checked_split
from tasks.rankers.metrics import score_predictions

# Distances held at once by a block of test rows: 64 MiB of single, 128 MiB of double precision.
_BLOCK_ELEMENTS = 2**24
# Differences held at once by pairs of rows: small enough for the processor's cache.
_PAIR_ELEMENTS = 2**17
_DOUBLE_ELEMENTS = 2**22
# How many more rows than k the matrix product proposes, so that rounding and duplicates lose none.
SPARE_CANDIDATES = 8
# Cosines are compared in these steps: rows that are multiples of one another are at one distance, however rounded.
_COSINE_STEP = 2.0**-36
_CENTRE_ROWS = 1000
_SMALLEST_SQUARE = 1e-25
_GROUP_COLUMNS = 32


@dataclass(frozen=True)
class EuclideanNN:
    """Score of predictions from the k training rows at the smallest Euclidean distance.

    A class, or each label of several, by majority vote; a tied vote goes to that of the nearest of the tied. A
    number by the mean. Without a test split every training row is predicted from the others (leave one out).
    `metric` is what the predictions are compared by, the first of the task where None; see tasks.rankers.metrics.
    Raises EvaluationError when there are fewer than k rows to choose from.
    """

    k: int = 1
    metric: str | None = None

    is_cosine: ClassVar[bool] = False

    def score(
        self,
        train_x: np.ndarray,
        train_y: np.ndarray,
        test_x: np.ndarray | None = None,
        test_y: np.ndarray | None = None,
        *,
        source_probabilities: np.ndarray | None = None,
        seed: int = 0,
    ) -> Score:
        split = checked_split(train_x, train_y, test_x, test_y)
        leave_one_out = len(split.test_x) == 0
        others = len(split.train_x) - leave_one_out
        if self.k > others:
            raise EvaluationError(
                f"k={self.k} neighbours of only {others} training rows",
                fix=f"choose k of at most {others}" if others else "train on more rows",
            )
        neighbours = nearest_rows(split.train_x, None if leave_one_out else split.test_x, self.k, cosine=self.is_cosine)
        true = split.train_y if leave_one_out else split.test_y
        return self._voted(neighbours, Labels(split.task, split.train_y, true, split.num_classes))

    def score_neighbours(self, neighbours: np.ndarray, train_y: np.ndarray, test_y: np.ndarray) -> Score:
        """What `score` says where `neighbours` (test rows, k) are the numbers of the nearest training rows, in order.

        Raises EvaluationError when the labels do not fit together.
        """
        return self._voted(neighbours, checked_labels(train_y, test_y))

    def _voted(self, neighbours: np.ndarray, labels: Labels) -> Score:
        votes = labels.train[neighbours]
        if labels.task == "classification":
            predicted = majority(votes, labels.num_classes)
        elif labels.task == "regression":
            predicted = votes.mean(axis=1)
        else:
            in_favour = votes.sum(axis=1)
            predicted = np.where(2 * in_favour == self.k, votes[:, 0], 2 * in_favour > self.k)
        return score_predictions(labels.task, self.metric, labels.test, predicted)


@dataclass(frozen=True)
class CosineNN(EuclideanNN):
    """The same by cosine similarity, which ignores the length of rows; a zero row is at right angles to all."""

    is_cosine: ClassVar[bool] = True


def nearest_rows(train: np.ndarray, test: np.ndarray | None, k: int, *, cosine: bool) -> np.ndarray:
    """Indices (test rows, k) of the k training rows nearest to each test row, nearest first.

    Without test rows, of the k other training rows nearest to each training row.

    Rows are in the order of their distances computed pair by pair in double precision, which for two rows does not
    depend on any other (of cosines, the first 36 binary places); at equal distance the earlier training row is the
    nearer. Only where it matters are they computed so: a matrix product in single precision proposes a few more
    than k candidates, and where its rounding could have lost or swapped one, a product in double precision; where
    that cannot tell them apart either, all rows as near as the k-th are compared.
    """
    search = _Search(train, k, cosine)
    rows = train if test is None else test
    own = np.arange(len(train)) if test is None else None
    nearest = np.empty((len(rows), k), dtype=np.int64)
    for at in search.blocks(len(rows)):
        nearest[at] = search.nearest(rows[at], None if own is None else own[at])
    return nearest


def nearest_lists(train: np.ndarray, test: np.ndarray, k: int, *, cosine: bool) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest_rows`, with the distances and what else was found out: (test rows, at most k + 8) each.

    Every list is the beginning of all training rows in order, of k or more of them (all, where there are fewer); after
    its end stand -1 and an infinite distance. Distances are squared Euclidean, or negative cosine similarities.
    """
    search = _Search(train, k, cosine)
    rows = np.empty((len(test), search.width), dtype=np.int64)
    distances = np.empty(rows.shape)
    for at in search.blocks(len(test)):
        rows[at], distances[at] = search.lists(test[at])
    return rows, distances


@dataclass(frozen=True)
class _Proposals:
    """The candidates of each test row, (test rows, width), in the order of their numbers.

    `near` are their distances as a matrix product has them, up to what is the same for all. Two that differ by more
    than `doubt` (test rows,) differ in truth; no other row is nearer than `edge` (test rows,) in the same sense.
    """

    rows: np.ndarray
    near: np.ndarray
    doubt: np.ndarray
    edge: np.ndarray

    def lost(self, k: int) -> np.ndarray:
        """The test rows of whose k nearest one may be missing."""
        kth = np.partition(self.near, k - 1, axis=1)[:, k - 1]
        return np.flatnonzero(~(self.edge - kth > self.doubt))

    def put(self, at: np.ndarray, better: _Proposals) -> None:
        self.rows[at], self.near[at] = better.rows, better.near
        self.doubt[at], self.edge[at] = better.doubt, better.edge


class _Search:
    """The training rows, prepared once for every block of test rows."""

    def __init__(self, train: np.ndarray, k: int, cosine: bool) -> None:
        self._train, self._k, self._cosine = train, min(k, len(train)), cosine
        self._step = _COSINE_STEP if cosine else 0.0
        self.width = min(len(train), k + SPARE_CANDIDATES)
        # Moving and scaling all rows keeps the order of distances, and single precision from cancellation and overflow.
        # Any centre does; a difference of two floats is rounded by no more than its own last digit.
        self._centre = train[:_CENTRE_ROWS].mean(axis=0, dtype=np.float64).astype(train.dtype)
        apart = np.maximum(train.max(axis=0) - self._centre, self._centre - train.min(axis=0)).max()
        self._scale = max(apart, np.finfo(train.dtype).tiny)
        self._single = self._prepared(train, np.float32)
        self._half_squares = np.einsum("nd,nd->n", self._single, self._single) / 2
        self._longest = float(np.sqrt(2 * self._half_squares.max()))

    def blocks(self, test_rows: int) -> Iterator[slice]:
        step = max(1, _BLOCK_ELEMENTS // len(self._train))
        return (slice(start, min(start + step, test_rows)) for start in range(0, test_rows, step))

    def nearest(self, test: np.ndarray, own: np.ndarray | None) -> np.ndarray:
        """The k nearest rows of each of the test rows, which are the training rows `own` where given."""
        found = self._proposals(test, own)
        order = np.argsort(found.near, axis=1, kind="stable")
        nearest = np.take_along_axis(found.rows, order[:, : self._k], axis=1)
        with np.errstate(invalid="ignore"):
            gaps = np.diff(np.take_along_axis(found.near, order, axis=1), axis=1, append=np.inf)
        unsettled = np.flatnonzero(~(gaps[:, : self._k] > found.doubt[:, None]).all(axis=1))
        exact = self._exact(test[unsettled], found.rows[unsettled])
        if own is not None:
            exact[found.rows[unsettled] == own[unsettled, None]] = np.inf
        order = np.argsort(exact, axis=1, kind="stable")[:, : self._k]
        nearest[unsettled] = np.take_along_axis(found.rows[unsettled], order, axis=1)
        return nearest

    def lists(self, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `nearest_lists`."""
        found = self._proposals(test, None)
        exact = self._exact(test, found.rows)
        order = np.argsort(exact, axis=1, kind="stable")
        near = np.take_along_axis(found.near, order, axis=1)
        is_known = np.arange(self.width) < (self.width if self.width == len(self._train) else self._k)
        with np.errstate(invalid="ignore"):
            is_before_others = (found.edge - found.doubt)[:, None] > near
        is_known = is_known | np.logical_and.accumulate(is_before_others, axis=1)
        rows = np.where(is_known, np.take_along_axis(found.rows, order, axis=1), -1)
        return rows, np.where(is_known, np.take_along_axis(exact, order, axis=1), np.inf)

    def _proposals(self, test: np.ndarray, own: np.ndarray | None) -> _Proposals:
        with np.errstate(over="ignore", invalid="ignore"):
            rows = self._prepared(test, np.float32)
            # |x−y|²/2 less |y|²/2, which is the same for every x.
            distances = rows @ self._single.T
            np.subtract(0 if self._cosine else self._half_squares, distances, out=distances)
            lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows)).astype(np.float64)
            # Twice the error that rounding is likely to make of a sum of as many products, and room for bad luck.
            doubt = 2 * np.sqrt(test.shape[1]) * self._longest * (lengths + self._longest)
            found = self._smallest(distances, doubt * np.finfo(np.float32).eps + self._step, own)
            if self.width == len(self._train):
                return found
            lost = found.lost(self._k)
            step = max(1, _DOUBLE_ELEMENTS // len(self._train))
            for start in range(0, len(lost), step):
                at = lost[start : start + step]
                left_out = None if own is None else own[at]
                distances = self._doubles(test[at])
                again = self._smallest(distances, doubt[at] * np.finfo(np.float64).eps + self._step, left_out)
                for row in again.lost(self._k):
                    tied = self._tied(test[at[row]], distances[row], again.doubt[row])
                    again.rows[row], again.near[row], again.edge[row] = tied
                found.put(at, again)
        return found

    def _smallest(self, distances: np.ndarray, doubt: np.ndarray, own: np.ndarray | None) -> _Proposals:
        if own is not None:
            distances[np.arange(len(own)), own] = np.inf
        rows = smallest(distances, self.width)
        rows.sort(axis=1)
        near = np.take_along_axis(distances, rows, axis=1).astype(np.float64)
        return _Proposals(rows, near, doubt, near.max(axis=1))

    def _doubles(self, test: np.ndarray) -> np.ndarray:
        rows = self._prepared(test, np.float64)
        distances = np.empty((len(test), len(self._train)))
        step = max(1, _BLOCK_ELEMENTS // self._train.shape[1])
        for start in range(0, len(self._train), step):
            train = self._prepared(self._train[start : start + step], np.float64)
            half_squares = 0 if self._cosine else np.einsum("nd,nd->n", train, train) / 2
            distances[:, start : start + step] = half_squares - rows @ train.T
        return distances

    def _tied(self, test: np.ndarray, distances: np.ndarray, doubt: float) -> tuple[np.ndarray, np.ndarray, float]:
        """The proposals of one test row: the nearest of all rows that double precision cannot tell from the k-th."""
        edge = float(np.partition(distances, self._k - 1)[self._k - 1] + 3 * doubt)
        # A row that is left out stands at infinity.
        close = np.flatnonzero((distances <= edge) & (distances < np.inf) | np.isnan(distances + edge))
        exact, is_open = np.empty(len(close)), np.ones(len(close), dtype=bool)
        if self._cosine:
            rounding = doubt - self._step
            exact = _stepped(distances[close] - rounding)
            is_open = exact != _stepped(distances[close] + rounding)
        # Of equal rows one is compared.
        copied = self._first_equal[close[is_open]]
        compared, pairs = np.unique(copied), np.empty(len(self._train))
        step = max(1, _BLOCK_ELEMENTS // test.size)
        for start in range(0, len(compared), step):
            some = compared[start : start + step]
            pairs[some] = self._exact(test[None], some[None])[0]
        exact[is_open] = pairs[copied]
        rows = np.sort(close[np.argsort(exact, kind="stable")[: self.width]])
        return rows, distances[rows], edge

    @cached_property
    def _first_equal(self) -> np.ndarray:
        """Of each training row the first that equals it."""
        firsts: dict[bytes, int] = {}
        digests = (blake2b(row.tobytes(), digest_size=16).digest() for row in self._train)
        return np.array([firsts.setdefault(digest, number) for number, digest in enumerate(digests)])

    def _exact(self, test: np.ndarray, proposed: np.ndarray) -> np.ndarray:
        """Distances (test rows, width) of the proposed rows, computed pair by pair in double precision."""
        exact = np.empty(proposed.shape)
        step = max(1, _PAIR_ELEMENTS // (proposed.shape[1] * test.shape[1]))
        for start in range(0, len(test), step):
            at = slice(start, start + step)
            # Contiguous, so that sums are taken in one order.
            candidates = np.ascontiguousarray(self._train[proposed[at]], dtype=np.float64)
            rows = np.ascontiguousarray(test[at], dtype=np.float64)[:, None]
            if self._cosine:
                candidates = _unit_rows(candidates)
                candidates *= _unit_rows(rows)
                exact[at] = _stepped(-candidates.sum(axis=2))
            else:
                candidates -= rows
                candidates *= candidates
                exact[at] = candidates.sum(axis=2)
        return exact

    def _prepared(self, x: np.ndarray, precision: type) -> np.ndarray:
        x = x.astype(np.result_type(x, precision), copy=False)
        if self._cosine:
            return _unit_rows(x).astype(precision, copy=False)
        moved = x - self._centre
        moved /= self._scale
        return moved.astype(precision, copy=False)


def smallest(values: np.ndarray, count: int) -> np.ndarray:
    """The columns (rows, count) of the `count` smallest values of each row, in no order.

    They lie in the `count` groups of columns with the smallest minima, so that only these are partitioned.
    """
    groups = values.shape[1] // _GROUP_COLUMNS
    if groups <= 2 * count:
        return np.argpartition(values, count - 1, axis=1)[:, :count]
    grouped = groups * _GROUP_COLUMNS
    minima = values[:, :grouped].reshape(len(values), _GROUP_COLUMNS, groups).min(axis=1)
    nearest = np.argpartition(minima, count - 1, axis=1)[:, None, :count]
    members = (nearest + groups * np.arange(_GROUP_COLUMNS)[:, None]).reshape(len(values), count * _GROUP_COLUMNS)
    rest = np.broadcast_to(np.arange(grouped, values.shape[1]), (len(values), values.shape[1] - grouped))
    columns = np.hstack([members, rest])
    kept = np.argpartition(np.take_along_axis(values, columns, axis=1), count - 1, axis=1)[:, :count]
    return np.take_along_axis(columns, kept, axis=1)


def majority(votes: np.ndarray, num_classes: int) -> np.ndarray:
    """The most frequent class of each row of `votes` (rows, k), nearest first; of tied ones the nearest."""
    counts = np.zeros((len(votes), num_classes), dtype=np.int64)
    rows = np.arange(len(votes))[:, None]
    np.add.at(counts, (rows, votes), 1)
    winner = counts[rows, votes].argmax(axis=1)
    return votes[rows[:, 0], winner]


def _stepped(cosines: np.ndarray) -> np.ndarray:
    return np.round(cosines / _COSINE_STEP) * _COSINE_STEP


def _unit_rows(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        squares = np.einsum("...d,...d->...", x, x)
    # Squares of these rows are zero, infinite or short of digits.
    is_extreme = ~((squares > _SMALLEST_SQUARE) & (squares < 1 / _SMALLEST_SQUARE))
    if is_extreme.any():
        x = x.copy()
        largest = np.abs(x[is_extreme]).max(axis=-1, keepdims=True)
        x[is_extreme] /= np.where(largest > 0, largest, x.dtype.type(1))
        squares = np.einsum("...d,...d->...", x, x)
    lengths = np.sqrt(squares)[..., None]
    return x / np.where(lengths > 0, lengths, x.dtype.type(1))
