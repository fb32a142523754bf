from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from storage.errors import EvaluationError
from tasks.rankers import get_ranker


@pytest.mark.parametrize("components", [None, 7])
def test_it_is_leep_of_a_mixture_on_principal_components(components: int | None) -> None:
    x, y = load_digits(return_X_y=True)
    x, y = x[:300], y[:300]
    reduced = PCA(0.8).fit_transform(x)
    clusters = GaussianMixture(components or 50, random_state=3).fit(reduced).predict_proba(reduced)
    arguments = {} if components is None else {"num_components": components}
    expected = get_ranker("LEEP").score(x, y, source_probabilities=clusters)
    assert get_ranker("NLEEP", **arguments).score(x, y, seed=3).value == pytest.approx(expected.value)


def test_separate_clusters_tell_the_label() -> None:
    y = np.repeat([0, 1, 2], 20)
    x = 100.0 * np.eye(3)[y] + np.random.default_rng(0).normal(size=(60, 3))
    assert get_ranker("NLEEP", num_components=3).score(x, y).value == pytest.approx(0)


def test_more_components_than_rows_are_refused() -> None:
    with pytest.raises(EvaluationError, match="9 components of only 4 training rows"):
        get_ranker("NLEEP", components=9).score(np.eye(4), np.array([0, 0, 1, 1]))
