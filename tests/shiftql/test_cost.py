from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftql.cost import (
    Cost,
    CostModel,
    finetuning_took,
    opening_took,
    rows_took,
    scoring_took,
    starting_took,
    task_embedding_took,
)
from shiftql.finetune_planner import default_learning_rate
from storage.catalog import ModelRecord
from storage.learned_costs import Learned, Level, Observation
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


@given(SIZES)
def test_a_model_that_does_not_tell_its_parameters_costs_what_its_files_have_room_for(size: int) -> None:
    told, untold = model(num_params=size, size_bytes=4 * size), model(size_bytes=4 * size)
    assert COSTS.row(untold) == COSTS.row(told)
    assert COSTS.memory(untold) == COSTS.memory(told)
    assert COSTS.finetuning(untold, 10, 10, 1) == COSTS.finetuning(told, 10, 10, 1)


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


def learned_from(*observations: Observation) -> CostModel:
    """The cost model where these were observed, none of them fading."""
    learned: dict[Level, Learned] = {}
    for ratio, levels in observations:
        for level in levels:
            number, log_sum = learned.get(level, Learned(0.0, 0.0))
            learned[level] = Learned(number + 1, log_sum + math.log(ratio))
    return CostModel(learned)


VIT = model(num_params=10**6, architecture="ViT", fingerprint="vit")
OTHER_VIT = model(num_params=10**7, architecture="ViT", fingerprint="another")
RESNET = model(num_params=10**6, architecture="ResNet", fingerprint="resnet")
RATIOS = st.floats(0.1, 10)


def took(each: ModelRecord, times: float, waited: float = 0.0) -> tuple[Observation, Observation]:
    """What it is where embedding takes so many times what is expected, of which a share is waited for rows."""
    seconds = 10**6 * COSTS.row(each).seconds * times
    return rows_took(each, 10**6, seconds, waited * seconds)


@given(RATIOS)
def test_what_was_seen_often_is_what_is_expected(times: float) -> None:
    costs = learned_from(*took(VIT, times) * 20)
    assert costs.row(VIT).seconds == pytest.approx(COSTS.row(VIT).seconds * times, rel=0.05)


@given(st.floats(1.1, 10))
def test_the_nearer_something_is_to_what_was_seen_the_more_that_tells_of_it(times: float) -> None:
    costs = learned_from(*took(VIT, times))
    same, alike, other = (costs.row(each).seconds / COSTS.row(each).seconds for each in (VIT, OTHER_VIT, RESNET))
    assert times >= same > alike > other > 1
    # Of another stage the machine tells.
    assert 1 < costs.finetuning(RESNET, 100, 0, 1).seconds / COSTS.finetuning(RESNET, 100, 0, 1).seconds < other


@given(RATIOS, RATIOS)
def test_a_slower_machine_is_never_expected_to_be_faster(times: float, more: float) -> None:
    fast, slow = (learned_from(*took(VIT, each)) for each in (times, times + more))
    assert fast.row(RESNET).seconds <= slow.row(RESNET).seconds


def test_each_stage_learns_of_itself() -> None:
    params = {"batch_size": 32}
    full = COSTS.finetuning(VIT, 100, 50, 3, params).seconds
    trained = learned_from(finetuning_took(VIT, 100, 50, 3, params, 5 * full))
    assert trained.finetuning(VIT, 100, 50, 3, params).seconds > 2 * full
    assert trained.opening(VIT) == COSTS.opening(VIT)
    opened = learned_from(opening_took(VIT, 5 * COSTS.opening(VIT)))
    assert opened.opening(VIT) > 2 * COSTS.opening(VIT)
    assert opened.row(VIT) == COSTS.row(VIT)
    scored = learned_from(scoring_took("linear", 100, 5 * COSTS.scoring("linear", 100).seconds))
    assert scored.scoring("linear", 100).seconds > 2 * COSTS.scoring("linear", 100).seconds
    assert scored.scoring("logme", 100) == COSTS.scoring("logme", 100)
    embedded = learned_from(task_embedding_took(VIT, 100, 5 * COSTS.task_embedding(VIT, 100).seconds))
    assert embedded.task_embedding(VIT, 100).seconds > 2 * COSTS.task_embedding(VIT, 100).seconds


