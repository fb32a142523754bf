"""The contract every ranker fulfils, and the checks of features and labels that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from storage.errors import EvaluationError

Task = Literal["classification", "multilabel classification", "regression"]

# Sums of fourth powers of it are still far from the largest double.
_LARGEST = 1e70


@dataclass(frozen=True)
class Score:
    """What a ranker says of a model.

    `per_row_correct` is (test rows,) bool where rows are right or wrong. `replicates` is (replicates,) float32: the
    metric on resamples of the test rows, where it is no mean over rows; see tasks.rankers.metrics.
    """

    value: float
    higher_is_better: bool
    metric: str
    per_row_correct: np.ndarray | None = field(default=None, compare=False)
    replicates: np.ndarray | None = field(default=None, compare=False)


class Ranker(Protocol):
    """Pure and deterministic for a seed. Nothing is ever fitted to the test split."""

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
        """Score features (rows, dimensions) against labels, whose type and shape tell the task:

        | labels | task |
        |---|---|
        | (rows,) text, whole numbers or bool | classification |
        | (rows,) of a float type | regression |
        | (rows, labels) bool, or 0 and 1 | multi-label classification |

        `source_probabilities` (rows, source classes) are the model's own predictions for the training rows.
        Raises EvaluationError when the ranker is not defined for the task, and when the arrays do not fit together,
        are empty or are not finite.
        """
        ...


class Estimator(ABC):
    """A ranker that looks at the training split alone, and whose score is a metric of its own; higher is better."""

    @abstractmethod
    def estimate(
        self, train_x: np.ndarray, train_y: np.ndarray, source_probabilities: np.ndarray | None, seed: int
    ) -> float:
        """The score of the training rows; see `Ranker.score`."""

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
        """See `Ranker.score`. Raises EvaluationError also where the estimate is not finite."""
        name = type(self).__name__
        value = self.estimate(train_x, train_y, source_probabilities, seed)
        if not np.isfinite(value):
            raise EvaluationError(
                f"{name} of these features is not a finite number",
                fix="their scale is beyond double precision: normalise them, or leave the model out",
            )
        return Score(float(value), higher_is_better=True, metric=name.lower())


@dataclass(frozen=True)
class Labels:
    """Checked labels of both splits, by task: positions in the sorted classes of the training split, float64, or bool
    (rows, labels).

    Test classes that the training split lacks are numbered from `num_classes`, which no prediction equals.
    """

    task: Task
    train: np.ndarray
    test: np.ndarray
    num_classes: int = 0


@dataclass(frozen=True)
class Split:
    """Checked features and labels, which are as in `Labels`; without a test split the test arrays have no rows."""

    task: Task
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    num_classes: int = 0


def checked_split(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray | None, test_y: np.ndarray | None
) -> Split:
    """Check both splits and encode their labels. Raises EvaluationError that says which split is wrong."""
    if (test_x is None) != (test_y is None):
        missing = "features" if test_x is None else "labels"
        raise EvaluationError(f"the test split has no {missing}", fix="pass features and labels of both splits")
    train_x, train_y = _checked_features("training", train_x), _checked_labels("training", train_y)
    _check_rows("training", train_x, train_y)
    if test_x is None or test_y is None:
        test_x, test_y = train_x[:0], train_y[:0]
    else:
        test_x, test_y = _checked_features("test", test_x), _checked_labels("test", test_y)
        _check_rows("test", test_x, test_y)
    if train_x.shape[1] != test_x.shape[1]:
        raise EvaluationError(
            f"training features have {train_x.shape[1]} dimensions and test features {test_x.shape[1]}",
            fix="take both from the same layer of the same model",
        )
    labels = _comparable(train_y, test_y)
    return Split(labels.task, train_x, labels.train, test_x, labels.test, labels.num_classes)


def checked_labels(train_y: np.ndarray, test_y: np.ndarray) -> Labels:
    """Check and encode the labels of both splits. Raises EvaluationError that says which split is wrong."""
    return _comparable(_checked_labels("training", train_y), _checked_labels("test", test_y))


def _comparable(train_y: np.ndarray, test_y: np.ndarray) -> Labels:
    task = _task_of(train_y)
    is_text = train_y.dtype.kind == "U"
    if task != _task_of(test_y) or is_text != (test_y.dtype.kind == "U") or train_y.shape[1:] != test_y.shape[1:]:
        raise EvaluationError(
            f"training labels are {_described(train_y)} and test labels {_described(test_y)}",
            fix="label both splits with classes, numbers or the same columns of 0 and 1",
        )
    if task == "regression":
        return Labels(task, train_y.astype(np.float64), test_y.astype(np.float64))
    if task == "multilabel classification":
        return Labels(task, train_y.astype(bool), test_y.astype(bool))
    classes, train_codes = _encoded(train_y)
    positions = np.searchsorted(classes, test_y).clip(max=len(classes) - 1)
    is_unseen = classes[positions] != test_y
    positions[is_unseen] = len(classes) + np.unique(test_y[is_unseen], return_inverse=True)[1]
    return Labels(task, train_codes, positions, len(classes))


def training_split(ranker: str, train_x: np.ndarray, train_y: np.ndarray) -> Split:
    """The checked training split, for estimators that square features and multiply the squares.

    Raises EvaluationError where that would overflow.
    """
    split = checked_split(train_x, train_y, None, None)
    if float(np.abs(split.train_x).max()) > _LARGEST:
        raise EvaluationError(
            f"{ranker} of features above {_LARGEST:g} is beyond double precision",
            fix="normalise the features, or leave the model out",
        )
    return split


def training_classes(ranker: str, train_x: np.ndarray, train_y: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Checked training features, the classes of the rows from 0, and how many classes there are.

    Raises EvaluationError, in the name of the ranker, when the labels are no classes.
    """
    split = training_split(ranker, train_x, train_y)
    refuse_task(ranker, split.task, {"classification"})
    return split.train_x, split.train_y, split.num_classes


