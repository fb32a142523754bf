"""The contract every ranker fulfils, and what the classification rankers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from storage.errors import EvaluationError


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
        """Score features (rows, dimensions) against labels (rows,); labels may be numbers or text.

        Raises EvaluationError when the arrays do not fit together, are empty or are not finite.
        """
        ...


@dataclass(frozen=True)
class ClassificationSplit:
    """Checked features, and labels as positions in the sorted classes of the training split.

    Test labels that the training split lacks are numbered from `num_classes`, which no prediction equals.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    num_classes: int


def classification_split(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray | None, test_y: np.ndarray | None
) -> ClassificationSplit:
    """Check both splits and encode their labels. Raises EvaluationError that says which split is wrong."""
    if test_x is None or test_y is None:
        raise EvaluationError("no test split to measure accuracy on", fix="add TESTED ON …")
    train_x, train_y = _checked("training", train_x, train_y)
    test_x, test_y = _checked("test", test_x, test_y)
    if train_x.shape[1] != test_x.shape[1]:
        raise EvaluationError(
            f"training features have {train_x.shape[1]} dimensions and test features {test_x.shape[1]}",
            fix="take both from the same layer of the same model",
        )
    if (train_y.dtype.kind == "U") != (test_y.dtype.kind == "U"):
        raise EvaluationError(
            f"training labels are {train_y.dtype} and test labels {test_y.dtype}",
            fix="label both splits with numbers or both with text",
        )
    classes, train_codes = np.unique(train_y, return_inverse=True)
    if len(classes) == 1:
        raise EvaluationError(
            f"all training rows have the same label {classes[0]!s}",
            fix="train on rows of at least two classes",
        )
    positions = np.searchsorted(classes, test_y).clip(max=len(classes) - 1)
    is_unseen = classes[positions] != test_y
    positions[is_unseen] = len(classes) + np.unique(test_y[is_unseen], return_inverse=True)[1]
    return ClassificationSplit(train_x, train_codes, test_x, positions, len(classes))


def _checked(split: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 2 or x.shape[1] == 0 or x.dtype.kind not in "fiub":
        raise EvaluationError(
            f"{split} features are {x.dtype} of shape {x.shape}",
            fix="pass numbers of shape (rows, dimensions)",
        )
    if y.dtype == object:
        y = np.asarray(y.tolist())
    if y.ndim != 1 or y.dtype.kind not in "iubfU":
        raise EvaluationError(
            f"{split} labels are {y.dtype} of shape {y.shape}", fix="pass numbers or text of shape (rows,)"
        )
    if len(x) != len(y):
        raise EvaluationError(
            f"{len(x)} rows of {split} features and {len(y)} labels", fix="pass one label for each row"
        )
    if len(x) == 0:
        raise EvaluationError(f"the {split} split has no rows", fix="choose a dataset with rows")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise EvaluationError(
            f"{split} label of row {np.flatnonzero(~np.isfinite(y))[0]} is missing", fix="label every row"
        )
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise EvaluationError(
            f"{split} features hold NaN or infinity in {len(bad)} of {len(x)} rows, first in row {bad[0]}",
            fix="the model gives no usable features for these rows: leave it out, or check its weights",
        )
    return x.astype(np.result_type(x.dtype, np.float32), copy=False), y
