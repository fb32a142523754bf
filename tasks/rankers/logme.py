"""LogME, the logarithm of maximum evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.rankers.base import Estimator, training_split
from tasks.rankers.spectrum import spectrum

_STEPS, _TOLERANCE, _SMALLEST = 11, 1e-3, 1e-5


@dataclass(frozen=True)
class LogME(Estimator):
    """Log-evidence per row of a Bayesian linear model without intercept, its two precisions set to fit best.

    The mean over targets: indicators of the classes, columns of labels, or the one number of a regression.
    You, Liu, Wang and Long, 2021, arXiv 2102.11005, equation 2, maximised by the fixed-point iteration of
    their later arXiv 2110.10545. Precision α of the weights and β of the noise start at 1; at most 11 steps, until
    α/β changes by less than 0.1 %; 10⁻⁵ is added to both denominators, as in the authors' code. Where the features
    have fewer independent directions than dimensions, log|A| runs over all dimensions, as the equation says.
    """

    def estimate(
        self, train_x: np.ndarray, train_y: np.ndarray, source_probabilities: np.ndarray | None, seed: int
    ) -> float:
        split = training_split("LogME", train_x, train_y)
        y = split.train_y
        squares, projections = spectrum(split.train_x, y, split.num_classes)
        if split.task == "classification":
            norms = np.bincount(y).astype(np.float64)
        else:
            norms = (y.reshape(len(y), -1).astype(np.float64) ** 2).sum(axis=0)
        # A target that is fitted without a rest leaves nothing finite to say, and is refused below.
        with np.errstate(all="ignore"):
            evidences = [_evidence(len(y), squares, *target) for target in zip(projections.T, norms, strict=True)]
        return float(np.mean(evidences))


def _evidence(rows: int, squares: np.ndarray, projection: np.ndarray, norm: float) -> float:
    """The largest log-evidence per row of one target y: `projection` is (uᵀy)², `norm` is |y|²."""
    outside = max(norm - projection.sum(), 0.0)
    ratio, alpha, beta = 1.0, 1.0, 1.0
    for _ in range(_STEPS):
        effective = (squares / (squares + ratio)).sum()
        weights = (squares * projection / (squares + ratio) ** 2).sum()
        residual = (projection * (ratio / (squares + ratio)) ** 2).sum() + outside
        alpha = effective / (weights + _SMALLEST)
        beta = (rows - effective) / (residual + _SMALLEST)
        previous, ratio = ratio, alpha / beta
        if abs(ratio - previous) <= _TOLERANCE * previous:
            break
    # D/2 log α − ½ log|αI + βFᵀF| is a sum over the directions that the rows span; the others cancel.
    spanned = np.log1p(squares / ratio).sum() if len(squares) else 0.0
    fit = rows * np.log(beta) - spanned - beta * residual - alpha * weights
    return float((fit / rows - np.log(2 * np.pi)) / 2)
