"""WITHIN and BUDGET: what is known when a limit is reached is the answer, and asking again goes on."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.exceptions import TerminationSignal
from sqlmodel import col, select

from flows import computing, limits, search
from flows import run as run_module
from shiftql.answers import RankingAnswer
from shiftql.engine import query
from storage.baselines import MAJORITY, RAW
from storage.database import Database
from storage.results import EvaluationRecord
from storage.settings import current_settings
from tasks import embedding

COLOURS = "TRAINED ON 'colours-train' TESTED ON 'colours-test'"
QUESTION = f"SELECT name FROM image_models ORDER BY Linear {COLOURS}"


@pytest.fixture(autouse=True)
def _here(here: None) -> None:
    """Hosts answer from this process."""


def ask(text: str) -> RankingAnswer:
    answer = query(text)
    assert isinstance(answer, RankingAnswer)
    return answer


def models(answer: RankingAnswer) -> set[str]:
    return {row["model"] for row in answer.ranking if not row.get("baseline")}


def refuse_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "run_search", lambda *_: pytest.fail("a flow was started"))


def known_models() -> set[str]:
    """Those of the pool with a result."""
    with Database(current_settings()).session() as session:
        records = session.exec(select(EvaluationRecord).where(col(EvaluationRecord.status) == "completed")).all()
    return {record.model_name for record in records} - {RAW, MAJORITY.name}


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Whichever model is embedded with after the first is so until the hosts are stopped, as they are when time is
    over: as soon as the first is known."""
    ended, opened = threading.Event(), list[str]()
    embed = embedding.embed_dataset

    def embed_dataset(**arguments: Any) -> Any:
        model = arguments["model"]
        if model not in {RAW, *opened}:
            opened.append(model)
        if opened[1:] == [model] and not ended.is_set():
            ended.wait()
            raise AssertionError("whoever waited for this has gone on")
        return embed(**arguments)

    def now() -> float:
        return time.time() + (3600.0 if not ended.is_set() and known_models() else 0.0)

    monkeypatch.setattr(embedding, "embed_dataset", embed_dataset)
    monkeypatch.setattr(computing, "stop_hosts", ended.set)
    monkeypatch.setattr(limits, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(limits, "time", SimpleNamespace(time=now, monotonic=time.monotonic))
    yield ended
    ended.set()


def test_at_its_end_within_answers_with_what_is_known(stuck: threading.Event) -> None:
    answer = ask(f"{QUESTION} WITHIN 10m")
    assert (answer.partial, answer.interrupted) == (True, False)
    assert len(models(answer)) == 1
    assert answer.failed == ()
    assert stuck.is_set()


def test_asking_again_goes_on_from_there(stuck: threading.Event) -> None:
    before = ask(f"{QUESTION} WITHIN 10m")
    after = ask(f"{QUESTION} WITHIN 10m")
    assert not after.partial
    assert models(after) == {"resnet", "vit"}
    assert (before.evaluated, after.evaluated, after.reused) == (1, 1, 1)


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    limited = ask(f"{QUESTION} WITHIN 10h")
    assert not limited.partial
    assert limited.ranking == ask(QUESTION).ranking
    assert not ask(f"{QUESTION} BUDGET 10h").partial


def test_a_budget_that_pays_for_nothing_says_so_and_starts_no_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_flows(monkeypatch)
    answer = ask(f"SELECT name FROM image_models ORDER BY FineTune(epochs=100000) {COLOURS} BUDGET 1s")
    assert answer.partial
    assert models(answer) == set()


def test_known_results_cost_a_budget_what_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    full = ask(QUESTION)
    refuse_flows(monkeypatch)
    answer = ask(f"{QUESTION} BUDGET 1s")
    assert answer.ranking == full.ranking
    assert not answer.partial


def test_who_is_told_to_end_answers_with_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    full = ask(QUESTION)

    async def terminated(**_: Any) -> Any:
        raise TerminationSignal(signal.SIGTERM)

    monkeypatch.setattr(search, "search", terminated)
    answer = ask(f"SELECT name FROM image_models ORDER BY acc CLASSIFIED BY [Linear, 'Cosine NN'] {COLOURS}")
    assert answer.partial
    assert answer.ranking == full.ranking
