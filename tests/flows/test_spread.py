"""What is handed out to whom, and what comes of runs that end without a result."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import spread
from flows.pools import pool_for
from flows.spread import Batch, batches_of, fitting, next_batch
from shiftql.assignments import Assignment
from shiftql.cost import Cost
from shiftql.plan import Embedding, PlannedEvaluation, Split
from storage.evaluations import Evaluation, Subject
from storage.parts import whole
from storage.views import View

TRAIN, TEST = Subject("mine-train", "a" * 32), Subject("mine-test", "b" * 32)
SOURCES = ("huggingface", "tfhub", "raw")


def evaluation(model: int, method: str = "linear", **params: Any) -> Evaluation:
    return Evaluation(Subject(f"model-{model}", f"{model:032x}"), TRAIN, TEST, method, "1", params, {"rows": 10})


def embedding(model: int, source: str) -> Embedding:
    subject = Subject(f"model-{model}", f"{model:032x}")
    return Embedding(subject, source, whole(TRAIN, 60), (View("mean", "cls"),), 60, 0.5, Cost(0.01, 8), True)


@st.composite
def assignments(draw: st.DrawFn) -> Assignment:
    """Up to 20 models of all frameworks, each by one or two rankers."""
    sources = draw(st.lists(st.sampled_from(SOURCES), min_size=1, max_size=20))
    planned = [
        PlannedEvaluation(evaluation(model, method, k=draw(st.integers(1, 9))), Cost(draw(st.floats(0, 100))))
        for model in range(len(sources))
        for method in draw(st.sampled_from([("linear",), ("linear", "cosine_nn")]))
    ]
    embeddings = tuple(embedding(model, source) for model, source in enumerate(sources))
    parts = (whole(TRAIN, 60),)
    return Assignment(tuple(planned), embeddings, Split(TRAIN, parts), Split(TEST, parts, is_held_out=True))


@given(assignments())
def test_what_travels_as_json_comes_back_as_it_was(assignment: Assignment) -> None:
    back = Assignment.from_json(assignment.json)
    assert back == assignment
    fingerprints = [each.fingerprint for each in assignment.new_evaluations]
    assert [each.fingerprint for each in back.new_evaluations] == fingerprints


@given(assignments(), st.integers(100, 20_000))
def test_what_is_handed_out_begins_with_the_first_and_is_as_much_as_prefect_takes(
    assignment: Assignment, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spread, "_MOST_BYTES", most)
        part = fitting(assignment)
    assert part.evaluations == assignment.evaluations[: len(part.evaluations)] != ()
    assert len(json.dumps(part.json)) <= most or len(part.evaluations) == 1


@given(assignments(), st.integers(1, 8))
def test_every_evaluation_is_handed_out_once_and_those_of_a_model_together(
    assignment: Assignment, workers: int
) -> None:
    left = [each.fingerprint for each in assignment.new_evaluations]
    handed_out: list[Batch] = []
    while left:
        handed_out.append(next_batch(list(batches_of(assignment.of(left))), max(1, workers - len(handed_out))))
        left = [each for each in left if each not in handed_out[-1].fingerprints]
    assert len(handed_out) <= workers
    given = [fingerprint for batch in handed_out for fingerprint in batch.fingerprints]
    assert sorted(given) == sorted(each.fingerprint for each in assignment.new_evaluations)
    for batch in handed_out:
        models = {each.model for each in assignment.of(batch.fingerprints).new_evaluations}
        of_models = [each for each in assignment.new_evaluations if each.model in models]
        assert len(batch.fingerprints) == len(of_models)


@given(assignments())
def test_models_of_one_framework_follow_one_another(assignment: Assignment) -> None:
    source = {each.model.name: each.source for each in assignment.embeddings}
    models = [assignment.of(batch.fingerprints).new_evaluations[0].model for batch in batches_of(assignment)]
    frameworks = [source[model.name] for model in models]
    changes = sum(before != after for before, after in pairwise(frameworks))
    assert changes == len(set(frameworks)) - 1


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=50), st.integers(1, 20))
def test_a_run_takes_its_share_as_near_as_whole_models_allow(seconds: list[float], runs: int) -> None:
    batches = [Batch((str(number),), each) for number, each in enumerate(seconds)]
    chosen = next_batch(batches, runs)
    number = len(chosen.fingerprints)
    assert chosen.fingerprints == tuple(str(each) for each in range(number))
    share = max(2.0, sum(seconds) / runs)
    assert number == 1 or chosen.seconds - share <= seconds[number - 1] / 2 + 1e-6
    most = math.ceil(len(batches) / runs)
    assert number <= most
    assert number == most or share - chosen.seconds <= seconds[number] / 2 + 1e-6


@pytest.mark.parametrize(
    ("methods", "room", "workers", "pool"),
    [
        ({"linear"}, {"cpu": 1, "gpu": 1}, {"cpu": 1, "gpu": 1}, "gpu"),
        ({"linear"}, {"cpu": 1, "gpu": 0}, {"cpu": 1, "gpu": 1}, "cpu"),
        ({"finetune"}, {"cpu": 1, "gpu": 0}, {"cpu": 1, "gpu": 1}, None),
        ({"finetune"}, {"cpu": 1, "gpu": 0}, {"cpu": 1, "gpu": 0}, "cpu"),
        ({"linear"}, {"cpu": 0, "gpu": 0}, {}, None),
    ],
)
def test_trainings_wait_for_gpus_where_there_are_any_and_proxies_take_what_is_free(
    methods: set[str], room: dict[str, int], workers: dict[str, int], pool: str | None
) -> None:
    assert pool_for(methods, room, workers) == pool
