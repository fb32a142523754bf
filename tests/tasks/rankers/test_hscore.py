from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_digits, load_iris

from tasks.rankers import get_ranker


def hscore(x: np.ndarray, y: np.ndarray, covariance: str = "regularised") -> float:
    return get_ranker("HScore", covariance=covariance).score(x, y).value


def between_classes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    means = np.stack([x[y == label].mean(axis=0) for label in y])
    return np.cov(means, rowvar=False)


def test_iris_has_the_published_value() -> None:
    x, y = load_iris(return_X_y=True)
    assert hscore(x.astype(np.float32), y) == pytest.approx(1.177842480406727, rel=1e-9)


@pytest.mark.parametrize("rows", [400, 40], ids=["more rows", "more dimensions"])
def test_regularised_is_by_the_covariance_of_ledoit_and_wolf(rows: int) -> None:
    x, y = load_digits(return_X_y=True)
    x, y = x[:rows], y[:rows]
    shrunk = LedoitWolf().fit(x)
    expected = (1 - shrunk.shrinkage_) * np.trace(np.linalg.solve(shrunk.covariance_, between_classes(x, y)))
    assert hscore(x, y) == pytest.approx(expected)


def test_plain_is_by_the_sample_covariance() -> None:
    x, y = load_iris(return_X_y=True)
    expected = np.trace(np.linalg.solve(np.cov(x, rowvar=False), between_classes(x, y)))
    assert hscore(x, y, "plain") == pytest.approx(expected)


def test_plain_ignores_any_linear_map_and_repeated_dimensions() -> None:
    x, y = load_iris(return_X_y=True)
    mixed = x @ np.random.default_rng(0).normal(size=(4, 4))
    assert hscore(mixed, y, "plain") == pytest.approx(hscore(x, y, "plain"))
    assert hscore(np.hstack([x, x]), y, "plain") == pytest.approx(hscore(x, y, "plain"))


def test_features_that_do_not_vary_score_zero() -> None:
    assert hscore(np.full((6, 3), 0.1), np.array([0, 1, 2] * 2)) == 0.0
