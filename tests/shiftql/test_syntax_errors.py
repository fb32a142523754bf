"""Where an error stands, and what it says of the whole grammar."""

import pytest

from shiftql.parser import parse
from shiftql.vocabulary import KEYWORDS
from storage.errors import QuerySyntaxError

STATEMENTS = [keyword.phrase for keyword in KEYWORDS if keyword.role == "statement"]
CLAUSES = [keyword.phrase for keyword in KEYWORDS if keyword.role == "clause" and keyword.phrase != "FROM"]


def refused(text: str) -> QuerySyntaxError:
    with pytest.raises(QuerySyntaxError) as caught:
        parse(text)
    return caught.value


def test_error_holds_the_whole_text_and_the_place_in_it():
    text = "SELECT a FROM m;\n\nSELECT a FROM m WHERE b = 'x"
    error = refused(text)
    assert (error.text, error.line, error.column, error.length) == (text, 3, 27, 2)


@pytest.mark.parametrize("end", ["", " ", "\n\n", " -- comment\n"])
def test_caret_at_the_end_stands_after_the_last_token(end):
    error = refused("SELECT a FROM" + end)
    assert (error.line, error.column) == (1, 14)


def test_error_shows_nothing_of_the_parser_underneath():
    assert refused("SELECT a FROM m LIMIT").__suppress_context__


@pytest.mark.parametrize("phrase", STATEMENTS)
def test_misspelt_statement_is_recognised(phrase):
    error = refused(f"SELECT a FROM m;\n  {phrase[:-1]}X a")
    assert (error.line, error.column, error.fix) == (2, 3, f"did you mean {phrase}?")


@pytest.mark.parametrize("phrase", CLAUSES)
def test_misspelt_clause_is_recognised(phrase):
    first = phrase.split()[0]
    error = refused(f"SELECT a FROM m b {first[:-1]}X a")
    assert (error.column, error.fix) == (19, f"did you mean {phrase}?")


@pytest.mark.parametrize("phrase", [phrase for phrase in CLAUSES if " " in phrase])
def test_half_of_a_clause_is_told_the_other_half(phrase):
    first, second = phrase.split()
    assert refused(f"SELECT a FROM m {first} 5").message == f"{first} must be followed by {second}"
    assert phrase in refused(f"SELECT a FROM m {second} b").fix


def test_keyword_of_another_place_is_called_a_name():
    assert refused("SELECT a, b task FROM m").message == "unexpected name task"


RIGHT = (
    "EXPLAIN SELECT a FROM m NATURAL JOIN n WHERE b NOT IN (1, 2) ORDER BY Linear(lr=0.1) "
    "TRAINED ON [(d CHANGE [0] TO e [1]), f] OTHER THAN g RETRIEVE 2 GRP a ORD b UNION SELECT c FROM o"
)
UNFINISHED = [
    "EXPLAIN",
    "FROM",
    "JOIN",
    "WHERE",
    "NOT IN",
    "(1,",
    "BY",
    "ON",
    "CHANGE",
    "TO",
    "[1])",
    "THAN",
    "RETRIEVE 2",
    "GRP",
    "UNION",
]


@pytest.mark.parametrize("word", UNFINISHED)
def test_unfinished_query_is_refused_behind_its_last_word(word):
    start = RIGHT[: RIGHT.index(word) + len(word)]
    error = refused(start)
    assert (error.line, error.column) == (1, len(start) + 1)
