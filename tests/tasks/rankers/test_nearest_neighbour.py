from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from storage.errors import EvaluationError
from tasks.rankers import get_ranker, nearest_neighbour
from tasks.rankers.nearest_neighbour import majority, nearest_lists, nearest_rows, smallest


@pytest.mark.parametrize(("k", "accuracy"), [(1, 0.96), (3, 0.96), (5, 0.966667), (13, 0.966667)])
def test_leave_one_out_on_iris_reproduces_the_published_accuracy(k: int, accuracy: float) -> None:
    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    assert get_ranker("Euclidean NN", k=k).score(x, y).value == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.parametrize(("name", "metric"), [("Euclidean NN", "euclidean"), ("Cosine NN", "cosine")])
@pytest.mark.parametrize("k", [1, 5])
def test_accuracy_agrees_with_scikit_learn_where_votes_cannot_tie(name: str, metric: str, k: int) -> None:
    random = np.random.default_rng(0)
    train_x, test_x = random.normal(1, 1, (200, 6)), random.normal(1, 1, (100, 6))
    train_y, test_y = (train_x[:, 0] > 1).astype(int), (test_x[:, 0] > 1).astype(int)
    reference = KNeighborsClassifier(k, metric=metric, algorithm="brute").fit(train_x, train_y)
    score = get_ranker(name, k=k).score(train_x, train_y, test_x, test_y)
    np.testing.assert_array_equal(score.per_row_correct, reference.predict(test_x) == test_y)


@pytest.mark.parametrize("cosine", [False, True])
def test_block_size_changes_no_neighbour(cosine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    train = random.integers(0, 3, (60, 4)).astype(np.float32)
    test = random.integers(0, 3, (40, 4)).astype(np.float32)
    whole = nearest_rows(train, test, 3, cosine=cosine)
    monkeypatch.setattr(nearest_neighbour, "_BLOCK_ELEMENTS", 1)
    np.testing.assert_array_equal(nearest_rows(train, test, 3, cosine=cosine), whole)


def test_distances_are_exact_far_from_the_origin() -> None:
    random = np.random.default_rng(0)
    train = 1e6 + random.normal(size=(300, 8))
    test = 1e6 + random.normal(size=(50, 8))
    exact = ((test[:, None] - train[None]) ** 2).sum(axis=2).argsort(axis=1)[:, :4]
    np.testing.assert_array_equal(nearest_rows(train, test, 4, cosine=False), exact)


def test_cosine_ignores_the_length_of_rows() -> None:
    random = np.random.default_rng(0)
    train, test = random.normal(size=(80, 5)), random.normal(size=(30, 5))
    stretched = train * random.uniform(0.01, 100, (80, 1))
    exact = cosine_distances(test, train).argsort(axis=1)[:, :3]
    np.testing.assert_array_equal(nearest_rows(stretched, test, 3, cosine=True), exact)


def test_zero_row_is_at_right_angles_to_every_row() -> None:
    train = np.array([[0.0, 0.0], [1.0, 1.0], [-1.0, -1.0]])
    assert nearest_rows(train, np.array([[2.0, 2.0]]), 3, cosine=True).tolist() == [[1, 0, 2]]


def test_earlier_row_is_the_nearer_at_equal_distance() -> None:
    train = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert nearest_rows(train, np.zeros((1, 2)), 3, cosine=False).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("votes", "winner"),
    [([2, 1, 1], 1), ([2, 1], 2), ([1, 2], 1), ([0, 2, 1, 1, 2], 2), ([3, 0, 1, 2], 3)],
)
def test_tied_vote_goes_to_the_class_of_the_nearest(votes: list[int], winner: int) -> None:
    assert majority(np.array([votes]), 4).tolist() == [winner]


@pytest.mark.parametrize("name", ["Euclidean NN", "Cosine NN"])
def test_more_neighbours_than_training_rows_are_refused(name: str) -> None:
    x, y = np.eye(3), np.arange(3)
    assert get_ranker(name, k=3).score(x, y, x, y).value == 1.0
    with pytest.raises(EvaluationError, match="k=4 neighbours of only 3 training rows"):
        get_ranker(name, k=4).score(x, y, x, y)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("values", ["any", "few"])
