from __future__ import annotations

import numpy as np
import pytest

from tasks.rankers import get_ranker


def coding_rate(z: np.ndarray) -> float:
    return float(np.linalg.slogdet(np.eye(z.shape[1]) + z.T @ z / (len(z) * 1e-4)).logabsdet / 2)


@pytest.mark.parametrize("dimensions", [4, 60], ids=["more rows", "more dimensions"])
def test_it_is_the_rate_of_all_rows_less_the_mean_of_the_classes(dimensions: int) -> None:
    random = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [5, 10, 25])
    x = random.normal(size=(40, dimensions)) + 3
    centred = x - x.mean(axis=0)
    expected = coding_rate(centred) - np.mean([coding_rate(centred[y == label]) for label in range(3)])
    assert get_ranker("TransRate").score(x, y).value == pytest.approx(expected)


def test_equal_rows_have_no_rate() -> None:
    assert get_ranker("TransRate").score(np.full((4, 2), 0.1), np.array([0, 0, 1, 1])).value == pytest.approx(0)
