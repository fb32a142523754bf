"""Which cell of the performance matrix is measured next."""

from __future__ import annotations

import numpy as np
import pytest

from shiftql.strategies.matrix import MatrixOrder, corrected, covariance


def order(values: np.ndarray, seconds: np.ndarray | None = None) -> MatrixOrder:
    unknown = np.isnan(values)
    return MatrixOrder(values, unknown, np.ones(values.shape) if seconds is None else seconds, values * np.nan)


def path(matrix: MatrixOrder, steps: int | None = None) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while len(found) != steps and (cell := matrix.next()) is not None:
        found.append(cell)
        matrix.tell(cell, 0.5 + 0.1 * cell[0] - 0.05 * cell[1], 1.0)
    return found


def test_every_cell_is_offered_once_and_the_same_each_time() -> None:
    values = np.full((5, 3), np.nan)
    values[1, 2] = 0.7
    found = path(order(values))
    assert len(found) == len(set(found)) == 14
    assert (1, 2) not in found
    assert found == path(order(values))


def test_empty_rows_and_columns_come_first() -> None:
    models, datasets = zip(*path(order(np.full((6, 4), np.nan)), 6), strict=True)
    assert set(models) == set(range(6))
    assert set(datasets) == set(range(4))


def test_a_model_that_is_added_comes_before_what_is_half_known() -> None:
    values = np.full((6, 4), np.nan)
    values[:5, :2] = np.linspace(0.2, 0.8, 10).reshape(5, 2)
    model, _ = path(order(values), 1)[0]
    assert model == 5


def test_of_cells_that_tell_as_much_the_cheapest_comes_first() -> None:
    seconds = np.array([[4.0, 3.0], [5.0, 2.0], [6.0, 7.0]])
    assert path(order(np.full((3, 2), np.nan), seconds), 1) == [(1, 1)]


def test_only_what_is_within_the_limit_is_offered() -> None:
    seconds = np.array([[4.0, 3.0], [5.0, 2.0]])
    matrix = order(np.full((2, 2), np.nan), seconds)
    assert matrix.next(1.9) is None
    assert matrix.next(2.0) == (1, 1)


def test_resuming_goes_on_where_it_would_have_gone() -> None:
    whole = path(order(np.full((5, 4), np.nan)))
    values = np.full((5, 4), np.nan)
    for model, dataset in whole[:8]:
        values[model, dataset] = 0.5 + 0.1 * model - 0.05 * dataset
    assert set(path(order(values))) == set(whole[8:])


def test_a_failed_cell_is_not_offered_again_and_tells_nothing() -> None:
    matrix = order(np.full((1, 2), np.nan))
    cell = matrix.next()
    assert cell is not None
    matrix.tell(cell, None, 3.0)
    assert matrix.next() != cell
    assert matrix.left[0] == 1


def test_a_dataset_on_which_models_differ_more_is_worth_more() -> None:
    random = np.random.default_rng(0)
    values = np.column_stack([random.normal(0.5, 0.01, 30), random.normal(0.5, 0.3, 30), random.normal(0.5, 0.01, 30)])
    added = np.vstack([values, np.full((1, 3), np.nan)])
    assert path(order(added), 1) == [(30, 1)]


def test_the_covariance_is_that_of_the_models_where_many_are_known() -> None:
    random = np.random.default_rng(0)
    skill = random.normal(0, 1, 5000)
    values = np.column_stack([skill, skill + random.normal(0, 1, 5000), random.normal(0, 1, 5000)])
    assert covariance(values) == pytest.approx(np.cov(values.T, bias=True), abs=0.08)


def test_the_covariance_is_one_whatever_is_missing() -> None:
    random = np.random.default_rng(0)
    for share in (0.0, 0.05, 0.3, 1.0):
        values = np.where(random.random((20, 6)) < share, random.random((20, 6)), np.nan)
        assert np.linalg.eigvalsh(covariance(values)).min() > 0


def test_predictions_follow_what_they_came_to() -> None:
    predicted, measured = np.full((3, 2), 10.0), np.full((3, 2), np.nan)
    assert corrected(predicted, measured) == pytest.approx(predicted)
    measured[0, 0] = 20.0
    assert corrected(predicted, measured) == pytest.approx(20.0)
    measured[1, 0] = 40.0
    slow, slower, unseen = corrected(predicted, measured)[:, 1]
    assert 20 < slow < unseen < slower < 40
    assert unseen == pytest.approx(30.0)
