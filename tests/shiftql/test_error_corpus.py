"""What a wrong query is told: every message of the corpora in errors/, exactly.

A corpus is blocks between lines of `====`: the query, a line `----`, and the error as a person sees it.
"""

from pathlib import Path

import pytest

from shiftql.parser import parse
from storage.errors import ShiftError

CASES = [
    tuple(block.split("\n----\n"))
    for corpus in sorted((Path(__file__).parent / "errors").glob("*.txt"))
    for block in corpus.read_text(encoding="utf-8").rstrip("\n").split("\n====\n")
]


def explain_error(text: str) -> str:
    with pytest.raises(ShiftError) as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize(("query", "message"), CASES)
def test_wrong_query_is_told_what_the_corpus_says(query, message):
    assert explain_error(query) == message
