"""LEEP, the log expected empirical prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.rankers.base import Estimator, source_predictions
from tasks.rankers.spectrum import rows_of_classes, target_products


@dataclass(frozen=True)
class LEEP(Estimator):
    """Mean natural log-likelihood of the labels under Σ_z P(y|z) θ(x)_z, for the source classes z; at most 0.

    θ(x) are the model's probabilities of its own classes, and P(y, z) their mean over the rows of each label.
    Nguyen, Hassner, Seeger and Archambeau, 2020, arXiv 2002.12462, equations 1 and 2.
    """

    def estimate(
        self, train_x: np.ndarray, train_y: np.ndarray, source_probabilities: np.ndarray | None, seed: int
    ) -> float:
        probabilities, labels, num_classes = source_predictions("LEEP", source_probabilities, train_y)
        return log_expected_prediction(probabilities, labels, num_classes)


def log_expected_prediction(probabilities: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """LEEP of probabilities (rows, source classes) of any source classes, and labels (rows,) from 0."""
    joint = target_products(probabilities, labels, num_classes)
    total = joint.sum(axis=1, keepdims=True)
    conditional = joint / np.where(total > 0, total, 1)
    of_classes = zip(rows_of_classes(labels, num_classes), conditional.T, strict=True)
    return sum(float(np.log(probabilities[rows] @ given).sum()) for rows, given in of_classes) / len(labels)
