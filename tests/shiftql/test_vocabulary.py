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
    assert sorted(re.findall(r'"(\w+)"i WORD_ENDS', grammar)) == WORDS


@pytest.mark.parametrize("word", WORDS)
def test_reserved_words_alone_are_refused_as_names(word):
    assert parse(f'SELECT a FROM "{word}"')
    if word in RESERVED:
        with pytest.raises(QuerySyntaxError):
            parse(f"SELECT a FROM {word}")
    else:
        assert parse(f"SELECT a FROM {word}")