def source_predictions(
    ranker: str, source_probabilities: np.ndarray | None, train_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Checked probabilities (rows, source classes), the classes of the rows from 0, and how many classes there are."""
    if source_probabilities is None:
        raise EvaluationError(
            f"{ranker} needs the model's predictions of its own classes",
            fix="rank models that have a classification head, or choose a ranker of features such as NLEEP",
        )
    probabilities = _checked_features("source probabilities: training", source_probabilities)
    if (probabilities < 0).any() or not (probabilities.sum(axis=1) > 0).all():
        raise EvaluationError(
            "the source probabilities hold negative numbers, or rows of zeros", fix="apply a softmax to the logits"
        )
    labels = _checked_labels("training", train_y)
    _check_rows("training", probabilities, labels)
    refuse_task(ranker, _task_of(labels), {"classification"})
    classes, codes = _encoded(labels)
    return probabilities, codes, len(classes)


def refuse_task(ranker: str, task: Task, defined_for: Container[Task]) -> None:
    """Raise EvaluationError when a ranker is not defined for a task."""
    if task not in defined_for:
        raise EvaluationError(
            f"{ranker} is not defined for {task}",
            fix="choose a ranker that is, such as LogME, Linear or Euclidean NN",
        )


def _encoded(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) == 1:
        raise EvaluationError(
            f"all training rows have the same label {classes[0]!s}",
            fix="train on rows of at least two classes",
        )
    return classes, codes


def _task_of(labels: np.ndarray) -> Task:
    if labels.ndim == 2:
        return "multilabel classification"
    return "regression" if labels.dtype.kind == "f" else "classification"


def _described(labels: np.ndarray) -> str:
    return f"{labels.dtype}" if labels.ndim == 1 else f"{labels.shape[1]} columns of {labels.dtype}"


def _checked_features(split: str, x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] == 0 or x.dtype.kind not in "fiub":
        raise EvaluationError(
            f"{split} features are {x.dtype} of shape {x.shape}",
            fix="pass numbers of shape (rows, dimensions)",
        )
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise EvaluationError(
            f"{split} features hold NaN or infinity in {len(bad)} of {len(x)} rows, first in row {bad[0]}",
            fix="the model gives no usable features for these rows: leave it out, or check its weights",
        )
    return x.astype(np.result_type(x.dtype, np.float32), copy=False)


def _checked_labels(split: str, y: np.ndarray) -> np.ndarray:
    y = np.asarray(y)
    if y.dtype == object:
        y = np.asarray(y.tolist())
    is_multilabel = y.ndim == 2 and y.shape[1] > 0 and y.dtype.kind in "iubf" and np.isin(y, (0, 1)).all()
    if not is_multilabel and (y.ndim != 1 or y.dtype.kind not in "iubfU"):
        raise EvaluationError(
            f"{split} labels are {y.dtype} of shape {y.shape}",
            fix="pass numbers or text of shape (rows,), or 0 and 1 of shape (rows, labels)",
        )
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise EvaluationError(
            f"{split} label of row {np.flatnonzero(~np.isfinite(y))[0]} is missing", fix="label every row"
        )
    return y


def _check_rows(split: str, x: np.ndarray, y: np.ndarray) -> None:
    if len(x) != len(y):
        raise EvaluationError(
            f"{len(x)} rows of {split} features and {len(y)} labels", fix="pass one label for each row"
        )
    if len(x) == 0:
        raise EvaluationError(f"the {split} split has no rows", fix="choose a dataset with rows")
