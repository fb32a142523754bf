"""Strategies by their names."""

from __future__ import annotations

import pytest

from shiftql.strategies.specs import STRATEGIES, read_strategy
from storage.errors import BindingError


@pytest.mark.parametrize("text", ["BestAverage(k=3)", "best_average(3)", " bestaverage( 3 ) "])
def test_a_strategy_goes_by_any_spelling_and_keeps_its_arguments(text: str) -> None:
    assert str(read_strategy(text)) == "BestAverage(k=3)"


def test_without_arguments_no_brackets_are_needed() -> None:
    assert read_strategy("Enumerate") == read_strategy("enumerate()")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Rndom(3)", "did you mean Random?"),
        ("Random(n=3)", "Random takes no n"),
        ("Random(1, 2, 3)", "takes 2 arguments"),
        ("Random(k=0)", "must be a whole number of at least 1"),
        ("Random(k=True)", "must be a whole number"),
        ("Random(k='3')", "must be a whole number"),
        ("SuccessiveHalving(eta=1)", "at least 2"),
        ("TwoPhase(threshold=-0.1)", "must be a number"),
        ("TwoPhase(mode='mine')", "own, representative"),
        ("Proxy()", "Proxy needs proxy"),
        ("Proxy(proxy=3)", "must be a text"),
        ("Random(k=", "names no strategy"),
        ("Random(k=open('x'))", "names no strategy"),
        ("a.b(1)", "names no strategy"),
        ("", "names no strategy"),
    ],
)
def test_a_wrong_name_or_argument_is_told_with_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(BindingError) as caught:
        read_strategy(text)
    assert words in str(caught.value)


def test_only_what_is_random_takes_a_seed() -> None:
    texts = {"Proxy": "Proxy('linear')", "Hybrid": "Hybrid('linear')"}
    assert [name for name in STRATEGIES if read_strategy(texts.get(name, name)).takes_seed] == ["Random", "Hyperband"]
    assert str(read_strategy("Random(k=2)").with_seed(7)) == "Random(k=2, seed=7)"
