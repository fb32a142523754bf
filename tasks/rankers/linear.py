"""Score of a linear classifier on frozen features: the linear probe, or linear proxy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.rankers.base import Score, classification_split
from tasks.rankers.metrics import score_classes

_BATCH_ROWS = 64
_BATCHES_PER_EPOCH = 100
_FIRST_MOMENT, _SECOND_MOMENT, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Linear:
    """Test accuracy of multinomial logistic regression on features standardised by the training split.

    `metric` is what the test predictions are compared by; see tasks.rankers.metrics.
    Minimises cross-entropy + |weights|²/2n, scikit-learn's objective at C=1, by Adam in shuffled
    mini-batches. `learning_rate` is per standard deviation of a feature and falls to 0 along a half
    cosine over `num_epochs` passes of the training rows.
    """

    learning_rate: float = 0.02
    num_epochs: int = 60
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
        split = classification_split(train_x, train_y, test_x, test_y)
        mean, deviation = _moments(split.train_x)
        weights = fit_softmax(
            _with_intercept(((split.train_x - mean) / deviation).astype(np.float32)),
            split.train_y,
            split.num_classes,
            learning_rate=self.learning_rate,
            num_epochs=self.num_epochs,
            seed=seed,
        )
        # In double precision, since test rows may lie any number of deviations from the training mean.
        logits = _with_intercept((split.test_x - mean) / deviation) @ weights
        return score_classes(self.metric, split.test_y, logits.argmax(axis=1))


def fit_softmax(
    x: np.ndarray, y: np.ndarray, num_classes: int, *, learning_rate: float, num_epochs: int, seed: int
) -> np.ndarray:
    """Weights (dimensions, classes) of softmax regression; the last column of `x` is the intercept's.

    Batches hold 64 rows, or a hundredth of the rows when that is more: the number of steps, and so
    the time beyond reading the rows, stops growing with the data. Adam: Kingma and Ba, arXiv 1412.6980.
    """
    n = len(x)
    batch_rows = max(_BATCH_ROWS, -(-n // _BATCHES_PER_EPOCH))
    num_steps = num_epochs * -(-n // batch_rows)
    targets = np.eye(num_classes, dtype=x.dtype)[y]
    weights = np.zeros((x.shape[1], num_classes), x.dtype)
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    random = np.random.default_rng(seed)
    step = 0
    for _ in range(num_epochs):
        order = random.permutation(n)
        for start in range(0, n, batch_rows):
            batch = order[start : start + batch_rows]
            rows = x[batch]
            gradient = rows.T @ ((_softmax(rows @ weights) - targets[batch]) / len(rows))
            gradient[:-1] += weights[:-1] / n
            step += 1
            first += (1 - _FIRST_MOMENT) * (gradient - first)
            second += (1 - _SECOND_MOMENT) * (gradient**2 - second)
            rate = learning_rate * (1 + np.cos(np.pi * step / num_steps)) / 2
            rate *= np.sqrt(1 - _SECOND_MOMENT**step) / (1 - _FIRST_MOMENT**step)
            weights -= x.dtype.type(rate) * first / (np.sqrt(second) + _EPSILON)
    return weights


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, in double precision; 1 for the deviation of a constant one."""
    mean = x.mean(axis=0, dtype=np.float64)
    deviation = x.std(axis=0, dtype=np.float64)
    deviation[deviation <= len(x) * np.finfo(np.float64).eps * np.abs(mean)] = 1.0
    return mean, deviation


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _with_intercept(x: np.ndarray) -> np.ndarray:
    return np.hstack([x, np.ones((len(x), 1), x.dtype)])
