"""WITHIN and BUDGET: what is known when a limit is reached is the answer, and asking again goes on."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.exceptions import TerminationSignal
from sqlmodel import col, select

from flows import computing, limits, search, starting
from flows import run as run_module
from shiftql.answers import FinetuneAnswer, RankingAnswer
from shiftql.engine import query
from shiftql.progress import Progress, progress
from storage.baselines import MAJORITY, RAW
from storage.database import Database
from storage.results import EvaluationRecord
from storage.settings import current_settings
from tasks import embedding
from tasks.finetuning import runs
from tasks.finetuning.torch_training import TorchTraining

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
    for name in ("run_search", "run_finetuning"):
        monkeypatch.setattr(run_module, name, lambda *_: pytest.fail("a flow was started"))


def known_models() -> set[str]:
    """Those of the pool with a result."""
    with Database(current_settings()).session() as session:
        records = session.exec(select(EvaluationRecord).where(col(EvaluationRecord.status) == "completed")).all()
    return {record.model_name for record in records} - {RAW, MAJORITY.name}


def epochs_trained() -> list[int]:
    """Of each training, those that no checkpoint had behind it."""
    with Database(current_settings()).session() as session:
        records = session.exec(select(EvaluationRecord).where(EvaluationRecord.method == "finetune")).all()
    return [json.loads(record.metrics)["epochs_trained"] for record in records]


@pytest.fixture
def notes() -> Iterator[list[str]]:
    """What is said beside answers."""

    class Notes(Progress):
        def note(self, message: str) -> None:
            said.append(message)

    said = list[str]()
    token = progress.set(Notes())
    yield said
    progress.reset(token)


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


@pytest.fixture
def stick(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, int], None]]:
    """`stick(training, epoch)` has the training of that number, from 0, be stuck in an epoch until its time is over."""
    reached, ended, begun = threading.Event(), threading.Event(), list[TorchTraining]()
    train = TorchTraining.train

    def now() -> float:
        return time.time() + (3600.0 if reached.is_set() and not ended.is_set() else 0.0)

    def stick_in(training: int, epoch: int) -> None:
        def stuck(self: TorchTraining, number: int) -> Any:
            if self not in begun:
                begun.append(self)
            if (begun.index(self), number) == (training, epoch) and not ended.is_set():
                reached.set()
                ended.wait()
                raise AssertionError("whoever waited for this has gone on")
            return train(self, number)

        monkeypatch.setattr(TorchTraining, "train", stuck)

    monkeypatch.setattr(computing, "stop_hosts", ended.set)
    monkeypatch.setattr(limits, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(limits, "time", SimpleNamespace(time=now, monotonic=time.monotonic))
    # A checkpoint after every epoch.
    monkeypatch.setattr(runs, "_SOONEST", 0.0)
    yield stick_in
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


FINETUNE = "FINETUNE bert WITH 'nature-train' (lr=[0.01, 0.005], epochs=3) AS reader"


def test_finetune_keeps_the_best_of_what_came_to_its_end_and_goes_on_from_there(stick: Callable[..., None]) -> None:
    stick(1, 0)
    before = ask(f"{FINETUNE} WITHIN 10m")
    assert isinstance(before, FinetuneAnswer)
    assert (before.partial, len(before.ranking)) == (True, 1)
    assert before.kept is not None
    after = ask(f"{FINETUNE} WITHIN 10m")
    assert isinstance(after, FinetuneAnswer)
    assert (after.partial, len(after.ranking), after.reused) == (False, 2, 1)
    assert after.kept is not None


def test_a_finetune_that_ends_none_keeps_nothing_and_goes_on_from_its_checkpoint(
    stick: Callable[..., None], notes: list[str]
) -> None:
    stick(0, 2)
    before = ask(f"{FINETUNE} WITHIN 10m")
    assert isinstance(before, FinetuneAnswer)
    assert (before.ranking, before.kept, before.partial) == ([], None, True)
    (begun,) = before.begun
    assert (begun["model"], begun["lr"], begun["epochs"], begun["of"]) == ("bert", 0.01, 1, 3)
    assert (begun["metric"], 0 <= begun["score"] <= 1) == ("validation_accuracy", True)
    assert notes[-1] == "nothing is kept as reader: no training came to its end"
    after = ask(FINETUNE)
    assert isinstance(after, FinetuneAnswer)
    assert (after.kept is not None, after.begun) == (True, ())
    assert min(epochs_trained()) < 3


def test_a_budget_of_epochs_pays_for_whole_trainings(notes: list[str]) -> None:
    before = ask(f"{FINETUNE} BUDGET 5 epochs")
    assert isinstance(before, FinetuneAnswer)
    assert (before.partial, len(before.ranking)) == (True, 1)
    assert before.kept is not None
    assert "the budget leaves out 1 evaluation; a larger one goes on from here" in notes
    after = ask(f"{FINETUNE} BUDGET 6 epochs")
    assert (after.partial, len(after.ranking)) == (False, 2)
    assert after.reused == before.evaluated


def test_a_budget_of_seconds_begins_no_training_that_it_cannot_pay_for(
    monkeypatch: pytest.MonkeyPatch, notes: list[str]
) -> None:
    refuse_flows(monkeypatch)
    answer = ask(FINETUNE.replace("epochs=3", "epochs=100000") + " BUDGET 1s")
    assert (answer.partial, answer.ranking) == (True, [])
    assert notes == [
        "the budget leaves out 2 evaluations; a larger one goes on from here",
        "nothing is kept as reader: no training came to its end",
    ]


@pytest.mark.parametrize("prefix", ["EXPLAIN ", ""])
def test_a_time_that_starting_alone_takes_is_said_to_be_too_short(
    prefix: str, monkeypatch: pytest.MonkeyPatch, notes: list[str]
) -> None:
    monkeypatch.setattr(starting, "to_start", lambda _: {"torch"})
    monkeypatch.setattr(run_module, "run_search", lambda *_: {"partial": True})
    query(f"{prefix}{QUESTION} WITHIN 1h")
    assert notes == []
    query(f"{prefix}{QUESTION} WITHIN 0.5s")
    assert [note.partition(" is expected to take ")[0] for note in notes] == ["starting torch"]
    assert notes[0].endswith(", and WITHIN gives 0.5 s")


def test_the_time_of_a_question_is_that_of_the_questions_it_rests_on(stuck: threading.Event) -> None:
    answer = ask(f"FINETUNE ({QUESTION} LIMIT 1) WITH 'colours-train' (epochs=1) WITHIN 10m")
    assert answer.partial
    assert stuck.is_set()


def test_who_is_told_to_end_answers_with_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    full = ask(QUESTION)

    async def terminated(**_: Any) -> Any:
        raise TerminationSignal(signal.SIGTERM)

    monkeypatch.setattr(search, "search", terminated)
    answer = ask(f"SELECT name FROM image_models ORDER BY acc CLASSIFIED BY [Linear, 'Cosine NN'] {COLOURS}")
    assert answer.partial
    assert answer.ranking == full.ranking
