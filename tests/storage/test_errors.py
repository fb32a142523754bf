from __future__ import annotations

import pytest

from storage.errors import (
    BindingError,
    EvaluationError,
    PlanError,
    PositionedError,
    QuerySyntaxError,
    ShiftError,
    StoreError,
)


@pytest.mark.parametrize("kind", [QuerySyntaxError, BindingError, PlanError, EvaluationError, StoreError])
def test_every_error_is_a_shift_error_that_says_how_to_mend_it(kind: type[ShiftError]) -> None:
    error = kind("it is broken", subject="thing", fix="mend it")
    assert isinstance(error, ShiftError)
    assert (error.message, error.subject, error.fix) == ("it is broken", "thing", "mend it")
    assert str(error) == "it is broken\nfix: mend it"


def test_allowed_values_stand_before_the_fix() -> None:
    assert str(ShiftError("no", allowed=["a", "b"], fix="write a")) == "no\nallowed: a, b\nfix: write a"


def test_of_hundreds_of_allowed_names_the_nearest_are_shown() -> None:
    names = [f"digits-{number}" for number in range(300)] + ["reviews-train"]
    lines = str(ShiftError("no", subject="revews-train", allowed=names)).split("\n")
    assert lines[1].startswith("allowed: reviews-train, ")
    assert lines[1].endswith(", … and 291 more")
    assert lines[1].count(",") == 10


def test_the_caret_stands_under_the_place() -> None:
    error = PositionedError(
        "there is no column 'nam'",
        text="SELECT name\nFROM models WHERE nam = 1",
        line=2,
        column=19,
        length=3,
        allowed=["name"],
        fix="did you mean name?",
    )
    assert str(error).split("\n") == [
        "line 2, column 19: there is no column 'nam'",
        "   2 | FROM models WHERE nam = 1",
        "                         ^^^",
        "allowed: name",
        "fix: did you mean name?",
    ]


def test_tabs_do_not_shift_the_caret() -> None:
    lines = str(PositionedError("here", text="\tSELECT\tx", line=1, column=9)).split("\n")
    assert lines[2].index("^") == lines[1].index("x")


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    wide = str(PositionedError("here", text="'模型' = x", line=1, column=8)).split("\n")
    assert wide[2] == " " * len("   1 | ") + " " * len("'....' = ") + "^"
    combining = str(PositionedError("here", text="'e\u0301' = x", line=1, column=8)).split("\n")
    assert combining[2] == " " * len("   1 | ") + " " * len("'e' = ") + "^"


def test_the_caret_is_as_wide_as_what_it_stands_under() -> None:
    lines = str(PositionedError("this", text="SELECT 模型 x", line=1, column=8, length=2)).split("\n")
    assert lines[2].count("^") == 4


def test_control_characters_never_reach_the_terminal() -> None:
    lines = str(PositionedError("here", text="a\x1b[2J\r\x85\u2028b", line=1, column=9)).split("\n")
    assert lines[1] == "   1 | a [2J   b"
    assert lines[2].index("^") == lines[1].index("b")


def test_the_caret_ends_with_its_line() -> None:
    text = "SELECT name FROM models\nWHERE x"
    lines = str(PositionedError("all of it", text=text, line=1, column=8, length=len(text))).split("\n")
    assert lines[2].count("^") == len("name FROM models")
    past_the_end = str(PositionedError("more is expected", text="SELECT", line=1, column=7, length=5)).split("\n")
    assert past_the_end[2].count("^") == 1


def test_without_a_place_there_is_no_caret() -> None:
    assert str(PositionedError("no place", text="SELECT")) == "no place"


def test_only_evaluation_errors_said_to_be_transient_are() -> None:
    assert EvaluationError("out of memory", transient=True).transient
    assert not EvaluationError("truncated").transient
