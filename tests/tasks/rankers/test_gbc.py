from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from tasks.rankers import get_ranker


def coefficient(mean_a: np.ndarray, a: np.ndarray, mean_b: np.ndarray, b: np.ndarray) -> float:
    """exp(−D_B) of two Gaussians with covariance matrices a and b."""
    pooled, apart = (a + b) / 2, mean_a - mean_b
    log_ratio = np.linalg.slogdet(pooled)[1] - (np.linalg.slogdet(a)[1] + np.linalg.slogdet(b)[1]) / 2
    return float(np.exp(-(apart @ np.linalg.solve(pooled, apart)) / 8 - log_ratio / 2))


@pytest.mark.parametrize("covariance", ["diagonal", "spherical"])
def test_it_is_the_negative_sum_over_ordered_pairs(covariance: str) -> None:
    random = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [8, 12, 20])
    x = random.normal(size=(40, 3)) * (1 + y[:, None]) + y[:, None]
    gaussians = []
    for label in range(3):
        variances = x[y == label].var(axis=0)
        if covariance == "spherical":
            variances = np.full(3, variances.mean())
        gaussians.append((x[y == label].mean(axis=0), np.diag(variances)))
    expected = -sum(coefficient(*one, *other) for one, other in permutations(gaussians, 2))
    assert get_ranker("GBC", covariance=covariance).score(x, y).value == pytest.approx(expected)


def test_classes_on_one_point_overlap_entirely() -> None:
    y = np.array([0, 1, 2, 0, 1, 2])
    assert get_ranker("GBC").score(np.ones((6, 2)), y).value == pytest.approx(-6)


def test_classes_far_apart_do_not_overlap() -> None:
    y = np.array([0, 1, 0, 1])
    assert get_ranker("GBC").score(1000.0 * y[:, None], y).value == 0.0
