"""Score of a linear model on frozen features: the linear probe, or linear proxy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from storage.errors import EvaluationError
from tasks.rankers.base import Score, checked_split
from tasks.rankers.metrics import score_predictions

_BLOCK_ROWS = 256
# Logits held at once: 16 MiB.
_BLOCK_LOGITS = 2**22
# The rate at which the first step is the gradient's, as scikit-learn's is.
_LEARNING_RATE = 0.02
# The largest entry of the gradient at which training ends: a little above scikit-learn's, for fewer steps and the same
# accuracy. And the steps that L-BFGS remembers, as many as there.
_TOLERANCE, _MEMORY = 1.5e-4, 10

# Logits (outputs, rows) and targets of some rows: their summed loss, and its gradient by the logits, which may be
# overwritten.
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
        columns, mean, deviation = _standardised(split.train_x)
        if split.task == "regression":
            weights = fit_ridge(columns[:-1].astype(np.float64), split.train_y)
        elif split.task == "classification":
            weights = self._fit_logistic(columns, split.train_y, split.num_classes, _softmax_loss)
        else:
            weights = self._fit_logistic(columns, split.train_y.T, split.train_y.shape[1], _sigmoid_loss)
        # In double precision, since test rows may lie any number of deviations from the training mean.
        scaled = weights[:-1] / deviation[:, None]
        outputs = split.test_x.astype(np.float64) @ scaled + (weights[-1] - mean @ scaled)
        if split.task == "regression":
            predicted = outputs[:, 0]
        else:
            predicted = outputs.argmax(axis=1) if split.task == "classification" else outputs > 0
        return score_predictions(split.task, self.metric, split.test_y, predicted)

    def _fit_logistic(self, columns: np.ndarray, y: np.ndarray, num_outputs: int, loss: _Loss) -> np.ndarray:
        return fit_logistic(columns, y, num_outputs, loss, learning_rate=self.learning_rate, num_epochs=self.num_epochs)


def fit_ridge(columns: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights (dimensions + 1, 1) of ridge regression on columns ((dimensions, rows), of mean 0), the intercept last.

    The penalty is |weights|², without the intercept's.
    """
    dimensions, rows = columns.shape
    rest = y - y.mean()
    if rows < dimensions:
        weights = columns @ np.linalg.solve(columns.T @ columns + np.eye(rows), rest)
    else:
        weights = np.linalg.solve(columns @ columns.T + np.eye(dimensions), columns @ rest)
    return np.append(weights, y.mean())[:, None]


def fit_logistic(
    columns: np.ndarray, y: np.ndarray, num_outputs: int, loss: _Loss, *, learning_rate: float, num_epochs: int
) -> np.ndarray:
    """Weights (dimensions + 1, outputs) of logistic regression, the intercepts last, in double precision.

    `columns` (dimensions + 1, rows) end with the ones that the intercepts stand for; matrix products and losses are
    faster this way round. `y` has the rows last.
    """
    from scipy.optimize import minimize

    rows = columns.shape[1]
    shape = (len(columns), num_outputs)
    block = max(1, _BLOCK_LOGITS // num_outputs)
    penalised = np.ones((len(columns), 1))
    penalised[-1] = 0

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        weights = weights.reshape(shape)
        narrow = weights.astype(columns.dtype)
        penalty = weights * penalised
        value, slope = float((penalty * weights).sum()) / 2, penalty
        for start in range(0, rows, block):
            some = columns[:, start : start + block]
            part, residual = loss(narrow.T @ some, y[..., start : start + block])
            value += part
            slope += some @ residual.T
        slope /= rows
        return value / rows, slope.ravel()

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
    logits -= logits.max(axis=0)
    own = y, np.arange(len(y))
    of_own = logits[own].sum(dtype=np.float64)
    np.exp(logits, out=logits)
    total = logits.sum(axis=0)
    logits /= total
    logits[own] -= 1
    return float(np.log(total).sum(dtype=np.float64) - of_own), logits


def _sigmoid_loss(logits: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    loss = float(np.logaddexp(0, logits).sum(dtype=np.float64) - logits[y].sum(dtype=np.float64))
    # The same as 1 / (1 + exp(−logits)), which would overflow.
    return loss, (np.tanh(logits / 2) + 1) / 2 - y


def _standardised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns less their mean over their deviation, and one of ones: (dimensions + 1, rows) float32; mean, deviation.

    The deviation of a constant column is taken to be 1. Raises EvaluationError where a square is no finite number.
    """
    rows, dimensions = x.shape
    # Features are subtracted in their own precision from numbers near the mean; what that loses is made up for below.
    near = x[:_BLOCK_ROWS].mean(axis=0, dtype=np.float64).astype(x.dtype)
    squares, rest = np.zeros(dimensions), np.zeros(dimensions)
    for start in range(0, rows, _BLOCK_ROWS):
        difference = x[start : start + _BLOCK_ROWS] - near
        squares += np.einsum("nd,nd->d", difference, difference)
        rest += difference.sum(axis=0)
    rest /= rows
    if not np.isfinite(squares).all():
        raise EvaluationError(
            "the squares of these features are beyond double precision", fix="normalise them, or leave the model out"
        )
    mean = near + rest
    deviation = np.sqrt(np.maximum(squares / rows - rest**2, 0.0))
    deviation[deviation <= rows * np.finfo(np.float64).eps * np.abs(mean)] = 1.0
    columns = np.ones((dimensions + 1, rows), np.float32)
    for start in range(0, rows, _BLOCK_ROWS):
        difference = x[start : start + _BLOCK_ROWS] - near
        difference -= rest.astype(x.dtype)
        difference /= deviation.astype(x.dtype)
        columns[:-1, start : start + _BLOCK_ROWS] = difference.T
    return columns, mean, deviation
