"""Whatever the text, asking it ends in an answer or in an error for people, at a place of the text."""

from __future__ import annotations

import random
import runpy
from pathlib import Path

import pytest

from shiftql.answers import ErrorAnswer
from storage.database import Database
from storage.errors import PositionedError

FUZZ = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "fuzz.py"))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Database:
    database: Database = FUZZ["small_catalog"](tmp_path_factory.mktemp("home"))
    return database


def test_any_mutation_of_a_right_query_is_answered_or_refused_at_a_place_of_it(catalog: Database) -> None:
    generator = random.Random(1)
    refused = 0
    for _ in range(3000):
        text = FUZZ["random_input"](generator)
        *_, last = FUZZ["BindingSession"](catalog).run(text)
        if isinstance(last, ErrorAnswer):
            refused += 1
            assert isinstance(last.error, PositionedError), text
            line, column = last.error.line or 0, last.error.column or 0
            assert line >= 1, text
            assert 1 <= column <= len(text.split("\n")[line - 1]) + 1, text
    assert 0 < refused < 3000


def test_most_of_the_right_queries_are_answered(catalog: Database) -> None:
    answered = [FUZZ["ask"](query, catalog) is None for query in FUZZ["QUERIES"]]
    assert sum(answered) > 0.75 * len(answered)
