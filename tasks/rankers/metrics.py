"""Metrics of classification, and bootstrap replicates of those that are no mean over rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tasks.rankers.base import Score

# Replicates are compared with stored ones: whoever changes these raises every ranker's and the majority's version.
REPLICATES = 500
_SEED = 0


def score_classes(metric: str, true: np.ndarray, predicted: np.ndarray) -> Score:
    """Compare predicted with true classes, both (rows,) integers from 0.

    `metric` is accuracy, macro_f1 or balanced_accuracy, as scikit-learn defines them: macro F1 is the mean over the
    classes that occur as true or as predicted, balanced accuracy over those that occur as true.
    """
    correct = predicted == true
    if metric == "accuracy":
        return Score(float(correct.mean()), higher_is_better=True, metric=metric, per_row_correct=correct)
    measure = _MEASURES[metric]
    return Score(
        measure(true, predicted),
        higher_is_better=True,
        metric=metric,
        per_row_correct=correct,
        replicates=_replicate(measure, true, predicted),
    )


def _macro_f1(true: np.ndarray, predicted: np.ndarray) -> float:
    classes = max(true.max(), predicted.max()) + 1
    return _mean_ratio(
        2 * _hits(true, predicted, classes),
        np.bincount(true, minlength=classes) + np.bincount(predicted, minlength=classes),
    )


def _balanced_accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    return _mean_ratio(_hits(true, predicted, true.max() + 1), np.bincount(true))


_MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "macro_f1": _macro_f1,
    "balanced_accuracy": _balanced_accuracy,
}


def _hits(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(true[true == predicted], minlength=classes)


def _mean_ratio(numerator: np.ndarray, denominator: np.ndarray) -> float:
    """The mean of the ratios whose denominator is not 0."""
    occurring = denominator > 0
    return float((numerator[occurring] / denominator[occurring]).mean())


def _replicate(
    measure: Callable[[np.ndarray, np.ndarray], float], true: np.ndarray, predicted: np.ndarray
) -> np.ndarray:
    """The metric on resamples of the rows with replacement (Efron, 1979): (REPLICATES,) float32.

    Which rows are drawn depends on their number alone, so that replicates of two models on one test split are
    paired. Takes time in proportion to the rows, 0.1 s for 10,000, and memory for one resample.
    """
    # The legacy generator, because its stream is frozen: replicates of another version of numpy are paired too.
    random = np.random.RandomState(_SEED)
    rows = len(true)
    draws = (random.randint(rows, size=rows, dtype=np.int64) for _ in range(REPLICATES))
    return np.array([measure(true[drawn], predicted[drawn]) for drawn in draws], dtype=np.float32)
