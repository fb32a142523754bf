"""Metrics of predictions, and bootstrap replicates of those that are no mean over rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from storage.errors import EvaluationError
from tasks.rankers.base import Score, Task

# Replicates are compared with stored ones: whoever changes these raises every ranker's and the majority's version.
REPLICATES = 500
_SEED = 0

_Measure = Callable[[np.ndarray, np.ndarray], float]


def score_predictions(task: Task, metric: str | None, true: np.ndarray, predicted: np.ndarray) -> Score:
    """Compare predictions with the truth by a metric of the task, the first of `METRICS` where `metric` is None.

    Both are (rows,) integers from 0 (classification), (rows,) float64 (regression) or (rows, labels) bool
    (multi-label classification). Raises EvaluationError for a metric of another task.
    """
    measures = METRICS[task]
    metric = metric or next(iter(measures))
    if metric not in measures:
        raise EvaluationError(
            f"{metric} is no metric of {task}", fix=f"leave metric out, or choose one of {', '.join(measures)}"
        )
    measure = measures[metric]
    correct = None
    if task == "classification":
        correct = predicted == true
    elif task == "multilabel classification":
        correct = (predicted == true).all(axis=1)
    return Score(
        measure.of(true, predicted),
        higher_is_better=measure.higher_is_better,
        metric=metric,
        per_row_correct=correct,
        replicates=None if metric == "accuracy" else _replicate(measure.of, true, predicted),
    )


def _accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    return float((true == predicted).mean())


def _macro_f1(true: np.ndarray, predicted: np.ndarray) -> float:
    classes = max(true.max(), predicted.max()) + 1
    return _mean_ratio(
        2 * _hits(true, predicted, classes),
        np.bincount(true, minlength=classes) + np.bincount(predicted, minlength=classes),
    )


def _balanced_accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    return _mean_ratio(_hits(true, predicted, true.max() + 1), np.bincount(true))


def _macro_f1_of_labels(true: np.ndarray, predicted: np.ndarray) -> float:
    return _mean_ratio(2 * (true & predicted).sum(axis=0), true.sum(axis=0) + predicted.sum(axis=0))


def _micro_f1_of_labels(true: np.ndarray, predicted: np.ndarray) -> float:
    return _mean_ratio(
        np.array([2 * np.count_nonzero(true & predicted)]),
        np.array([np.count_nonzero(true) + np.count_nonzero(predicted)]),
    )


def _rmse(true: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.sqrt(np.mean((true - predicted) ** 2)))


def _mae(true: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.mean(np.abs(true - predicted)))


def _r2(true: np.ndarray, predicted: np.ndarray) -> float:
    residual, total = np.sum((true - predicted) ** 2), np.sum((true - true.mean()) ** 2)
    # As scikit-learn says it of a target that does not vary.
    return float(1 - residual / total) if total > 0 else float(residual == 0)


def _spearman(true: np.ndarray, predicted: np.ndarray) -> float:
    from scipy.stats import rankdata

    ranks = [rank - rank.mean() for rank in (rankdata(true), rankdata(predicted))]
    scale = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    return float(ranks[0] @ ranks[1] / scale) if scale > 0 else 0.0


@dataclass(frozen=True)
class _Metric:
    of: _Measure
    higher_is_better: bool = True


# As scikit-learn defines them, but that what occurs neither as true nor as predicted has no share in macro F1;
# balanced accuracy is the mean over the classes that occur as true. Spearman's correlation with a constant is 0.
METRICS: Mapping[Task, Mapping[str, _Metric]] = {
    "classification": {
        "accuracy": _Metric(_accuracy),
        "macro_f1": _Metric(_macro_f1),
        "balanced_accuracy": _Metric(_balanced_accuracy),
    },
    "multilabel classification": {
        "macro_f1": _Metric(_macro_f1_of_labels),
        "micro_f1": _Metric(_micro_f1_of_labels),
    },
    "regression": {
        "rmse": _Metric(_rmse, higher_is_better=False),
        "mae": _Metric(_mae, higher_is_better=False),
        "r2": _Metric(_r2),
        "spearman": _Metric(_spearman),
    },
}


def _hits(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(true[true == predicted], minlength=classes)


def _mean_ratio(numerator: np.ndarray, denominator: np.ndarray) -> float:
    """The mean of the ratios whose denominator is not 0; 0 where there are none."""
    occurring = denominator > 0
    return float((numerator[occurring] / denominator[occurring]).mean()) if occurring.any() else 0.0


def _replicate(measure: _Measure, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The metric on resamples of the rows with replacement (Efron, 1979): (REPLICATES,) float32.

    Which rows are drawn depends on their number alone, so that replicates of two models on one test split are
    paired. Takes time in proportion to the rows, 0.1 s for 10,000, and memory for one resample.
    """
    # The legacy generator, because its stream is frozen: replicates of another version of numpy are paired too.
    random = np.random.RandomState(_SEED)
    rows = len(true)
    draws = (random.randint(rows, size=rows, dtype=np.int64) for _ in range(REPLICATES))
    return np.array([measure(true[drawn], predicted[drawn]) for drawn in draws], dtype=np.float32)
