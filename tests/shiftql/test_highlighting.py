"""Every part of a statement has the colour of what it is."""

import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygments.token import Comment, Error, Keyword, Name, Number, Operator, Punctuation, String, Token

from shiftql.highlighting import ShiftQLLexer
from shiftql.reference import all_topics
from shiftql.relations import RELATION_NAMES
from shiftql.vocabulary import KEYWORDS, RESERVED
from tasks.rankers.specs import RANKERS

ROOT = Path(__file__).parents[2]


def coloured(text):
    """Token types by the text they stand on, without blanks."""
    return {value: kind for kind, value in ShiftQLLexer().get_tokens(text) if value.strip()}


@pytest.mark.parametrize("word", sorted({word for keyword in KEYWORDS for word in keyword.phrase.split()}))
def test_keywords_are_keywords_and_reserved_ones_in_any_case(word):
    assert coloured(word)[word] in Keyword
    if word in RESERVED:
        assert coloured(word.title())[word.title()] in Keyword


@pytest.mark.parametrize("spec", RANKERS.values(), ids=RANKERS)
def test_rankers_are_functions_in_any_spelling(spec):
    for spelling in (spec.name, spec.label.replace(" ", "")):
        assert coloured(spelling)[spelling] in Name.Function or spelling.upper() == "FINETUNE"


@pytest.mark.parametrize("name", RELATION_NAMES)
def test_relations_are_classes(name):
    assert coloured(f"FROM {name}")[name] is Name.Class


def test_columns_are_attributes_even_where_a_keyword_is_called_so():
    found = coloured("SELECT num_params, task, NumRows, mine FROM TASK")
    assert [found[each] for each in ("num_params", "task", "NumRows", "mine", "TASK")] == [
        Name.Attribute,
        Name.Attribute,
        Name.Attribute,
        Name,
        Keyword,
    ]


@pytest.mark.parametrize("number", ["10M", "1.5k", "-3", ".5", "1e3", "2.5E-1", "30m", "1h30m", "7d"])
def test_numbers_with_their_suffixes_and_durations_are_one_number(number):
    assert coloured(number)[number] in Number


@pytest.mark.parametrize("string", ["'it''s'", '"Cosine NN"', "`a`", "'not closed"])
def test_strings_closed_or_not_are_strings(string):
    assert coloured(string)[string] in String


def test_comments_end_with_their_line():
    found = coloured("-- SELECT\nname # it's\n=")
    assert found["-- SELECT"] in Comment
    assert found["# it's"] in Comment
    assert found["="] in Operator


def test_a_word_with_dashes_is_one_name():
    assert coloured("drawn-digits-train")["drawn-digits-train"] in Name


def test_examples_of_the_documentation_have_no_error_tokens():
    for topic in all_topics():
        for example in topic.examples:
            assert Error not in coloured(example).values()
    assert coloured("(")["("] in Punctuation


# pygments itself unifies line ends and drops a byte order mark.
@given(st.text(st.characters(exclude_characters="\r\ufeff"), max_size=80))
def test_any_text_is_coloured_and_none_of_it_lost(text):
    tokens = list(ShiftQLLexer(stripnl=False, ensurenl=False).get_tokens(text))
    assert all(kind in Token for kind, _ in tokens)
    assert "".join(value for _, value in tokens) == text.replace("\r\n", "\n").replace("\r", "\n").removeprefix(
        "\ufeff"
    )


def test_pygments_finds_the_lexer_by_the_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["entry-points"]["pygments.lexers"]["shiftql"].partition(":")
    assert getattr(import_module(module), name) is ShiftQLLexer
