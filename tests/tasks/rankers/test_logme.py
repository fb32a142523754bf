from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris

from tasks.rankers import get_ranker
from tasks.rankers.spectrum import spectrum


def logme(x: np.ndarray, y: np.ndarray) -> float:
    return get_ranker("LogME").score(x, y).value


def largest_evidence(x: np.ndarray, y: np.ndarray) -> float:
    """The largest log-density per row of y ~ N(0, I/β + XXᵀ/α), over a fine grid of both precisions."""
    grid = np.exp(np.arange(-6, 6, 0.1))
    products = x @ x.T
    return max(
        multivariate_normal(cov=np.eye(len(y)) / beta + products / alpha).logpdf(y) / len(y)
        for alpha in grid
        for beta in grid
    )


def test_iris_has_the_published_value() -> None:
    x, y = load_iris(return_X_y=True)
    assert logme(x.astype(np.float32), y) == pytest.approx(-0.16006022033609904, rel=1e-6)


@pytest.mark.parametrize("shape", [(12, 3), (8, 14)], ids=["more rows", "more dimensions"])
def test_a_regression_has_the_largest_evidence_there_is(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=shape)
    y = x[:, 0] - x[:, 1] + random.normal(0, 0.5, shape[0])
    assert logme(x, y) == pytest.approx(largest_evidence(x, y), abs=2e-3)


def test_classes_are_the_mean_over_their_indicators_and_labels_over_their_columns() -> None:
    random = np.random.default_rng(0)
    y = random.integers(3, size=60)
    x = random.normal(size=(60, 5)) + y[:, None]
    indicators = y[:, None] == np.arange(3)
    columns = [logme(x, column.astype(float)) for column in indicators.T]
    assert logme(x, y) == pytest.approx(np.mean(columns))
    assert logme(x, indicators) == pytest.approx(np.mean(columns))
    assert logme(x, indicators.astype(int)) == pytest.approx(np.mean(columns))


def test_dimensions_of_very_different_scales_lose_no_digits() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 6)) * 10.0 ** np.arange(-3, 3) + 10.0 ** np.arange(-2, 4)
    y = random.integers(3, size=60)
    u, singular, _ = np.linalg.svd(x, full_matrices=False)
    squares, projections = spectrum(x, y, 3)
    np.testing.assert_allclose(np.sqrt(squares[::-1]), singular, rtol=1e-9)
    np.testing.assert_allclose(projections[::-1], (u.T @ (y[:, None] == np.arange(3))) ** 2, rtol=1e-6)


def test_a_dimension_of_zeros_changes_nothing() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 4)), random.normal(size=40)
    assert logme(np.hstack([x, np.zeros((40, 1))]), y) == pytest.approx(logme(x, y))
