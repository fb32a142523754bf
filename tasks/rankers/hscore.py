"""H-score, plain and with a regularised covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.rankers.base import Estimator, training_classes
from tasks.rankers.spectrum import mean_of, spectrum


@dataclass(frozen=True)
class HScore(Estimator):
    """tr(cov(f)⁻¹ cov(E[f|y])): how much of the features' variance lies between the classes.

    `covariance` is plain, with the pseudo-inverse of the sample covariance (Bao et al., 2019, arXiv 2212.10082),
    or regularised: (1 − a) tr(cov_a(f)⁻¹ cov(E[f|y])), with the covariance drawn towards a multiple of the identity
    by the share a of Ledoit and Wolf, 2004 (Ibrahim, Ponomareva and Mazumder, 2021, arXiv 2110.06893).
    Regularised, cov(f) divides by rows and cov(E[f|y]) by rows − 1, as in the authors' code; plain, both by the same.
    """

    covariance: str = "regularised"

    def estimate(
        self, train_x: np.ndarray, train_y: np.ndarray, source_probabilities: np.ndarray | None, seed: int
    ) -> float:
        x, y, num_classes = training_classes("HScore", train_x, train_y)
        rows, dimensions = x.shape
        mean = mean_of(x)
        squares, projections = spectrum(x, y, num_classes, centre=mean)
        # Along each principal direction: the variance, and how much of it is that of the class means.
        within = squares / rows
        between = squares * (projections / np.bincount(y)).sum(axis=1)
        if self.covariance == "plain":
            return float((between / squares).sum())
        share = _shrinkage(x, mean, within)
        shrunk = (1 - share) * within + share * within.sum() / dimensions
        return float(((1 - share) * between / shrunk).sum() / max(rows - 1, 1))


def _shrinkage(x: np.ndarray, mean: np.ndarray, variances: np.ndarray) -> float:
    """Ledoit and Wolf's share of the identity, from the eigenvalues of the covariance and the lengths of the rows."""
    rows, dimensions = x.shape
    fourth = sum((((x[start : start + 4096] - mean) ** 2).sum(axis=1) ** 2).sum() for start in range(0, rows, 4096))
    squared = (variances**2).sum()
    noise = (fourth / rows - squared) / rows
    spread = squared - variances.sum() ** 2 / dimensions
    return float(min(max(noise / spread, 0.0), 1.0)) if spread > 0 else 0.0
