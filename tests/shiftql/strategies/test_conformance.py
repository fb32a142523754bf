"""The laws of shiftql.strategies.base.Strategy, for every strategy there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import shiftql.strategies
from shiftql.strategies.base import Strategy
from shiftql.strategies.enumerate import Enumerate
from shiftql.strategies.successive_halving import SuccessiveHalving
from storage.evaluations import Evaluation, Measurement, Subject

EVALUATIONS = [
    Evaluation(Subject(f"m{number}", f"m{number}"), Subject("train", "d"), Subject("test", "t"), "linear", "1")
    for number in range(8)
]
ROUNDS: list[dict[str, int]] = [{"rows": 10}, {"rows": 30}, {}]
FOREIGN = Evaluation(Subject("stranger", "s"), Subject("train", "d"), None, "linear", "1")


def _halving(evaluations: Sequence[Evaluation]) -> Strategy:
    return SuccessiveHalving([[replace(each, fidelity=fidelity) for fidelity in ROUNDS] for each in evaluations])


# How each is made to choose among evaluations.
MAKERS: dict[type, Callable[[Sequence[Evaluation]], Strategy]] = {Enumerate: Enumerate, SuccessiveHalving: _halving}
STRATEGIES = list(MAKERS.values())


def _done(evaluation: Evaluation) -> Measurement:
    return Measurement(
        status="completed", cost_seconds=1.0, metric="accuracy", value=int(evaluation.fingerprint, 16) / 16**32
    )


def _results(evaluations: Sequence[Evaluation]) -> dict[str, Measurement]:
    return {evaluation.fingerprint: _done(evaluation) for evaluation in evaluations}


def _run(strategy: Strategy, counts: Sequence[int]) -> list[Evaluation]:
    """Everything the strategy asks for until it wants no more, the counts taken in turn."""
    asked: list[Evaluation] = []
    while wanted := strategy.ask(counts[len(asked) % len(counts)]):
        asked += wanted
        strategy.tell(_results(wanted))
    return asked


def test_every_strategy_is_under_test() -> None:
    files = Path(str(shiftql.strategies.__file__)).parent.glob("*.py")
    modules = [
        import_module(f"shiftql.strategies.{file.stem}") for file in files if file.stem not in {"__init__", "base"}
    ]
    found = {
        each for module in modules for each in vars(module).values() if hasattr(each, "ask") and each is not Strategy
    }
    assert found == set(MAKERS)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(counts=st.lists(st.integers(1, 10), min_size=1, max_size=5))
def test_nothing_is_asked_for_twice_nor_more_than_wanted(
    strategy: Callable[[Sequence[Evaluation]], Strategy], counts: list[int]
) -> None:
    running = strategy(EVALUATIONS)
    seen: set[str] = set()
    for count in [*counts, *[1] * len(EVALUATIONS)]:
        wanted = running.ask(count)
        assert len(wanted) <= count
        assert not seen & {evaluation.fingerprint for evaluation in wanted}
        seen |= {evaluation.fingerprint for evaluation in wanted}
        running.tell(_results(wanted))
    assert seen <= {replace(each, fidelity=fidelity).fingerprint for each in EVALUATIONS for fidelity in ROUNDS}


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(known=st.sets(st.integers(0, 7)), counts=st.lists(st.integers(1, 10), min_size=1, max_size=3))
def test_known_results_told_first_are_not_asked_for(
    strategy: Callable[[Sequence[Evaluation]], Strategy], known: set[int], counts: list[int]
) -> None:
    running = strategy(EVALUATIONS)
    running.tell(_results([EVALUATIONS[number] for number in known]))
    told = running.answer()
    assert not set(told) & {evaluation.fingerprint for evaluation in _run(running, counts)}
    assert told.items() <= running.answer().items()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_results_nobody_asked_for_are_ignored(strategy: Callable[[Sequence[Evaluation]], Strategy]) -> None:
    running = strategy(EVALUATIONS)
    running.tell(_results([FOREIGN]))
    assert FOREIGN.fingerprint not in running.answer()
    assert FOREIGN not in _run(running, [3])
    assert FOREIGN.fingerprint not in running.answer()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_answer_is_what_was_told(strategy: Callable[[Sequence[Evaluation]], Strategy]) -> None:
    running = strategy(EVALUATIONS)
    assert running.answer() == {}
    first = running.ask(2)
    assert running.answer() == {}
    running.tell(_results(first))
    assert running.answer() == _results(first)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_telling_twice_is_telling_once(strategy: Callable[[Sequence[Evaluation]], Strategy]) -> None:
    once, twice = strategy(EVALUATIONS), strategy(EVALUATIONS)
    wanted = once.ask(3)
    assert twice.ask(3) == wanted
    once.tell(_results(wanted))
    twice.tell(_results(wanted))
    twice.tell(_results(wanted))
    assert once.answer() == twice.answer()
    assert once.ask(8) == twice.ask(8)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_failure_is_a_result_and_ends_nothing(strategy: Callable[[Sequence[Evaluation]], Strategy]) -> None:
    running = strategy(EVALUATIONS)
    (first,) = running.ask(1)
    running.tell({first.fingerprint: Measurement(status="failed", cost_seconds=0.0, reason="truncated")})
    assert running.ask(1)
    assert running.answer()[first.fingerprint].status == "failed"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_models_there_is_nothing_to_do(strategy: Callable[[Sequence[Evaluation]], Strategy]) -> None:
    running = strategy([])
    assert list(running.ask(5)) == []
    assert running.answer() == {}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_histories_lead_to_equal_questions(strategy: Callable[[Sequence[Evaluation]], Strategy]) -> None:
    assert _run(strategy(EVALUATIONS), [2, 3]) == _run(strategy(EVALUATIONS), [2, 3])
