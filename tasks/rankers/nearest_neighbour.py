"""k-nearest-neighbour classification, Euclidean and cosine: exact, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storage.errors import EvaluationError
from tasks.rankers.base import Score, classification_split
from tasks.rankers.metrics import score_classes

# Doubles held at once by a block of test rows: 128 MiB.
_BLOCK_ELEMENTS = 2**24
# How many more rows than k the matrix product proposes, so that rounding and duplicates lose none.
_SPARE_CANDIDATES = 8


@dataclass(frozen=True)
class EuclideanNN:
    """Test accuracy of a majority vote among the k training rows at the smallest Euclidean distance.

    A tied vote goes to the class of the nearest of the tied. `metric` is what the test predictions are
    compared by; see tasks.rankers.metrics. Raises EvaluationError when there are fewer than k training rows.
    """

    k: int = 1
    metric: str = "accuracy"

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
        return _score(self.k, self.metric, False, train_x, train_y, test_x, test_y)


@dataclass(frozen=True)
class CosineNN:
    """The same by cosine similarity, which ignores the length of rows; a zero row is at right angles to all."""

    k: int = 1
    metric: str = "accuracy"

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
        return _score(self.k, self.metric, True, train_x, train_y, test_x, test_y)


def _score(
    k: int,
    metric: str,
    cosine: bool,
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray | None,
    test_y: np.ndarray | None,
) -> Score:
    split = classification_split(train_x, train_y, test_x, test_y)
    if k > len(split.train_x):
        raise EvaluationError(
            f"k={k} neighbours of only {len(split.train_x)} training rows",
            fix=f"choose k of at most {len(split.train_x)}",
        )
    neighbours = nearest_rows(split.train_x, split.test_x, k, cosine=cosine)
    return score_classes(metric, split.test_y, majority(split.train_y[neighbours], split.num_classes))


def nearest_rows(train: np.ndarray, test: np.ndarray, k: int, *, cosine: bool) -> np.ndarray:
    """Indices (test rows, k) of the k training rows nearest to each test row, nearest first.

    A matrix product in double precision proposes a few more than k candidates. Their distances are
    then computed pair by pair, so that the order does not depend on how rows were grouped into blocks.
    At equal distance the earlier training row is the nearer; which of more than 8 rows tied for the
    k-th place are proposed is arbitrary, and always the same.
    """
    train = _unit_rows(train) if cosine else train.astype(np.float64)
    half_squares = np.zeros(len(train)) if cosine else np.einsum("nd,nd->n", train, train) / 2
    candidates = min(len(train), k + _SPARE_CANDIDATES)
    block = max(1, _BLOCK_ELEMENTS // max(len(train), candidates * train.shape[1]))
    nearest = np.empty((len(test), k), dtype=np.int64)
    for start in range(0, len(test), block):
        rows = _unit_rows(test[start : start + block]) if cosine else test[start : start + block].astype(np.float64)
        # |x−y|²/2 less |y|²/2, which is the same for every x.
        distances = rows @ train.T
        np.subtract(half_squares, distances, out=distances)
        proposed = np.argpartition(distances, candidates - 1, axis=1)[:, :candidates]
        proposed.sort(axis=1)
        if cosine:
            exact = -(train[proposed] * rows[:, None]).sum(axis=2)
        else:
            exact = ((train[proposed] - rows[:, None]) ** 2).sum(axis=2)
        order = np.argsort(exact, axis=1, kind="stable")[:, :k]
        nearest[start : start + block] = np.take_along_axis(proposed, order, axis=1)
    return nearest


def majority(votes: np.ndarray, num_classes: int) -> np.ndarray:
    """The most frequent class of each row of `votes` (rows, k), nearest first; of tied ones the nearest."""
    counts = np.zeros((len(votes), num_classes), dtype=np.int64)
    rows = np.arange(len(votes))[:, None]
    np.add.at(counts, (rows, votes), 1)
    winner = counts[rows, votes].argmax(axis=1)
    return votes[rows[:, 0], winner]


def _unit_rows(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(lengths > 0, lengths, 1)
