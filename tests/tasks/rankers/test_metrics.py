from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from storage.errors import EvaluationError
from tasks.rankers import get_ranker
from tasks.rankers.base import Task
from tasks.rankers.metrics import METRICS, REPLICATES, score_predictions
from tasks.rankers.specs import RANKERS, metrics_of


def _macro_f1(true: np.ndarray, predicted: np.ndarray) -> float:
    return float(f1_score(true, predicted, average="macro", zero_division=0))


def _balanced_accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    with warnings.catch_warnings():
        # It warns of predicted classes that no row is truly of, and leaves them out.
        warnings.simplefilter("ignore")
        return float(balanced_accuracy_score(true, predicted))


SCIKIT_LEARN: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda true, predicted: float(accuracy_score(true, predicted)),
    "macro_f1": _macro_f1,
    "balanced_accuracy": _balanced_accuracy,
}
NO_MEANS = ["macro_f1", "balanced_accuracy"]

every_metric = pytest.mark.parametrize("metric", SCIKIT_LEARN)
every_replicated_metric = pytest.mark.parametrize("metric", NO_MEANS)


@st.composite
def _predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    codes = st.integers(0, 6)
    pairs = draw(st.lists(st.tuples(codes, codes), min_size=1, max_size=40))
    true, predicted = np.array(pairs).T
    return true, predicted


