"""What a question took is learned from, and the next estimate rests on it."""

from __future__ import annotations

import pytest

from shiftql import query
from shiftql.answers import ExplainAnswer
from storage.database import Database
from storage.learned_costs import Learned, LearnedCosts, Level, Observation
from storage.settings import current_settings
from tasks.host import host

NATURE = "TRAINED ON 'nature-train' TESTED ON 'nature-test'"
LINEAR = f"SELECT * FROM text_models ORDER BY Linear {NATURE}"
TUNED = f"SELECT * FROM models WHERE name = 'bert' ORDER BY FineTune(epochs=1) {NATURE}"


def learned() -> dict[Level, Learned]:
    return LearnedCosts(Database(current_settings())).of([""])


def total(question: str) -> float:
    answer = query(f"EXPLAIN {question}")
    assert isinstance(answer, ExplainAnswer)
    return answer.plan["total"]["estimated_seconds"]


def test_every_stage_of_new_work_is_learned_from_and_known_work_is_not(here: None) -> None:
    assert learned() == {}
    query(LINEAR)
    first = learned()
    assert {stage for stage, _ in first} >= {"embedding", "opening", "scoring linear"}
    query(LINEAR)
    assert learned() == first


def test_what_is_trained_first_in_a_process_tells_of_starting_alone(
    here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host("torch"), "called", set())
    query(TUNED)
    assert ("training", "") not in learned()
    query(TUNED.replace("epochs=1", "epochs=2"))
    assert ("training", "") in learned()


def test_what_is_stored_is_not_taken_for_what_is_quick(here: None) -> None:
    query(LINEAR)
    embedded = learned()["embedding", ""]
    query(f"SELECT * FROM text_models ORDER BY LogME {NATURE}")
    assert learned()["embedding", ""] == embedded


def test_a_whole_run_tells_of_starting_or_of_running(here: None) -> None:
    query(LINEAR)
    assert {stage for stage, _ in learned()} & {"starting", "bookkeeping"}


def test_what_was_learned_is_what_is_estimated(here: None) -> None:
    before = total(TUNED)
    LearnedCosts(Database(current_settings())).learn([Observation(20.0, [("training", "")])] * 20)
    assert total(TUNED) > before + 5


@pytest.mark.parametrize("question", [LINEAR, TUNED])
def test_nothing_is_waited_for_what_is_known(here: None, question: str) -> None:
    assert total(question) > 0
    query(question)
    assert total(question) == 0


def test_what_a_plan_took_stands_beside_what_was_estimated(here: None) -> None:
    answer = query(f"EXPLAIN ANALYZE {TUNED}")
    assert isinstance(answer, ExplainAnswer)
    assert answer.plan["total"]["actual_seconds"] > 0
    assert f"(actual {answer.plan['total']['actual_seconds']:.1f} s)" in answer.text
