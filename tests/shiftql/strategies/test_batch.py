from __future__ import annotations

from shiftql.strategies.batch import Batch
from storage.evaluations import Evaluation, Measurement, Subject

EVALUATIONS = [
    Evaluation(Subject(f"m{number}", f"m{number}"), Subject("train", "d"), None, "linear", "1") for number in range(5)
]


def test_everything_is_asked_for_in_the_given_order() -> None:
    strategy = Batch(EVALUATIONS)
    assert [*strategy.ask(2), *strategy.ask(2), *strategy.ask(2)] == EVALUATIONS


def test_it_waits_for_no_result() -> None:
    strategy = Batch(EVALUATIONS)
    strategy.ask(5)
    assert strategy.ask(5) == []


def test_an_evaluation_given_twice_is_asked_for_once() -> None:
    assert Batch([*EVALUATIONS, EVALUATIONS[0]]).ask(10) == EVALUATIONS


def test_only_what_is_unknown_is_asked_for() -> None:
    strategy = Batch(EVALUATIONS)
    strategy.tell({EVALUATIONS[1].fingerprint: Measurement(status="completed", cost_seconds=1.0)})
    assert strategy.ask(10) == [EVALUATIONS[0], *EVALUATIONS[2:]]
