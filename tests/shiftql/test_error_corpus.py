"""What a wrong query is told: every message of the corpora in errors/, exactly.

A corpus is blocks between lines of `====`: the query, a line `----`, and the error as a person sees it. Statements
are bound to the small catalog of the `database` fixture, and nothing is computed.
"""

import runpy
from pathlib import Path

import pytest

from storage.database import Database

ask = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "fuzz.py"))["ask"]
CASES = [
    tuple(block.split("\n----\n"))
    for corpus in sorted((Path(__file__).parent / "errors").glob("*.txt"))
    for block in corpus.read_text(encoding="utf-8").rstrip("\n").split("\n====\n")
]


@pytest.mark.parametrize(("query", "message"), CASES)
def test_wrong_query_is_told_what_the_corpus_says(query: str, message: str, database: Database) -> None:
    assert ask(query, database) == message