def _noisy(rows: int, share_right: float, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    true = random.integers(classes, size=rows)
    return true, np.where(random.random(rows) < share_right, true, random.integers(classes, size=rows))


def _replicates(metric: str, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    replicates = score_predictions("classification", metric, true, predicted).replicates
    assert replicates is not None
    return replicates


@every_metric
@given(predictions=_predictions())
def test_a_metric_is_what_scikit_learn_says(metric: str, predictions: tuple[np.ndarray, np.ndarray]) -> None:
    score = score_predictions("classification", metric, *predictions)
    assert score.value == pytest.approx(SCIKIT_LEARN[metric](*predictions))


@every_metric
@pytest.mark.parametrize("name", ["euclidean_nn", "cosine_nn", "linear"])
def test_every_ranker_offers_the_metric(name: str, metric: str) -> None:
    random = np.random.default_rng(0)
    train_y, test_y = random.integers(3, size=60), random.integers(3, size=40)
    train_x, test_x = (np.eye(3)[y] + random.normal(0, 0.6, (len(y), 3)) for y in (train_y, test_y))
    score = get_ranker(name, metric=metric).score(train_x, train_y, test_x, test_y)
    assert score.metric == metric
    assert score.higher_is_better
    assert (score.replicates is None) == (metric == "accuracy")
    assert score.value != get_ranker(name).score(train_x, train_y, test_x, test_y).value or metric == "accuracy"


@pytest.mark.parametrize("name", ["euclidean_nn", "cosine_nn", "linear"])
def test_the_specs_offer_the_metrics_there_are(name: str) -> None:
    (argument,) = [each for each in RANKERS[name].arguments if each.name == "metric"]
    assert set(argument.allowed) == {metric for measures in METRICS.values() for metric in measures}


def test_the_specs_know_the_metrics_of_every_task_the_default_first() -> None:
    for task, metrics in METRICS.items():
        assert metrics_of(task.replace(" ", "_")) == tuple(metrics)
    assert metrics_of("pair_classification") == metrics_of("token_classification") == metrics_of("classification")


@every_metric
def test_each_test_class_that_training_lacks_counts_as_a_class_of_its_own(metric: str) -> None:
    train_x, train_y = np.array([[0.0], [10.0]]), np.array(["a", "z"])
    test_x, test_y = np.array([[0.0], [1.0], [9.0], [2.0], [8.0]]), np.array(["a", "a", "z", "b", "zz"])
    predicted = np.array(["a", "a", "z", "a", "z"])
    score = get_ranker("euclidean_nn", metric=metric).score(train_x, train_y, test_x, test_y)
    assert score.value == pytest.approx(SCIKIT_LEARN[metric](test_y, predicted))


@every_replicated_metric
def test_replicates_are_the_metric_on_resampled_rows(metric: str) -> None:
    true, predicted = _noisy(12, 0.5, seed=0, classes=5)
    replicates = _replicates(metric, true, predicted)
    assert replicates.shape == (REPLICATES,)
    assert replicates.dtype == np.float32
    random = np.random.RandomState(0)
    samples = [random.randint(12, size=12, dtype=np.int64) for _ in range(REPLICATES)]
    expected = [SCIKIT_LEARN[metric](true[rows], predicted[rows]) for rows in samples]
    np.testing.assert_allclose(replicates, expected, rtol=1e-6)


@every_replicated_metric
def test_replicates_of_two_models_are_of_the_same_rows(metric: str) -> None:
    true, predicted = _noisy(200, 0.7, seed=0)
    worse = predicted.copy()
    worse[:4] = (worse[:4] + 1) % 3
    differences = _replicates(metric, true, predicted) - _replicates(metric, true, worse)
    alone = _replicates(metric, true, predicted).std()
    assert differences.std() < alone / 2
    np.testing.assert_array_equal(_replicates(metric, true, predicted), _replicates(metric, true, predicted))


@every_replicated_metric
def test_replicates_do_not_depend_on_the_numbers_of_the_classes(metric: str) -> None:
    true, predicted = _noisy(100, 0.6, seed=0)
    np.testing.assert_array_equal(
        _replicates(metric, true, predicted), _replicates(metric, true * 7 + 2, predicted * 7 + 2)
    )


@every_replicated_metric
def test_a_perfect_prediction_is_perfect_in_every_resample(metric: str) -> None:
    true = np.array([0, 1, 1, 2, 5])
    assert score_predictions("classification", metric, true, true).value == 1.0
    assert (_replicates(metric, true, true) == 1.0).all()


@every_replicated_metric
def test_one_row_can_be_resampled(metric: str) -> None:
    assert (_replicates(metric, np.array([1]), np.array([0])) == 0.0).all()


def test_the_resamples_are_those_of_every_version() -> None:
    # Stored replicates are compared with new ones, so the rows drawn may never change.
    true = np.arange(6)
    predicted = np.array([0, 1, 2, 0, 0, 0])
    assert _replicates("balanced_accuracy", true, predicted)[:6].tolist() == [0.25, 0.5, 0.75, 0.5, 0.5, 0.5]


def _numbers(rows: int = 30) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    true = random.normal(size=rows)
    return true, true + random.normal(size=rows)


def _label_sets(rows: int = 30) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    true = random.random((rows, 4)) < 0.4
    return true, true ^ (random.random(true.shape) < 0.2)


def test_metrics_of_numbers_are_what_scikit_learn_and_scipy_say() -> None:
    true, predicted = _numbers()
    for metric, expected in {
        "rmse": root_mean_squared_error(true, predicted),
        "mae": mean_absolute_error(true, predicted),
        "r2": r2_score(true, predicted),
        "spearman": spearmanr(true, predicted).statistic,
    }.items():
        assert score_predictions("regression", metric, true, predicted).value == pytest.approx(expected)


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_f1_of_several_labels_is_what_scikit_learn_says(average: str) -> None:
    true, predicted = _label_sets()
    score = score_predictions("multilabel classification", f"{average}_f1", true, predicted)
    assert score.value == pytest.approx(f1_score(true, predicted, average=average))
    np.testing.assert_array_equal(score.per_row_correct, (true == predicted).all(axis=1))


def test_a_label_that_is_neither_true_nor_predicted_has_no_share() -> None:
    true, predicted = _label_sets()
    wider = [np.hstack([labels, np.zeros((len(labels), 1), bool)]) for labels in (true, predicted)]
    for metric in METRICS["multilabel classification"]:
        assert (
            score_predictions("multilabel classification", metric, *wider).value
            == score_predictions("multilabel classification", metric, true, predicted).value
        )
    assert score_predictions("multilabel classification", None, wider[0][:, 4:], wider[1][:, 4:]).value == 0.0


@pytest.mark.parametrize(
    ("task", "data", "default"),
    [("regression", _numbers, "rmse"), ("multilabel classification", _label_sets, "macro_f1")],
)
def test_the_default_metric_follows_the_task_and_every_metric_has_replicates(
    task: Task, data: Callable[[], tuple[np.ndarray, np.ndarray]], default: str
) -> None:
    true, predicted = data()
    assert score_predictions(task, None, true, predicted).metric == default
    for metric in METRICS[task]:
        score = score_predictions(task, metric, true, predicted)
        assert score.replicates is not None
        assert abs(score.replicates.mean() - score.value) < 4 * score.replicates.std()
        assert score.higher_is_better == (metric not in ("rmse", "mae"))


@pytest.mark.parametrize(
    ("task", "metric"),
    [("regression", "accuracy"), ("multilabel classification", "rmse"), ("classification", "spearman")],
)
def test_a_metric_of_another_task_is_refused_with_those_that_fit(task: Task, metric: str) -> None:
    with pytest.raises(EvaluationError, match=f"{metric} is no metric of {task}") as caught:
        score_predictions(task, metric, np.zeros(3), np.zeros(3))
    assert caught.value.fix
    assert all(each in caught.value.fix for each in METRICS[task])


def test_a_target_that_does_not_vary_has_a_limit_and_no_nan() -> None:
    true = np.ones(4)
    assert score_predictions("regression", "r2", true, true).value == 1.0
    assert score_predictions("regression", "r2", true, true + 1).value == 0.0
    assert score_predictions("regression", "spearman", true, np.arange(4.0)).value == 0.0
