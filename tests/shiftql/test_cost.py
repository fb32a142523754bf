from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shiftql.cost import Cost, CostModel
from shiftql.planner import default_learning_rate
from storage.catalog import ModelRecord
from tasks.rankers.specs import RANKERS

SIZES = st.integers(1, 10**9)
ROWS = st.integers(1, 10**6)
COSTS = CostModel()


def model(**columns: Any) -> ModelRecord:
    """An image model, but for what is said otherwise."""
    given: dict[str, Any] = {"modality": "image", "image_size": 32, "embedding_dim": 64} | columns
    return ModelRecord(**given)


@given(SIZES, SIZES, ROWS, st.integers(1, 100))
def test_a_larger_model_never_costs_less(size: int, more: int, rows: int, epochs: int) -> None:
    small = model(num_params=size, size_bytes=4 * size)
    large = model(num_params=size + more, size_bytes=4 * (size + more))
    assert COSTS.opening(small) < COSTS.opening(large)
    assert COSTS.row(small).seconds <= COSTS.row(large).seconds
    assert COSTS.finetuning(small, rows, rows, epochs).seconds < COSTS.finetuning(large, rows, rows, epochs).seconds


@given(SIZES, st.integers(8, 512))
def test_larger_images_never_cost_less(size: int, side: int) -> None:
    small, large = model(num_params=size, image_size=side), model(num_params=size, image_size=side + 4)
    assert COSTS.row(small).seconds <= COSTS.row(large).seconds


@given(ROWS, ROWS, st.integers(1, 100))
def test_more_rows_or_epochs_cost_more(rows: int, more: int, epochs: int) -> None:
    cost = partial(COSTS.finetuning, model(num_params=10**6))
    base = cost(rows, rows, epochs).seconds
    assert base < cost(rows + more, rows, epochs).seconds
    assert base < cost(rows, rows + more, epochs).seconds
    assert base < cost(rows, rows, epochs + 1).seconds
    for spec in RANKERS.values():
        assert COSTS.scoring(spec.name, rows).seconds <= COSTS.scoring(spec.name, rows + more).seconds


@given(SIZES, ROWS)
def test_fine_tuning_costs_more_than_embedding(size: int, rows: int) -> None:
    each = model(num_params=size)
    assert COSTS.finetuning(each, rows, rows, 1).seconds > (COSTS.row(each) * (2 * rows)).seconds


@given(SIZES, SIZES, st.integers(1, 512))
def test_training_takes_more_memory_than_embedding_and_a_larger_model_or_batch_more(
    size: int, more: int, rows: int
) -> None:
    small, large = model(num_params=size), model(num_params=size + more)
    assert COSTS.memory(small) < COSTS.memory(large)
    assert COSTS.memory(small) < COSTS.memory(small, {"batch_size": 64})
    assert COSTS.memory(small, {"batch_size": rows}) < COSTS.memory(large, {"batch_size": rows})
    assert COSTS.memory(small, {"batch_size": rows}) < COSTS.memory(small, {"batch_size": rows + 1})


def test_what_is_not_known_of_a_model_is_guessed() -> None:
    for unknown in (model(image_size=None, embedding_dim=None), model(modality="text", embedding_dim=None)):
        assert COSTS.opening(unknown) > 0
        assert COSTS.row(unknown).seconds > 0
        assert COSTS.row(unknown).size_bytes > 0


def test_a_model_without_parameters_costs_the_reading_of_its_rows() -> None:
    assert COSTS.row(model(num_params=0)).seconds < COSTS.row(model(num_params=1000)).seconds


@given(st.floats(0, 1e6), st.integers(0, 10**9), st.integers(0, 1000))
def test_costs_add_up(seconds: float, size: int, times: int) -> None:
    cost = Cost(seconds, size)
    assert cost + Cost() == cost
    assert cost * times == Cost(seconds * times, size * times)
    assert sum([cost, cost], Cost()) == replace(cost, seconds=2 * seconds, size_bytes=2 * size)


@given(SIZES, SIZES)
def test_a_download_is_as_large_as_told_else_as_the_parameters_are(parameters: int, size: int) -> None:
    assert COSTS.download(model(num_params=parameters, size_bytes=size)) == size
    assert COSTS.download(model(num_params=parameters)) == 4 * parameters
    assert COSTS.download(model()) is None


@given(SIZES, SIZES)
def test_larger_models_never_learn_faster(size: int, more: int) -> None:
    small, large = (default_learning_rate(model(num_params=count)) for count in (size, size + more))
    assert 0 < large <= small <= 1e-3
