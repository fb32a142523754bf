"""What a wrong query is told: every message of the corpus, exactly."""

from pathlib import Path

import pytest

from shiftql.parser import parse
from storage.errors import QuerySyntaxError

CORPUS = (Path(__file__).parent / "fixtures" / "syntax_errors.txt").read_text(encoding="utf-8")
CASES = [case.rstrip("\n").split("\n~~~\n") for case in CORPUS.split("\n====\n")]


@pytest.mark.parametrize(("query", "expected"), CASES)
def test_wrong_query_is_told_what_the_corpus_says(query, expected):
    with pytest.raises(QuerySyntaxError) as caught:
        parse(query)
    assert str(caught.value) == expected


def test_error_holds_the_whole_text_and_the_place_in_it():
    text = "SELECT a FROM m;\n\nSELECT a FROM m WHERE b = 'x"
    with pytest.raises(QuerySyntaxError) as caught:
        parse(text)
    error = caught.value
    assert (error.text, error.line, error.column, error.length) == (text, 3, 27, 2)


@pytest.mark.parametrize("end", ["", " ", "\n\n", " -- comment\n"])
def test_caret_at_the_end_stands_after_the_last_token(end):
    with pytest.raises(QuerySyntaxError) as caught:
        parse("SELECT a FROM" + end)
    assert (caught.value.line, caught.value.column) == (1, 14)


def test_error_shows_nothing_of_the_parser_underneath():
    with pytest.raises(QuerySyntaxError) as caught:
        parse("SELECT a FROM m LIMIT")
    assert caught.value.__suppress_context__
