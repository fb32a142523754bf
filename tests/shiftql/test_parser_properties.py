"""Whatever the text, the parser ends in statements or in an error for people."""

import random
import runpy
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from shiftql.parser import parse
from storage.errors import QuerySyntaxError

FUZZ = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "fuzz.py"))


def ends_well(text: str) -> bool:
    try:
        return bool(parse(text))
    except QuerySyntaxError as error:
        lines = text.split("\n")
        is_inside = 1 <= error.line <= len(lines) and 1 <= error.column <= len(lines[error.line - 1]) + 1
        return is_inside and "^" in str(error)


@settings(max_examples=1000, deadline=None)
@given(st.text(st.characters(), max_size=60) | st.lists(st.sampled_from(FUZZ["PIECES"])).map(" ".join))
def test_any_text_ends_in_statements_or_a_syntax_error_within_the_text(text):
    assert ends_well(text)


def test_any_mutation_of_a_right_query_ends_in_statements_or_a_syntax_error_within_the_text():
    generator = random.Random(0)
    for _ in range(2000):
        text = FUZZ["random_input"](generator)
        assert ends_well(text), text
