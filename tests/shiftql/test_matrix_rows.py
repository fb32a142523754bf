"""Which rows of the performance matrix new models have, and by which fine-tuning it is measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shiftql.matrix_rows import Rows, matrix_ranker, rows_to_fill
from storage.database import Database
from storage.evaluations import Evaluation, Measurement, Subject
from storage.results import ResultStore
from storage.settings import current_settings


@pytest.fixture
def database(home: Any) -> Database:
    return Database(current_settings())


def measure(database: Database, model: str, train: str, **params: Any) -> None:
    evaluation = Evaluation(
        Subject(model, f"m-{model}"), Subject(train, f"d-{train}"), Subject("t", f"t-{train}"), "finetune", "1", params
    )
    results = ResultStore(database)
    claim = results.claim(evaluation)
    assert claim is not None
    results.record(claim, Measurement("completed", cost_seconds=1.0, metric="accuracy", value=0.5))


def grid(known: str, models: str = "abn", datasets: str = "xy") -> Any:
    """A grid of one-letter names; `known` are the cells that are measured."""
    cells = {}
    for row, model in enumerate(models):
        for column, dataset in enumerate(datasets):
            outcome = SimpleNamespace(status="completed") if f"{model}{dataset}" in known.split() else None
            cells[row, column] = SimpleNamespace(outcome=outcome)
    return SimpleNamespace(models=tuple(models), datasets=tuple(datasets), cells=cells)


def test_a_few_trainings_on_one_dataset_are_no_matrix(database: Database) -> None:
    assert matrix_ranker(database) is None
    for model in "abc":
        measure(database, model, "x", epochs=5)
    assert matrix_ranker(database) is None


def test_the_matrix_is_by_the_fine_tuning_that_most_of_it_was_measured_by(database: Database) -> None:
    for model in "ab":
        for train in "xy":
            measure(database, model, train, epochs=5, mode="head", warmup=None)
        for train in "xyz":
            measure(database, model, train, epochs=20, mode="all", warmup=None)
    assert matrix_ranker(database) == "FineTune(epochs=20, mode='all')"


def test_new_models_are_measured_where_two_others_are() -> None:
    assert rows_to_fill(grid("ax bx ay"), {"n"}) == Rows("n", "x")
    assert rows_to_fill(grid("ax bx ay by"), {"n"}) == Rows("n", "x,y")


def test_what_is_known_of_a_new_model_is_not_filled() -> None:
    assert rows_to_fill(grid("ax bx ay by nx"), {"n"}) == Rows("n", "y")
    assert rows_to_fill(grid("ax bx nx"), {"n"}) is None


def test_new_models_alone_make_no_matrix() -> None:
    assert rows_to_fill(grid("ax bx"), {"a", "b", "n"}) is None
    assert rows_to_fill(grid("ax bx"), {"gone"}) is None