def test_leaving_one_out_is_the_neighbours_without_the_row_itself(cosine: bool, values: str) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(80, 5)) if values == "any" else random.integers(1, 3, (12, 2)).astype(float)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    distances = -(unit[:, None] * unit).sum(axis=2) if cosine else ((x[:, None] - x) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    expected = distances.argsort(axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(nearest_rows(x, None, 3, cosine=cosine), expected)


def test_rows_that_single_precision_cannot_tell_apart_are_told_apart() -> None:
    """Hundreds of rows at nearly one distance, beside an outlier that coarsens the scale."""
    random = np.random.default_rng(0)
    train = np.vstack([1 + 1e-6 * random.normal(size=(300, 4)), np.full((1, 4), 1e3)])
    test = 1 + 1e-6 * random.normal(size=(20, 4))
    exact = ((test[:, None] - train) ** 2).sum(axis=2).argsort(axis=1)[:, :4]
    np.testing.assert_array_equal(nearest_rows(train, test, 4, cosine=False), exact)


@pytest.mark.parametrize("name", ["Euclidean NN", "Cosine NN"])
def test_a_number_is_the_mean_of_its_neighbours(name: str) -> None:
    metric = "euclidean" if name == "Euclidean NN" else "cosine"
    random = np.random.default_rng(0)
    train_x, test_x = random.normal(size=(100, 4)), random.normal(size=(50, 4))
    train_y, test_y = train_x[:, 0] ** 2, test_x[:, 0] ** 2
    predicted = KNeighborsRegressor(3, metric=metric).fit(train_x, train_y).predict(test_x)
    score = get_ranker(name, k=3, metric="mae").score(train_x, train_y, test_x, test_y)
    assert score.value == pytest.approx(np.abs(predicted - test_y).mean())
    assert not score.higher_is_better


def test_each_label_is_voted_on_and_a_tie_goes_to_the_nearest() -> None:
    train_x = np.array([[0.0], [1.0], [2.0], [3.0]])
    train_y = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 1], [1, 1, 0]])
    predicted = {2: [1, 0, 1], 3: [0, 0, 1], 4: [1, 0, 1]}
    for k, labels in predicted.items():
        score = get_ranker("Euclidean NN", k=k).score(train_x, train_y, np.array([[0.0]]), np.array([labels]))
        assert score.per_row_correct is not None
        assert score.per_row_correct.all()


@pytest.mark.parametrize("columns", [9, 320, 2000, 2049])
def test_the_smallest_values_are_found_wherever_they_stand(columns: int) -> None:
    values = np.random.default_rng(0).normal(size=(20, columns))
    found = np.sort(np.take_along_axis(values, smallest(values, 9), axis=1), axis=1)
    np.testing.assert_array_equal(found, np.sort(values, axis=1)[:, :9])


def test_leaving_one_out_needs_one_row_more() -> None:
    with pytest.raises(EvaluationError, match="k=3 neighbours of only 2 training rows"):
        get_ranker("Euclidean NN", k=3).score(np.eye(3), np.array([0, 0, 1]))


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_of_many_rows_at_one_distance_the_earliest_are_the_nearest(
    cosine: bool, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of them the processor's way of partitioning proposes: here the last."""

    def last_of_the_smallest(values: np.ndarray, count: int) -> np.ndarray:
        return values.shape[1] - 1 - np.argsort(values[:, ::-1], axis=1, kind="stable")[:, :count]

    monkeypatch.setattr(nearest_neighbour, "smallest", last_of_the_smallest)
    is_near = np.random.default_rng(0).random(3000) <= share
    train = np.where(is_near[:, None], [1.0, 0.0], [0.0, 1.0]).astype(np.float32)
    near = np.flatnonzero(is_near)
    assert nearest_rows(train, train[near[:1]], 5, cosine=cosine).tolist() == [near[:5].tolist()]
    near = near[near < 300]
    others = nearest_rows(train[:300], None, 3, cosine=cosine)[near[1]]
    assert others.tolist() == near[[0, 2, 3]].tolist()


def test_multiples_of_one_row_are_at_one_angle_however_they_are_rounded() -> None:
    random = np.random.default_rng(0)
    row = random.normal(size=7)
    train = np.vstack([random.normal(size=(20, 7)), np.outer(random.uniform(0.1, 10, 200), row)]).astype(np.float32)
    assert nearest_rows(train, row[None], 30, cosine=True).tolist() == [list(range(20, 50))]


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("rows", [4, 500])
def test_lists_are_the_beginning_of_all_rows_in_order(cosine: bool, rows: int) -> None:
    random = np.random.default_rng(0)
    train, test = random.normal(size=(rows, 6)), random.normal(size=(40, 6))
    distances = cosine_distances(test, train) - 1 if cosine else ((test[:, None] - train) ** 2).sum(axis=2)
    order = distances.argsort(axis=1)
    listed, near = nearest_lists(train, test, 3, cosine=cosine)
    is_listed = listed >= 0
    assert is_listed[:, : min(rows, 10)].all()
    np.testing.assert_array_equal(listed[is_listed], order[:, : listed.shape[1]][is_listed])
    np.testing.assert_allclose(near[is_listed], np.sort(distances, axis=1)[:, : listed.shape[1]][is_listed])
    assert (near[~is_listed] == np.inf).all()
