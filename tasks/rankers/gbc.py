"""GBC, the Gaussian Bhattacharyya coefficient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.rankers.base import Estimator, training_classes
from tasks.rankers.spectrum import rows_of_classes

_SMALLEST_VARIANCE = 1e-4


@dataclass(frozen=True)
class GBC(Estimator):
    """−Σ exp(−D_B) over the ordered pairs of different classes, each a Gaussian in feature space; at most 0.

    D_B is the Bhattacharyya distance. `covariance` is diagonal, the variance of each dimension, or spherical, their
    mean for all. Variances divide by the rows and are at least 10⁻⁴, as in the authors' code, so that GBC is of
    features at the scale they come in. Pándy et al., 2022, arXiv 2111.12780.
    """

    covariance: str = "diagonal"

    def estimate(
        self, train_x: np.ndarray, train_y: np.ndarray, source_probabilities: np.ndarray | None, seed: int
    ) -> float:
        x, y, num_classes = training_classes("GBC", train_x, train_y)
        classes = [x[rows].astype(np.float64) for rows in rows_of_classes(y, num_classes)]
        means = np.stack([rows.mean(axis=0) for rows in classes])
        variances = np.stack([rows.var(axis=0) for rows in classes]).clip(min=_SMALLEST_VARIANCE)
        if self.covariance == "spherical":
            variances = np.broadcast_to(variances.mean(axis=1, keepdims=True), variances.shape)
        log_determinants = np.log(variances).sum(axis=1)
        overlap = 0.0
        for c in range(num_classes - 1):
            pooled = (variances[c] + variances[c + 1 :]) / 2
            mahalanobis = ((means[c] - means[c + 1 :]) ** 2 / pooled).sum(axis=1)
            mean_log_determinant = (log_determinants[c] + log_determinants[c + 1 :]) / 2
            distances = mahalanobis / 8 + (np.log(pooled).sum(axis=1) - mean_log_determinant) / 2
            overlap += np.exp(-distances).sum()
        return -2 * overlap
