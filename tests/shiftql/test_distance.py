from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shiftql.distance import task_distance, transfer_distance

VECTORS = arrays(np.float64, 7, elements=st.floats(1e-3, 1e3))


@given(VECTORS)
def test_a_task_is_at_no_distance_from_itself(vector: np.ndarray) -> None:
    assert task_distance(vector, vector) == pytest.approx(0, abs=1e-12)


@given(VECTORS, VECTORS)
def test_the_symmetric_distance_is_the_same_both_ways(first: np.ndarray, second: np.ndarray) -> None:
    assert task_distance(first, second) == pytest.approx(task_distance(second, first), abs=1e-12)
    assert 0 <= task_distance(first, second) <= 1


@given(*(arrays(np.float64, 7, elements=st.floats(0.1, 10)) for _ in range(3)))
def test_the_scale_of_a_unit_is_of_no_account(first: np.ndarray, second: np.ndarray, scale: np.ndarray) -> None:
    distance = task_distance(first * scale, second * scale)
    assert distance == pytest.approx(task_distance(first, second), abs=1e-3)


def test_it_is_the_cosine_distance_of_the_shares() -> None:
    # Shares 3/4, 1/2 and 1/4, 1/2: a cosine of (3/16 + 1/4) / √(13/16 · 5/16).
    distance = task_distance(np.array([3.0, 1.0]), np.array([1.0, 1.0]))
    assert distance == pytest.approx(1 - 7 / np.sqrt(65), abs=1e-5)


def test_tasks_that_use_other_units_are_farthest() -> None:
    assert task_distance(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1, abs=1e-5)


def test_units_that_matter_to_neither_do_not_tell_tasks_apart() -> None:
    first, second = np.array([1.0, 2.0, 0.0]), np.array([1.0, 2.0, 1e-12])
    assert task_distance(first, second) == pytest.approx(0, abs=1e-9)


@given(VECTORS, VECTORS)
def test_without_alpha_the_asymmetric_distance_is_the_symmetric_one(first: np.ndarray, second: np.ndarray) -> None:
    assert transfer_distance(first, second, 0.0) == task_distance(first, second)


def test_of_two_sources_as_near_the_one_farther_from_the_trivial_task_comes_first() -> None:
    target = np.array([1.0, 1.0, 4.0, 4.0])
    simple, complex_ = np.array([1.0, 2.0, 4.0, 4.0]), np.array([1.0, 1.0, 4.0, 8.0])
    assert task_distance(simple, target) == pytest.approx(task_distance(complex_, target), abs=1e-4)
    assert transfer_distance(complex_, target, 0.15) < transfer_distance(simple, target, 0.15)
