"""The laws of shiftql.strategies.base.Strategy, for every strategy there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shiftql.strategies
from shiftql.strategies.auto_race import AutoRace
from shiftql.strategies.base import Arm, History, Offer, Problem, Strategy
from shiftql.strategies.batch import Batch
from shiftql.strategies.retried import Retried
from shiftql.strategies.specs import STRATEGIES, read_strategy
from shiftql.strategies.staged import Staged
from shiftql.strategies.successive_halving import Halving
from storage.evaluations import Evaluation, Measurement, Subject

KINDS = ("epoch_1", "epoch_2", "epoch_3")
FIDELITIES = ({"epochs": 1}, {"epochs": 2}, {})
MODELS = [Subject(f"m{number}", f"{number:032x}") for number in range(8)]
FOREIGN = Evaluation(Subject("stranger", "s"), Subject("target", "d"), None, "finetune", "1")


def _evaluation(model: Subject, method: str = "finetune", fidelity: dict[str, int] = FIDELITIES[2]) -> Evaluation:
    return Evaluation(model, Subject("target", "d"), None, method, "1", fidelity=fidelity)


def _arm(model: Subject, number: int) -> Arm:
    rungs = [Offer(kind, _evaluation(model, fidelity=each), 1.0) for kind, each in zip(KINDS, FIDELITIES, strict=True)]
    hint = Offer("linear", _evaluation(model, "linear"), 0.1)
    glances = [Offer("", _evaluation(model, "linear", {"rows": rows}), 0.01) for rows in (10, 20)]
    return Arm(model, tuple(rungs), (hint,), {"upstream_accuracy": number / 10} if number else {}, tuple(glances))


def _history(models: int = 7, datasets: int = 4) -> History:
    """Without the last model, and without some results."""
    values = np.random.default_rng(0).random((models, datasets))
    values[1:2, :1] = np.nan
    names = tuple(model.name for model in MODELS[:models])
    seen = {kind: values + offset for offset, kind in enumerate((*KINDS, "linear"))}
    seconds = {kind: np.ones_like(values) for kind in seen}
    return History(names, tuple(f"d{number}" for number in range(datasets)), values, values, seen, seconds)


PROBLEM = Problem("target", [_arm(model, number) for number, model in enumerate(MODELS)], _history())
UNKNOWN = Problem("target", PROBLEM.arms, _history(0, 0))
NOTHING = Problem("target", [], _history())

TEXTS = {
    "Auto": "Auto(share=0.5)",
    "Proxy": "Proxy('linear', k=3)",
    "Hybrid": "Hybrid('linear', k=2, upstream=2)",
    "Random": "Random(k=5, seed=1)",
    "SuccessiveHalving": "SuccessiveHalving(eta=2)",
    "NearestBenchmark": "NearestBenchmark(k=2, probes=3)",
    "TwoPhase": "TwoPhase(k=3, proxy='linear')",
}
FURTHER = ["NearestBenchmark(k=2, proxy='linear')"]
MAKERS = [
    pytest.param(read_strategy(text).make, id=text.partition("(")[0])
    for text in (*(TEXTS.get(name, name) for name in STRATEGIES), *FURTHER)
]
# What is known already changes what is worth buying, and the best is predicted rather than measured.
PLAIN = [each for each in MAKERS if each.id != "Auto"]
Maker = Callable[[Problem], Strategy]


def _done(evaluation: Evaluation) -> Measurement:
    value = int(evaluation.fingerprint, 16) / 16**32
    return Measurement(status="completed", cost_seconds=1.0, metric="accuracy", value=value)


def _results(evaluations: Sequence[Evaluation]) -> dict[str, Measurement]:
    return {evaluation.fingerprint: _done(evaluation) for evaluation in evaluations}


def _run(strategy: Strategy, counts: Sequence[int] = (2, 3)) -> list[Evaluation]:
    """Everything the strategy asks for until it wants no more, the counts taken in turn."""
    asked: list[Evaluation] = []
    while wanted := strategy.ask(counts[len(asked) % len(counts)]):
        asked += wanted
        strategy.tell(_results(wanted))
    return asked


def _all() -> set[str]:
    """What is offered."""
    arms = PROBLEM.arms
    return {offer.evaluation.fingerprint for arm in arms for offer in (*arm.rungs, *arm.hints, *arm.glances)}


def test_every_strategy_is_under_test() -> None:
    files = Path(str(shiftql.strategies.__file__)).parent.glob("*.py")
    modules = [
        import_module(f"shiftql.strategies.{file.stem}") for file in files if file.stem not in {"__init__", "base"}
    ]
    found = {
        each for module in modules for each in vars(module).values() if hasattr(each, "ask") and each is not Strategy
    }
    public = {
        each.__name__
        for each in found - {AutoRace, Batch, Halving, Retried, Staged}
        if not each.__name__.startswith("_")
    }
    assert public == set(STRATEGIES)


@pytest.mark.parametrize("make", MAKERS)
@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 10), min_size=1, max_size=5))
def test_nothing_is_asked_for_twice_nor_more_than_wanted(make: Maker, counts: list[int]) -> None:
    running = make(PROBLEM)
    seen: set[str] = set()
    for count in [*counts, *[1] * 40]:
        wanted = running.ask(count)
        assert len(wanted) <= count
        assert not seen & {evaluation.fingerprint for evaluation in wanted}
        seen |= {evaluation.fingerprint for evaluation in wanted}
        running.tell(_results(wanted))
    assert seen
    assert seen <= _all()


@pytest.mark.parametrize("make", MAKERS)
def test_known_results_told_first_are_not_asked_for(make: Maker) -> None:
    running = make(PROBLEM)
    told = [offer.evaluation for arm in PROBLEM.arms[:4] for offer in (*arm.rungs, *arm.hints)]
    running.tell(_results(told))
    assert not {evaluation.fingerprint for evaluation in _run(running)} & _results(told).keys()


@pytest.mark.parametrize("make", PLAIN)
@settings(deadline=None)
@given(known=st.sets(st.integers(0, 31)), counts=st.lists(st.integers(1, 10), min_size=1, max_size=3))
def test_what_was_known_before_changes_no_answer(make: Maker, known: set[int], counts: list[int]) -> None:
    offered = [offer.evaluation for arm in PROBLEM.arms for offer in (*arm.rungs, *arm.hints)]
    told = [offered[number] for number in sorted(known)]
    afresh, running = make(PROBLEM), make(PROBLEM)
    needed = {evaluation.fingerprint for evaluation in _run(afresh)}
    running.tell(_results(told))
    asked = {evaluation.fingerprint for evaluation in _run(running, counts)}
    assert not asked & _results(told).keys()
    assert asked <= needed
    assert running.answer() == afresh.answer()


@pytest.mark.parametrize("make", MAKERS)
def test_results_nobody_asked_for_are_ignored(make: Maker) -> None:
    running = make(PROBLEM)
    running.tell(_results([FOREIGN]))
    assert FOREIGN not in _run(running)
    assert running.answer() == make_and_run(make)


def make_and_run(make: Maker) -> object:
    running = make(PROBLEM)
    _run(running)
    return running.answer()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("problem", [PROBLEM, UNKNOWN], ids=["known elsewhere", "known nowhere"])
def test_the_answer_ranks_models_once_by_what_was_told(make: Maker, problem: Problem) -> None:
    running = make(problem)
    _run(running)
    ranking = running.answer().ranking
    models = [ranked.model for ranked in ranking]
    assert len(set(models)) == len(models)
    assert set(models) <= set(MODELS)


@pytest.mark.parametrize("make", MAKERS)
def test_the_first_of_an_answer_was_evaluated_to_the_end(make: Maker) -> None:
    running = make(PROBLEM)
    asked = {evaluation.fingerprint for evaluation in _run(running)}
    finished = [arm.model for arm in PROBLEM.arms if arm.final.fingerprint in asked]
    assert running.answer().ranking[0].model in finished


@pytest.mark.parametrize("make", PLAIN)
def test_the_first_of_an_answer_is_the_best_of_what_was_evaluated_to_the_end(make: Maker) -> None:
    running = make(PROBLEM)
    asked = {evaluation.fingerprint for evaluation in _run(running)}
    finished = [arm.final for arm in PROBLEM.arms if arm.final.fingerprint in asked]
    best = max(finished, key=lambda evaluation: _done(evaluation).utility)
    assert running.answer().ranking[0].model == best.model


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_is_ranked_before_anything_is_told(make: Maker) -> None:
    running = make(PROBLEM)
    assert running.answer().ranking == ()
    running.ask(2)
    assert running.answer().ranking == ()


@pytest.mark.parametrize("make", MAKERS)
def test_telling_twice_is_telling_once(make: Maker) -> None:
    once, twice = make(PROBLEM), make(PROBLEM)
    wanted = once.ask(3)
    assert twice.ask(3) == wanted
    once.tell(_results(wanted))
    twice.tell(_results(wanted))
    twice.tell(_results(wanted))
    assert once.answer() == twice.answer()
    assert once.ask(8) == twice.ask(8)


@pytest.mark.parametrize("make", PLAIN)
def test_a_model_that_fails_is_not_ranked_and_ends_nothing(make: Maker) -> None:
    running = make(PROBLEM)
    wanted = running.ask(20)
    first = wanted[0]
    failed = Measurement(status="failed", cost_seconds=0.0, reason="truncated")
    running.tell({**_results(wanted), first.fingerprint: failed})
    _run(running)
    ranking = running.answer().ranking
    assert first.model not in [ranked.model for ranked in ranking]
    assert bool(ranking) == (len(wanted) > 1)


@pytest.mark.parametrize("make", MAKERS)
def test_without_models_there_is_nothing_to_do(make: Maker) -> None:
    running = make(NOTHING)
    assert list(running.ask(5)) == []
    assert running.answer().ranking == ()


@pytest.mark.parametrize("make", MAKERS)
def test_equal_histories_lead_to_equal_questions(make: Maker) -> None:
    assert _run(make(PROBLEM)) == _run(make(PROBLEM))
