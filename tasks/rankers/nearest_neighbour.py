"""k-nearest-neighbour prediction, Euclidean and cosine: exact, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from storage.errors import EvaluationError
from tasks.rankers.base import Score, Split, checked_split
from tasks.rankers.metrics import score_predictions

# Distances and differences held at once by a block of test rows: 64 MiB of single, 128 MiB of double precision.
_BLOCK_ELEMENTS = 2**24
# How many more rows than k the matrix product proposes, so that rounding and duplicates lose none.
_SPARE_CANDIDATES = 8
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

    _is_cosine: ClassVar[bool] = False

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
        return _score(self.k, self.metric, self._is_cosine, checked_split(train_x, train_y, test_x, test_y))


@dataclass(frozen=True)
class CosineNN(EuclideanNN):
    """The same by cosine similarity, which ignores the length of rows; a zero row is at right angles to all."""

    _is_cosine: ClassVar[bool] = True


def _score(k: int, metric: str | None, cosine: bool, split: Split) -> Score:
    leave_one_out = len(split.test_x) == 0
    others = len(split.train_x) - leave_one_out
    if k > others:
        raise EvaluationError(
            f"k={k} neighbours of only {others} training rows",
            fix=f"choose k of at most {others}" if others else "train on more rows",
        )
    neighbours = nearest_rows(split.train_x, None if leave_one_out else split.test_x, k, cosine=cosine)
    true = split.train_y if leave_one_out else split.test_y
    votes = split.train_y[neighbours]
    if split.task == "classification":
        predicted = majority(votes, split.num_classes)
    elif split.task == "regression":
        predicted = votes.mean(axis=1)
    else:
        in_favour = votes.sum(axis=1)
        predicted = np.where(2 * in_favour == k, votes[:, 0], 2 * in_favour > k)
    return score_predictions(split.task, metric, true, predicted)


def nearest_rows(train: np.ndarray, test: np.ndarray | None, k: int, *, cosine: bool) -> np.ndarray:
    """Indices (test rows, k) of the k training rows nearest to each test row, nearest first.

    Without test rows, of the k other training rows nearest to each training row.

    A matrix product in single precision proposes a few more than k candidates. Where its rounding could have lost
    or swapped one, the product is taken in double precision, or the candidates' distances pair by pair, so that
    the order does not depend on how rows were grouped into blocks. At equal distance the earlier training row is
    the nearer; which of more than 8 rows tied for the k-th place are proposed is arbitrary, and always the same.
    """
    search = _Search(train, k, cosine, excludes_self=test is None)
    test = train if test is None else test
    block = max(1, _BLOCK_ELEMENTS // len(train))
    nearest = np.empty((len(test), k), dtype=np.int64)
    for start in range(0, len(test), block):
        nearest[start : start + block] = search.block(test[start : start + block], start)
    return nearest


class _Search:
    """The training rows, prepared once for every block of test rows."""

    def __init__(self, train: np.ndarray, k: int, cosine: bool, excludes_self: bool) -> None:
        self._train, self._k, self._cosine, self._excludes_self = train, k, cosine, excludes_self
        self._candidates = min(len(train), k + _SPARE_CANDIDATES)
        # Moving and scaling all rows keeps the order of distances, and single precision from cancellation and overflow.
        # Any centre does; a difference of two floats is rounded by no more than its own last digit.
        self._centre = train[:_CENTRE_ROWS].mean(axis=0, dtype=np.float64).astype(train.dtype)
        apart = np.maximum(train.max(axis=0) - self._centre, self._centre - train.min(axis=0)).max()
        self._scale = max(apart, np.finfo(train.dtype).tiny)
        self._single = self._prepared(train, np.float32)
        self._half_squares = np.einsum("nd,nd->n", self._single, self._single) / 2
        self._longest = float(np.sqrt(2 * self._half_squares.max()))

    def block(self, test: np.ndarray, start: int) -> np.ndarray:
        """The k nearest rows of each of the test rows, the first of which is number `start`."""
        with np.errstate(over="ignore", invalid="ignore"):
            rows = self._prepared(test, np.float32)
            # |x−y|²/2 less |y|²/2, which is the same for every x.
            distances = rows @ self._single.T
            np.subtract(0 if self._cosine else self._half_squares, distances, out=distances)
            lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
            # Twice the error that rounding is likely to make of a sum of as many products, and room for bad luck.
            doubt = 2 * np.sqrt(test.shape[1]) * np.finfo(np.float32).eps * self._longest * (lengths + self._longest)
        own = start + np.arange(len(test)) if self._excludes_self else None
        proposed, ordered, gaps = self._proposals(distances, own)
        is_settled = (gaps[:, : self._k] > doubt[:, None]).all(axis=1)
        nearest = ordered[:, : self._k]
        is_lost = ~is_settled
        if self._candidates < len(self._train):
            margin = gaps[:, self._k - 1 : -1].sum(axis=1)
            is_lost &= ~(margin > doubt)
            for at in np.array_split(np.flatnonzero(is_lost), -(-is_lost.sum() * len(self._train) // 2**22) or 1):
                proposed[at] = self._proposals(self._doubles(test[at]), None if own is None else own[at])[0]
        step = max(1, _BLOCK_ELEMENTS // (self._candidates * test.shape[1]))
        unsettled = np.flatnonzero(~is_settled)
        for first in range(0, len(unsettled), step):
            at = unsettled[first : first + step]
            nearest[at] = self._sorted(test[at], proposed[at], None if own is None else own[at])
        return nearest

    def _proposals(self, distances: np.ndarray, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The candidates of each row in the order of their numbers and of their distances, and the gaps of these."""
        if own is not None:
            distances[np.arange(len(own)), own] = np.inf
        proposed = smallest(distances, self._candidates)
        proposed.sort(axis=1)
        near = np.take_along_axis(distances, proposed, axis=1)
        order = np.argsort(near, axis=1, kind="stable")
        with np.errstate(invalid="ignore"):
            gaps = np.diff(np.take_along_axis(near, order, axis=1), axis=1, append=np.inf)
        return proposed, np.take_along_axis(proposed, order, axis=1), gaps

    def _doubles(self, test: np.ndarray) -> np.ndarray:
        rows = self._prepared(test, np.float64)
        distances = np.empty((len(test), len(self._train)))
        step = max(1, _BLOCK_ELEMENTS // self._train.shape[1])
        for start in range(0, len(self._train), step):
            train = self._prepared(self._train[start : start + step], np.float64)
            half_squares = 0 if self._cosine else np.einsum("nd,nd->n", train, train) / 2
            distances[:, start : start + step] = half_squares - rows @ train.T
        return distances

    def _sorted(self, test: np.ndarray, proposed: np.ndarray, own: np.ndarray | None) -> np.ndarray:
        """The k nearest of the proposed rows, by distances computed pair by pair in double precision."""
        candidates = self._train[proposed].astype(np.float64)
        if self._cosine:
            exact = -(_unit_rows(candidates) * _unit_rows(test.astype(np.float64))[:, None]).sum(axis=2)
        else:
            exact = ((candidates - test[:, None]) ** 2).sum(axis=2)
        if own is not None:
            exact[proposed == own[:, None]] = np.inf
        order = np.argsort(exact, axis=1, kind="stable")[:, : self._k]
        return np.take_along_axis(proposed, order, axis=1)

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
