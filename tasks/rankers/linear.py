"""Score of a linear model on frozen features: the linear probe, or linear proxy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from storage.errors import EvaluationError
from tasks.rankers.base import Score, checked_split
from tasks.rankers.metrics import score_predictions

_BLOCK_ROWS = 1024
# Logits held at once: 16 MiB.
_BLOCK_LOGITS = 2**22
# The rate at which the first step is the gradient's, as scikit-learn's is.
_LEARNING_RATE = 0.02
# The largest entry of the gradient at which training ends: a little above scikit-learn's, for fewer steps and the same
# accuracy. And the steps that L-BFGS remembers, as many as there.
_TOLERANCE, _MEMORY = 1.5e-4, 10

# Logits and targets of some rows: their summed loss, and its gradient by the logits, which are overwritten.
_Loss = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]


@dataclass(frozen=True)
class Linear:
    """Score of a linear model on features standardised by the training split.

    Classes by multinomial logistic regression, each label of several by a logistic regression of its own, numbers by
    ridge regression. `metric` is what the predictions are compared by, the first of the task where None; see
    tasks.rankers.metrics.

    Logistic regression minimises cross-entropy + |weights|²/2n, scikit-learn's objective at C=1, by L-BFGS from
    zero weights in at most `num_epochs` steps, each of which reads the training rows once or a few times. The
    first step is `learning_rate`/0.02 gradients long, at most; later ones find their own length. Ridge regression
    minimises |errors|² + |weights|² in closed form, where both mean nothing.
    """

    learning_rate: float = _LEARNING_RATE
    num_epochs: int = 60
    metric: str | None = None

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
        if test_x is None and test_y is None:
            raise EvaluationError("no test split to measure a linear model on", fix="add TESTED ON …")
        split = checked_split(train_x, train_y, test_x, test_y)
        train, mean, deviation = _standardised(split.train_x)
        # In double precision, since test rows may lie any number of deviations from the training mean.
        test = (split.test_x - mean) / deviation
        if split.task == "regression":
            weights, intercept = fit_ridge(train.astype(np.float64), split.train_y)
            return score_predictions(split.task, self.metric, split.test_y, test @ weights + intercept)
        is_classification = split.task == "classification"
        weights = fit_logistic(
            train,
            split.train_y,
            split.num_classes if is_classification else split.train_y.shape[1],
            _softmax_loss if is_classification else _sigmoid_loss,
            learning_rate=self.learning_rate,
            num_epochs=self.num_epochs,
        )
        logits = test @ weights[:-1] + weights[-1]
        predicted = logits.argmax(axis=1) if is_classification else logits > 0
        return score_predictions(split.task, self.metric, split.test_y, predicted)


def fit_ridge(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and intercept of ridge regression on columns of mean 0, with penalty |weights|²."""
    rest = y - y.mean()
    if len(x) < x.shape[1]:
        weights = x.T @ np.linalg.solve(x @ x.T + np.eye(len(x)), rest)
    else:
        weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ rest)
    return weights, float(y.mean())


def fit_logistic(
    x: np.ndarray, y: np.ndarray, num_outputs: int, loss: _Loss, *, learning_rate: float, num_epochs: int
) -> np.ndarray:
    """Weights (dimensions + 1, outputs) of logistic regression, the intercepts last, in double precision."""
    from scipy.optimize import minimize

    shape = (x.shape[1] + 1, num_outputs)
    block = max(1, _BLOCK_LOGITS // num_outputs)

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        weights = weights.reshape(shape)
        narrow = weights.astype(x.dtype)
        value, slope = 0.0, np.zeros(shape)
        for start in range(0, len(x), block):
            rows = x[start : start + block]
            logits = rows @ narrow[:-1]
            logits += narrow[-1]
            part, residual = loss(logits, y[start : start + block])
            value += part
            slope[:-1] += rows.T @ residual
            slope[-1] += residual.sum(axis=0)
        penalty = weights.copy()
        penalty[-1] = 0
        slope += penalty
        slope /= len(x)
        return (value + (penalty**2).sum() / 2) / len(x), slope.ravel()

    # L-BFGS begins with a step of one gradient; in this unit the gradient, too, is longer by as much.
    unit = np.sqrt(learning_rate / _LEARNING_RATE)

    def in_units(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(unit * weights)
        return value, unit * gradient

    found = minimize(
        in_units,
        np.zeros(shape).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": num_epochs, "gtol": unit * _TOLERANCE, "ftol": 0, "maxcor": _MEMORY},
    )
    return unit * found.x.reshape(shape)


def _softmax_loss(logits: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    logits -= logits.max(axis=1, keepdims=True)
    own = np.arange(len(y)), y
    of_own = logits[own].sum(dtype=np.float64)
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    logits /= total
    logits[own] -= 1
    return float(np.log(total).sum(dtype=np.float64) - of_own), logits


def _sigmoid_loss(logits: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    loss = float(np.logaddexp(0, logits).sum(dtype=np.float64) - logits[y].sum(dtype=np.float64))
    # The same as 1 / (1 + exp(−logits)), which would overflow.
    return loss, (np.tanh(logits / 2) + 1) / 2 - y


def _standardised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows less the mean of each column, over its standard deviation, in single precision; and these two.

    The deviation of a constant column is taken to be 1. Raises EvaluationError where a square is no finite number.
    """
    rows = len(x)
    mean = x.mean(axis=0, dtype=np.float64)
    # Features are subtracted in their own precision; what is lost there is made up for below.
    near = mean.astype(x.dtype)
    squares, rest = np.zeros_like(mean), np.zeros_like(mean)
    for start in range(0, rows, _BLOCK_ROWS):
        difference = x[start : start + _BLOCK_ROWS] - near
        squares += np.einsum("nd,nd->d", difference, difference)
        rest += difference.sum(axis=0)
    rest /= rows
    if not np.isfinite(squares).all():
        raise EvaluationError(
            "the squares of these features are beyond double precision", fix="normalise them, or leave the model out"
        )
    deviation = np.sqrt(np.maximum(squares / rows - rest**2, 0.0))
    deviation[deviation <= rows * np.finfo(np.float64).eps * np.abs(mean)] = 1.0
    mean = near + rest
    result = np.empty(x.shape, np.float32)
    for start in range(0, rows, _BLOCK_ROWS):
        difference = x[start : start + _BLOCK_ROWS] - near
        result[start : start + _BLOCK_ROWS] = (difference - rest.astype(x.dtype)) / deviation.astype(x.dtype)
    return result, mean, deviation
