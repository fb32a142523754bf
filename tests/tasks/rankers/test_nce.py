from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from tasks.rankers import get_ranker


def nce(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return get_ranker("NCE").score(np.zeros((len(labels), 1)), labels, source_probabilities=probabilities).value


def test_it_is_mutual_information_less_the_entropy_of_the_labels() -> None:
    random = np.random.default_rng(0)
    probabilities, labels = random.dirichlet(np.ones(4), 80), random.integers(3, size=80)
    shares = np.array(list(Counter(labels.tolist()).values())) / 80
    entropy = -(shares * np.log(shares)).sum()
    assert nce(probabilities, labels) == pytest.approx(
        mutual_info_score(probabilities.argmax(axis=1), labels) - entropy
    )


def test_only_the_most_probable_class_counts_the_first_of_several() -> None:
    labels = np.array([0, 0, 1, 1])
    assert nce(np.array([[0.5, 0.5], [0.6, 0.4], [0.1, 0.9], [0.4, 0.6]]), labels) == 0.0
    assert nce(np.full((4, 2), 0.5), labels) == pytest.approx(-np.log(2))
