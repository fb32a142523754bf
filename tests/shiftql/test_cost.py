from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shiftql.cost import Cost, predict_download, predict_finetuning, predict_opening, predict_row, predict_scoring
from shiftql.planner import default_learning_rate
from storage.catalog import ModelRecord
from tasks.rankers.specs import RANKERS

SIZES = st.integers(1, 10**9)
ROWS = st.integers(1, 10**6)


def model(**columns: Any) -> ModelRecord:
    """An image model, but for what is said otherwise."""
    given: dict[str, Any] = {"modality": "image", "image_size": 32, "embedding_dim": 64} | columns
    return ModelRecord(**given)


@given(SIZES, SIZES, ROWS, st.integers(1, 100))
def test_a_larger_model_never_costs_less(size: int, more: int, rows: int, epochs: int) -> None:
    small = model(num_params=size, size_bytes=4 * size)
    large = model(num_params=size + more, size_bytes=4 * (size + more))
    assert predict_opening(small) < predict_opening(large)
    assert predict_row(small).seconds <= predict_row(large).seconds
    assert predict_finetuning(small, rows, rows, epochs).seconds < predict_finetuning(large, rows, rows, epochs).seconds


@given(SIZES, st.integers(8, 512))
def test_larger_images_never_cost_less(size: int, side: int) -> None:
    small, large = model(num_params=size, image_size=side), model(num_params=size, image_size=side + 4)
    assert predict_row(small).seconds <= predict_row(large).seconds


@given(ROWS, ROWS, st.integers(1, 100))
def test_more_rows_or_epochs_cost_more(rows: int, more: int, epochs: int) -> None:
    cost = partial(predict_finetuning, model(num_params=10**6))
    base = cost(rows, rows, epochs).seconds
    assert base < cost(rows + more, rows, epochs).seconds
    assert base < cost(rows, rows + more, epochs).seconds
    assert base < cost(rows, rows, epochs + 1).seconds
    for spec in RANKERS.values():
        assert predict_scoring(spec.name, rows).seconds <= predict_scoring(spec.name, rows + more).seconds


@given(SIZES, ROWS)
def test_fine_tuning_costs_more_than_embedding(size: int, rows: int) -> None:
    each = model(num_params=size)
    assert predict_finetuning(each, rows, rows, 1).seconds > (predict_row(each) * (2 * rows)).seconds


def test_what_is_not_known_of_a_model_is_guessed() -> None:
    for unknown in (model(image_size=None, embedding_dim=None), model(modality="text", embedding_dim=None)):
        assert predict_opening(unknown) > 0
        assert predict_row(unknown).seconds > 0
        assert predict_row(unknown).size_bytes > 0


def test_a_model_without_parameters_costs_the_reading_of_its_rows() -> None:
    assert predict_row(model(num_params=0)).seconds < predict_row(model(num_params=1000)).seconds


@given(st.floats(0, 1e6), st.integers(0, 10**9), st.integers(0, 1000))
def test_costs_add_up(seconds: float, size: int, times: int) -> None:
    cost = Cost(seconds, size)
    assert cost + Cost() == cost
    assert cost * times == Cost(seconds * times, size * times)
    assert sum([cost, cost], Cost()) == replace(cost, seconds=2 * seconds, size_bytes=2 * size)


@given(SIZES, SIZES)
def test_a_download_is_as_large_as_told_else_as_the_parameters_are(parameters: int, size: int) -> None:
    assert predict_download(model(num_params=parameters, size_bytes=size)) == size
    assert predict_download(model(num_params=parameters)) == 4 * parameters
    assert predict_download(model()) is None


@given(SIZES, SIZES)
def test_larger_models_never_learn_faster(size: int, more: int) -> None:
    small, large = (default_learning_rate(model(num_params=count)) for count in (size, size + more))
    assert 0 < large <= small <= 1e-3
