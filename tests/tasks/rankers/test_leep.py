from __future__ import annotations

import numpy as np
import pytest

from storage.errors import EvaluationError
from tasks.rankers import get_ranker


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return get_ranker("LEEP").score(np.zeros((len(labels), 1)), labels, source_probabilities=probabilities).value


def test_the_formula_row_by_row() -> None:
    random = np.random.default_rng(0)
    probabilities, labels = random.dirichlet(np.ones(4), 50), random.integers(3, size=50)
    joint = np.zeros((3, 4))
    for row, label in zip(probabilities, labels, strict=True):
        joint[label] += row / 50
    conditional = joint / joint.sum(axis=0)
    expected = [np.log(conditional[label] @ row) for row, label in zip(probabilities, labels, strict=True)]
    assert leep(probabilities, labels) == pytest.approx(np.mean(expected))


def test_sure_predictions_that_tell_the_label_score_zero() -> None:
    labels = np.array([0, 1, 2, 1, 0])
    assert leep(np.eye(5)[labels + 2], labels) == 0.0


def test_predictions_that_tell_nothing_score_the_negative_entropy() -> None:
    assert leep(np.full((4, 3), 1 / 3), np.array([0, 0, 0, 1])) == pytest.approx(
        0.75 * np.log(0.75) + 0.25 * np.log(0.25)
    )


def test_a_source_class_that_is_never_predicted_changes_nothing() -> None:
    random = np.random.default_rng(0)
    probabilities, labels = random.dirichlet(np.ones(4), 50), random.integers(3, size=50)
    wider = np.hstack([np.zeros((50, 1)), probabilities])
    assert leep(wider, labels) == pytest.approx(leep(probabilities, labels))


@pytest.mark.parametrize("name", ["LEEP", "NCE"])
@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (None, "needs the model's predictions"),
        (np.array([[0.5, -0.5], [1, 0]]), "negative numbers, or rows of zeros"),
        (np.array([[0.0, 0.0], [1, 0]]), "negative numbers, or rows of zeros"),
        (np.ones((3, 2)), "3 rows of training features and 2 labels"),
    ],
)
def test_probabilities_that_are_none_are_refused(name: str, probabilities: np.ndarray | None, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        get_ranker(name).score(np.eye(2), np.array([0, 1]), source_probabilities=probabilities)
