"""What the language accepts, and what it makes of it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftql.ast import And, Column, Comparison, Explain, Literal, RankerCall, Select, Star, to_json
from shiftql.parser import MAX_NESTING, parse
from storage.errors import QuerySyntaxError

FIXTURES = sorted((Path(__file__).parent / "fixtures" / "parser").glob("*.shiftql"))


def select(text: str) -> Select:
    (statement,) = parse(text)
    assert isinstance(statement, Select)
    return statement


def condition(text: str):
    return select(f"SELECT * FROM models WHERE {text}").where


def value(text: str):
    predicate = condition(f"x = {text}")
    assert isinstance(predicate, Comparison)
    assert isinstance(predicate.right, Literal)
    return predicate.right.value


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_query_makes_the_recorded_tree(path):
    expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert [to_json(statement) for statement in parse(path.read_text(encoding="utf-8"))] == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT * FROM m", "select ALL from m"),
        ("SELECT a FROM m n", "SELECT a FROM m AS n"),
        ("SELECT a FROM m", " SELECT\ta -- one\nFROM m # two\n;"),
        ("SELECT a FROM m", "SELECT `a` FROM 'm'"),
        ("SELECT a FROM m ORDER BY a", "SELECT a FROM m ORDER BY a ASC"),
        ("SELECT a FROM m LIMIT 1 WHERE b", "SELECT a FROM m WHERE b LIMIT 1"),
        ("SELECT a FROM m LIMIT 1000", "SELECT a FROM m LIMIT 1k"),
        ("SELECT a FROM m TRAINED ON d", "SELECT a FROM m TRAINED ON [d]"),
        ("SELECT a FROM m TESTED ON digits-test", "SELECT a FROM m TESTED ON 'digits-test'"),
        ("SELECT a FROM m CLASSIFIED BY Linear", "SELECT a FROM m CLASSIFIED BY [Linear()]"),
        ("SELECT a FROM m WITHIN '1 h 30 m'", "SELECT a FROM m WITHIN 5400s"),
        ("SELECT a FROM m BUDGET 10 pulls CHUNK AUTO", "SELECT a FROM m CHUNK auto BUDGET 10"),
        ("SELECT a FROM m BUDGET 1 epoch", "SELECT a FROM m BUDGET 1 EPOCHS"),
        ("SELECT a FROM m TRAINED ON (d)", "SELECT a FROM m TRAINED ON d"),
        (
            "SELECT a FROM m TESTED ON (d CHANGE [0] TO e [1], [2] TO f [3])",
            "SELECT a FROM m TESTED ON (d CHANGE [0] TO e [1], CHANGE [2] TO f [3])",
        ),
        ("PRINT a UNION b INTERSECT c", "PRINT a UNION (b INTERSECT c)"),
        ("PRINT a EXCEPT b UNION c", "PRINT (a EXCEPT b) UNION c"),
        ("RANK m BY 'LEEP(k=1)' TRAINED ON d", "SELECT * FROM m TRAINED ON d ORDER BY LEEP(k=1)"),
        ("RANK (SELECT a FROM m) BY LEEP", "RANK * FROM (SELECT a FROM m) BY LEEP()"),
        ("FINETUNE m WITH d", "FINETUNE [m] WITH [d] ()"),
        ("FINETUNE m WITH d AS n BUDGET 2h WITHIN 30m", "FINETUNE m WITH d AS n WITHIN '30 m' BUDGET 120m"),
        ("USE localhost:4200", "USE 'localhost:4200'"),
        ('SELECT a FROM m ORDER BY "Linear"(k=1)', "SELECT a FROM m ORDER BY Linear ( k = 1 )"),
    ],
)
def test_spellings_of_one_statement_are_equal(one, other):
    assert parse(one) == parse(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a = 1", "a == 1"),
        ("a <> 1", "a != 1"),
        ("a = word", "a = 'word'"),
        ("10M > a", "a < 10M"),
        ("1 = a", "a = 1"),
        ("((a))", "a"),
        ("a NOT IN (1, 2)", "NOT a IN (1, 2)"),
        ("a NOT BETWEEN 1 AND 2", "NOT a BETWEEN 1 AND 2"),
        ("a NOT LIKE 'x%'", "NOT (a LIKE 'x%')"),
        ("a IS NOT NULL", "NOT a IS NULL"),
        ("a OR b AND c", "a OR (b AND c)"),
        ("NOT a AND b", "(NOT a) AND b"),
        ("a BETWEEN 1 AND 2 AND b", "(a BETWEEN 1 AND 2) AND b"),
    ],
)
def test_spellings_of_one_condition_are_equal(one, other):
    assert condition(one) == condition(other)


@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_keywords_have_no_case(case):
    words = "select distinct a as b from m where c and not d order by a desc trained on d tested on e limit 1"
    names = {"a", "b", "m", "c", "d", "e"}
    varied = " ".join(word if word in names else case(word) for word in words.split())
    assert parse(varied) == parse(words)


def test_names_keep_their_case():
    assert select("SELECT NumParams FROM Models").items[0].expression.name == "NumParams"


def test_keyword_that_cannot_stand_there_is_a_name():
    assert condition("x = all") == condition("x = 'all'")
    assert select("SELECT true FROM false").sources[0].name == "false"


def test_keyword_is_a_name_in_quotes_and_within_a_longer_word():
    assert select('SELECT "from" FROM models').items[0].expression.name == "from"
    assert select("SELECT from_age, order-by FROM models").items[1].expression.name == "order-by"


def test_two_dashes_start_a_comment_within_a_word():
    assert select("SELECT a--b\nFROM m") == select("SELECT a FROM m")


def test_semicolons_in_strings_and_comments_separate_nothing():
    assert len(parse("SELECT a FROM m WHERE b = ';' -- ;\n; SELECT b FROM m # ;")) == 2


def test_statement_carries_its_own_text():
    first, second = parse("  SELECT a FROM m ; -- next\n explain SELECT 'é' FROM m -- done\n;")
    assert first.text == "SELECT a FROM m"
    assert second.text == "explain SELECT 'é' FROM m"
    assert isinstance(second, Explain)
    assert second.statement.text == "SELECT 'é' FROM m"


def test_positions_point_into_the_whole_text():
    text = "SELECT a FROM m;\nSELECT b FROM m\n  WHERE 'é' = num_params"
    _, second = parse(text)
    place = second.where.left.position
    assert (place.line, place.column, place.length) == (3, 9, 3)
    assert text[second.position.start : second.position.end] == second.text


def test_positions_within_a_ranker_in_quotes_point_into_the_whole_text():
    text = "RANK models\nBY 'Linear(lr=0.1)'"
    argument = select(text).order_by[0].key.arguments[0]
    assert text[argument.position.start : argument.position.end] == "lr=0.1"
    assert (argument.position.line, argument.position.column) == (2, 12)


def test_positions_take_no_part_in_equality_and_hash():
    one, other = select("SELECT a FROM m"), select("\n\n  SELECT   a FROM m")
    assert one.position != other.position
    assert one == other
    assert hash(one) == hash(other)


def test_bare_word_right_of_a_comparison_is_a_string_unless_qualified():
    assert condition("a = b").right.value == "b"
    right = condition("a = readers.b").right
    assert isinstance(right, Column)
    assert (right.qualifier, right.name) == ("readers", "b")


def test_dot_in_a_quoted_name_does_not_qualify():
    column = condition("'a.b'")
    assert (column.qualifier, column.name) == (None, "a.b")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("10M", 10_000_000),
        ("10m", 10_000_000),
        ("2b", 2_000_000_000),
        ("1.1K", 1100),
        ("0.0001k", 0.1),
        ("-3", -3),
        ("-1.5K", -1500),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("2.5E-1", 0.25),
        ("true", True),
        ("FALSE", False),
    ],
)
def test_number_and_truth_have_the_value_and_type_written(written, meant):
    assert value(written) == meant
    assert type(value(written)) is type(meant)


@given(st.integers(min_value=-(2**60), max_value=2**60))
def test_every_integer_means_itself(number):
    assert value(str(number)) == number


@given(st.floats(min_value=-1e15, max_value=1e15))
def test_every_float_means_itself(number):
    assert value(repr(number)) == number


@given(st.text(st.characters(exclude_characters="\n")), st.sampled_from("'\"`"))
def test_every_string_means_itself_with_its_quote_doubled(content, quote):
    assert value(quote + content.replace(quote, quote * 2) + quote) == content


def test_long_conjunction_is_one_flat_node():
    predicate = condition(" AND ".join(["a"] * 2000))
    assert isinstance(predicate, And)
    assert len(predicate.operands) == 2000


@pytest.mark.parametrize(
    "nested", ["NOT " * (MAX_NESTING + 1) + "a", "(a OR b AND " * MAX_NESTING + "c" + ")" * MAX_NESTING]
)
def test_condition_too_deep_to_walk_is_refused(nested):
    with pytest.raises(QuerySyntaxError, match="nested more than"):
        condition(nested)


def test_parentheses_alone_do_not_nest():
    assert condition("(" * 2000 + "a" + ")" * 2000) == condition("a")


def test_left_out_clauses_are_empty():
    statement = select("SELECT * FROM models")
    assert [type(item) for item in statement.items] == [Star]
    assert (statement.where, statement.limit, statement.distinct) == (None, None, False)
    assert statement.order_by == statement.classified_by == statement.trained_on == statement.tested_on == ()


def test_json_keeps_a_false_constant():
    assert to_json(condition("a = FALSE").right) == {"node": "Literal", "value": False}


def test_ranker_keeps_the_order_of_its_arguments():
    key = select("SELECT * FROM m ORDER BY Linear(0.1, k=2, metric=macro_f1)").order_by[0].key
    assert isinstance(key, RankerCall)
    assert [(argument.name, argument.value.value) for argument in key.arguments] == [
        (None, 0.1),
        ("k", 2),
        ("metric", "macro_f1"),
    ]


def test_ranker_of_several_words_may_stand_in_quotes_with_its_arguments():
    (quoted,) = parse('RANK models BY "Cosine NN(k=5)" TRAINED ON a TESTED ON b')
    (joined,) = parse("RANK models BY Cosine_NN(k=5) TRAINED ON a TESTED ON b")
    assert quoted == joined
