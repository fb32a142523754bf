"""Which cell of a matrix of models and datasets is measured next: what tells most of all others for its price."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# What is believed of accuracies before any is known: how they vary between models, and how alike two datasets order
# them. It counts for as much as so many models.
_VARIANCE, _CORRELATION = 0.04, 0.5
_BELIEF = 10
# The share of the variance that is no property of a model, but of one fine-tune.
_NOISE = 0.1
_LEAST_EIGENVALUE = 0.05
_LEAST_SECONDS = 1e-3
# What is known of the covariance is looked at again when there are so many times as many cells.
_AGAIN = 1.1


class MatrixOrder:
    """Chooses cells one by one. Every model's row is one draw of a normal distribution over the datasets.

    Its covariance is what is known of it from the cells so far, shrunk to that of equally correlated datasets. A cell
    is worth the variance that it takes away from the unknown cells of its row, and, by what it tells of the dataset's
    mean, from those of its column; that by the root of its price in seconds is what cells are compared by. Models that
    were not tried at all come first, each on one dataset: of who is left out because of its price nothing is learnt.

    Arrays are (models, datasets): `values`, NaN where unknown, `offered` the cells that may be measured, `predicted`
    seconds of all, and `measured` seconds, NaN where unknown, which correct those predicted. The same arrays give the
    same order.
    """

    def __init__(self, values: np.ndarray, offered: np.ndarray, predicted: np.ndarray, measured: np.ndarray) -> None:
        import numpy as np

        self._values, self._known, self._offered = values.copy(), ~np.isnan(values), offered.copy()
        self._tried = self._known.any(axis=1)
        self._predicted, self._measured = predicted, measured.copy()
        self.seconds = corrected(predicted, measured)
        self._gain = np.zeros(values.shape)
        self._by_pattern: dict[tuple[bytes, bytes], np.ndarray] = {}
        self._learn()

    def next(self, within: float = math.inf) -> tuple[int, int] | None:
        """The cell to measure now, among those that cost no more than `within` seconds; None where there is none."""
        import numpy as np

        allowed = self._offered & (self.seconds <= within)
        if not allowed.any():
            return None
        untried = allowed & ~self._tried[:, None]
        if untried.any():
            allowed = untried
        known = self._known.sum(axis=0)
        of_means = np.diag(self._covariance) / ((known + 1) * (known + 2)) * self._offered.sum(axis=0)
        worth = np.where(allowed, (self._gain + of_means) / np.sqrt(np.maximum(self.seconds, _LEAST_SECONDS)), -1.0)
        model, dataset = np.unravel_index(int(np.argmax(worth)), worth.shape)
        return int(model), int(dataset)

    def tell(self, cell: tuple[int, int], value: float | None, seconds: float | None) -> None:
        """What a cell came to: no value where it failed, no seconds where it was not measured here.

        A value of NaN says that the cell will be known, and not yet to what.
        """
        import numpy as np

        self._offered[cell], self._tried[cell[0]] = False, True
        if value is not None:
            self._values[cell], self._known[cell] = value, True
        if seconds is not None:
            self._measured[cell] = seconds
            self.seconds = corrected(self._predicted, self._measured)
        if np.count_nonzero(self._known) > _AGAIN * self._learnt:
            self._learn()
        else:
            self._appraise([cell[0]])

    @property
    def left(self) -> tuple[int, float]:
        """How many cells are not measured, and what they would cost, in seconds."""
        return int(self._offered.sum()), float(self.seconds[self._offered].sum())

    def _learn(self) -> None:
        import numpy as np

        self._covariance = covariance(self._values)
        self._learnt = int(np.count_nonzero(self._known))
        self._by_pattern = {}
        self._appraise(range(len(self._values)))

    def _appraise(self, models: Iterable[int]) -> None:
        """Find out what each cell of these rows tells of the others; rows with the same cells are worth the same."""
        for model in models:
            known, offered = self._known[model], self._offered[model]
            pattern = known.tobytes(), offered.tobytes()
            if pattern not in self._by_pattern:
                self._by_pattern[pattern] = _gain(self._covariance, known, offered)
            self._gain[model] = self._by_pattern[pattern]


def covariance(values: np.ndarray) -> np.ndarray:
    """How datasets vary together, (datasets, datasets), of `values` (models, datasets), NaN where unknown."""
    import numpy as np

    known = ~np.isnan(values)
    count = known.sum(axis=0)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    apart = np.where(known, values - mean, 0.0)
    squares = (apart**2).sum(axis=0)
    # Of a dataset with few models what is usual on the others is believed.
    usual = (squares.sum() + _BELIEF * _VARIANCE) / (count.sum() + _BELIEF)
    variance = (squares + _BELIEF * usual) / (count + _BELIEF)
    standardised = apart / np.sqrt(variance)
    common = known.T.astype(float) @ known
    correlation = (standardised.T @ standardised + _BELIEF * _CORRELATION) / (common + _BELIEF)
    np.fill_diagonal(correlation, 1.0)
    # Pairs of datasets that were seen by different models need not make up a covariance.
    eigenvalues, vectors = np.linalg.eigh(correlation)
    whole = (vectors * np.maximum(eigenvalues, _LEAST_EIGENVALUE)) @ vectors.T
    scale = np.sqrt(variance / np.diag(whole))
    return whole * scale[:, None] * scale


def corrected(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Predicted seconds, by what such predictions came to: of all models, and the more so of the same model."""
    import numpy as np

    known = ~np.isnan(measured)
    if not known.any():
        return predicted
    expected, took = np.where(known, predicted, 0.0), np.where(known, measured, 0.0)
    overall = took.sum() / expected.sum()
    one = expected.sum() / known.sum()
    factor = (took.sum(axis=1) + overall * one) / (expected.sum(axis=1) + one)
    return predicted * factor[:, None]


def _gain(covariance: np.ndarray, known: np.ndarray, offered: np.ndarray) -> np.ndarray:
    """The variance that each cell of a row takes away from those that are offered."""
    import numpy as np

    noise = _NOISE * np.diag(covariance)
    if known.any():
        seen = covariance[np.ix_(known, known)] + np.diag(noise[known])
        covariance = covariance - covariance[:, known] @ np.linalg.solve(seen, covariance[known])
    return (covariance[offered] ** 2).sum(axis=0) / (np.diag(covariance) + noise)
