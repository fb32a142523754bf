"""TransRate, a mutual information of features and labels by coding rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.rankers.base import Estimator, training_classes
from tasks.rankers.spectrum import gram, mean_of, rows_of_classes

_DISTORTION = 1e-4


@dataclass(frozen=True)
class TransRate(Estimator):
    """R(Z) − R(Z|Y), in nats: the coding rate of all rows less that of the rows of a class.

    R(Z) = ½ log|I + ZᵀZ / (n ε)| with ε = 10⁻⁴, for features less the mean of all rows. R(Z|Y) is the mean over the
    classes, each counting the same. Huang, Huang, Rong, Yang and Wei, 2022, arXiv 2106.09362; the code there.
    """

    def estimate(
        self, train_x: np.ndarray, train_y: np.ndarray, source_probabilities: np.ndarray | None, seed: int
    ) -> float:
        x, y, num_classes = training_classes("TransRate", train_x, train_y)
        mean = mean_of(x)
        within = [_coding_rate(x[rows], mean) for rows in rows_of_classes(y, num_classes)]
        return _coding_rate(x, mean) - float(np.mean(within))


def _coding_rate(x: np.ndarray, mean: np.ndarray) -> float:
    products = gram(x, mean) / (len(x) * _DISTORTION)
    products[np.diag_indices_from(products)] += 1
    return float(np.linalg.slogdet(products).logabsdet / 2)
