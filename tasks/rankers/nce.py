"""NCE, the negative conditional entropy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.rankers.base import Estimator, source_predictions


@dataclass(frozen=True)
class NCE(Estimator):
    """−H(Y|Z) in nats: how well the model's predicted class z tells the label y; at most 0.

    z is the most probable of the model's own classes, the first of several. Tran, Nguyen and Hassner, 2019,
    arXiv 1908.08142.
    """

    def estimate(
        self, train_x: np.ndarray, train_y: np.ndarray, source_probabilities: np.ndarray | None, seed: int
    ) -> float:
        probabilities, labels, num_classes = source_predictions("NCE", source_probabilities, train_y)
        predicted = probabilities.argmax(axis=1)
        first, together = np.unique(predicted * num_classes + labels, return_index=True, return_counts=True)[1:]
        log_conditional = np.log(together / np.bincount(predicted)[predicted[first]])
        return float(together @ log_conditional) / len(labels)