def test_what_passes_rows_slower_than_others_is_expected_to_train_slower() -> None:
    costs = learned_from(*took(VIT, 1.0), *took(VIT, 1.0), *took(RESNET, 4.0))
    slow, usual = (costs.finetuning(each, 100, 0, 1).seconds for each in (RESNET, VIT))
    assert COSTS.finetuning(RESNET, 100, 0, 1) == COSTS.finetuning(VIT, 100, 0, 1)
    assert slow > 1.5 * usual


def test_rows_that_a_model_waited_for_say_nothing_of_how_it_trains() -> None:
    costs = learned_from(*took(VIT, 1.0), *took(VIT, 1.0), *took(RESNET, 4.0, waited=0.75))
    read_for_others, usual = (costs.finetuning(each, 100, 0, 1).seconds for each in (RESNET, VIT))
    assert read_for_others == pytest.approx(usual)
    assert costs.row(RESNET).seconds > 1.5 * costs.row(VIT).seconds


@pytest.mark.parametrize("mode", ["head", "lora"])
def test_how_a_model_is_trained_is_learned_apart(mode: str) -> None:
    params = {"mode": mode}
    base = COSTS.finetuning(VIT, 100, 0, 1, params).seconds
    full = learned_from(finetuning_took(VIT, 100, 0, 1, {}, 5 * COSTS.finetuning(VIT, 100, 0, 1).seconds))
    some = learned_from(finetuning_took(VIT, 100, 0, 1, params, 5 * base))
    assert some.finetuning(VIT, 100, 0, 1, params).seconds > full.finetuning(VIT, 100, 0, 1, params).seconds > base


@given(st.sets(st.sampled_from(["server", "torch", "tensorflow"])), st.sampled_from(["server", "torch", "tensorflow"]))
def test_the_more_has_to_be_started_the_longer_it_takes(started: set[str], more: str) -> None:
    assert COSTS.starting(started) <= COSTS.starting(started | {more})
    assert COSTS.starting(set()) == 0
    assert learned_from(starting_took({more}, 100.0)).starting({more}) > COSTS.starting({more})


@given(st.floats(0, 1e4), st.floats(0, 1e4), st.integers(0, 100))
def test_more_work_or_tasks_take_longer_by_the_clock(seconds: float, more: float, tasks: int) -> None:
    base = COSTS.passing(seconds, tasks, "features")
    assert base <= COSTS.passing(seconds + more, tasks, "features")
    assert base < COSTS.passing(seconds, tasks + 1, "features")
    busy = learned_from(COSTS.ran(seconds, tasks, "features", 3 * base))
    assert busy.passing(seconds, tasks, "features") > base


@given(st.floats(0.2, 5))
def test_how_much_passes_side_by_side_says_nothing_of_what_is_trained_alone(times: float) -> None:
    seconds = times * (COSTS.passing(100, 1, "features") - COSTS.bookkeeping(1)) + COSTS.bookkeeping(1)
    costs = learned_from(COSTS.ran(100, 1, "features", seconds))
    before, after = (each.passing(100, 1, "finetune") - each.bookkeeping(1) for each in (COSTS, costs))
    # Half of a deviation may be the machine's.
    assert after / before == pytest.approx(times**0.5)


def test_a_model_that_is_here_is_not_downloaded() -> None:
    away = model(num_params=10**6, size_bytes=2 * 10**7, handle="hub/away", path="")
    assert COSTS.downloading(away) == Cost(2.0, download_bytes=2 * 10**7)
    assert replace(COSTS, bytes_per_second=1e6).downloading(away).seconds == 20
    assert COSTS.downloading(model(num_params=10**6)) == Cost()
