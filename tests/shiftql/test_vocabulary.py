"""The vocabulary says of every keyword what the grammar does with it."""

import re
from pathlib import Path

import pytest

import shiftql
from shiftql.parser import parse
from shiftql.vocabulary import KEYWORDS, RESERVED
from storage.errors import QuerySyntaxError

WORDS = sorted({word for keyword in KEYWORDS for word in keyword.phrase.split()})


def test_vocabulary_lists_the_keywords_of_the_grammar():
    grammar = Path(shiftql.__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^_?([A-Z]+)\.2: .* WORD_ENDS$", grammar, re.MULTILINE)) == WORDS


def test_no_keyword_is_listed_twice():
    phrases = [keyword.phrase for keyword in KEYWORDS]
    assert len(set(phrases)) == len(phrases)


@pytest.mark.parametrize("word", WORDS)
def test_reserved_words_alone_are_refused_as_names(word):
    assert parse(f'SELECT a FROM "{word}"')
    if word in RESERVED:
        with pytest.raises(QuerySyntaxError):
            parse(f"SELECT a FROM {word}")
    else:
        assert parse(f"SELECT a FROM {word}")


@pytest.mark.parametrize("keyword", KEYWORDS, ids=lambda keyword: keyword.phrase)
def test_example_of_a_keyword_parses_and_shows_it(keyword):
    assert parse(keyword.example)
    assert re.search(rf"\b{keyword.phrase}\b", keyword.example)


@pytest.mark.parametrize("keyword", KEYWORDS, ids=lambda keyword: keyword.phrase)
def test_help_of_a_keyword_is_one_line_of_plain_text(keyword):
    assert keyword.help.strip() == keyword.help != ""
    assert "\n" not in keyword.help
    assert not keyword.help.endswith(".")
