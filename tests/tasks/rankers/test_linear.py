from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from storage.errors import EvaluationError
from tasks.rankers import get_ranker

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def digits(seed: int) -> Split:
    x, y = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x, y, train_size=600, random_state=seed, stratify=y)
    return train_x, train_y, test_x, test_y


def correlated_digits() -> Split:
    """Digits through a random hidden layer: many strongly correlated features, as embeddings have."""
    train_x, train_y, test_x, test_y = digits(0)
    projection = np.random.default_rng(0).normal(size=(64, 384))
    return np.maximum(train_x @ projection, 0), train_y, np.maximum(test_x @ projection, 0), test_y


@pytest.mark.parametrize("split", [digits(0), digits(1), digits(2), correlated_digits()])
def test_accuracy_is_that_of_scikit_learn(split: Split) -> None:
    train_x, train_y, test_x, test_y = split
    optimum = make_pipeline(StandardScaler(), LogisticRegression(C=1, max_iter=1000)).fit(train_x, train_y)
    assert get_ranker("Linear").score(*split).value == pytest.approx(optimum.score(test_x, test_y), abs=0.002)


def test_two_classes_are_separated() -> None:
    random = np.random.default_rng(0)
    y = np.repeat([0, 1], 100)
    x = random.normal(size=(200, 3)) + 6 * y[:, None]
    assert get_ranker("Linear").score(x[::2], y[::2], x[1::2], y[1::2]).value == 1.0


def test_learning_rate_and_epochs_decide_how_far_training_gets() -> None:
    split = digits(0)
    full = get_ranker("Linear").score(*split).value
    assert get_ranker("Linear", learning_rate=1e-5, num_epochs=1).score(*split).value < full - 0.05
    assert get_ranker("Linear", learning_rate=1e-5, num_epochs=1) == get_ranker("linear", lr=1e-5, epochs=1)


def test_each_feature_may_have_its_own_scale_and_offset() -> None:
    train_x, train_y, test_x, test_y = digits(0)
    random = np.random.default_rng(0)
    scales, offsets = 10.0 ** random.uniform(-6, 6, 64), random.normal(size=64)
    moved = get_ranker("Linear").score((train_x + offsets) * scales, train_y, (test_x + offsets) * scales, test_y)
    assert moved.value == pytest.approx(get_ranker("Linear").score(*digits(0)).value, abs=0.01)


def test_outliers_in_the_test_split_do_no_harm() -> None:
    train_x, train_y, test_x, test_y = digits(0)
    expected = get_ranker("Linear").score(train_x, train_y, test_x, test_y).per_row_correct
    test_x = test_x.copy()
    test_x[0] = 1e300
    rows = get_ranker("Linear").score(train_x, train_y, test_x, test_y).per_row_correct
    assert expected is not None
    assert rows is not None
    np.testing.assert_array_equal(rows[1:], expected[1:])


@pytest.mark.parametrize("rows", [600, 40], ids=["more rows", "more dimensions"])
def test_numbers_are_predicted_by_ridge_regression(rows: int) -> None:
    train_x, train_y, test_x, test_y = digits(0)
    train_x, train_y, test_y = train_x[:rows], train_y[:rows] / 2, test_y / 2
    predicted = make_pipeline(StandardScaler(), Ridge(alpha=1)).fit(train_x, train_y).predict(test_x)
    score = get_ranker("Linear").score(train_x, train_y, test_x, test_y)
    assert score.metric == "rmse"
    assert score.value == pytest.approx(np.sqrt(np.mean((predicted - test_y) ** 2)))


def test_each_label_has_a_logistic_regression_of_its_own() -> None:
    train_x, train_y, test_x, test_y = digits(0)
    labels = [y[:, None] % np.array([2, 3, 5]) == 0 for y in (train_y, test_y)]
    reference = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(tol=1e-6, max_iter=1000)))
    predicted = reference.fit(train_x, labels[0]).predict(test_x).astype(bool)
    score = get_ranker("Linear").score(train_x, labels[0], test_x, labels[1])
    assert score.per_row_correct is not None
    assert score.per_row_correct.mean() == pytest.approx((predicted == labels[1]).all(axis=1).mean(), abs=0.005)


def test_a_linear_model_needs_a_test_split() -> None:
    with pytest.raises(EvaluationError, match="no test split"):
        get_ranker("Linear").score(np.eye(2), np.array([0, 1]))
