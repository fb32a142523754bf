"""A collapsed run is retried once before its model is blamed."""

from __future__ import annotations

from shiftql.strategies.batch import Batch
from shiftql.strategies.retried import Retried, second_chance
from storage.evaluations import COLLAPSED, Evaluation, Measurement, Subject

TARGET = Subject("target", "d")


def _finetune(name: str) -> Evaluation:
    return Evaluation(Subject(name, name), TARGET, None, "finetune", "1", {"seed": 0})


GOOD, BAD = _finetune("good"), _finetune("bad")
RETRY = second_chance(BAD)
assert RETRY is not None


def _reached(value: float, *, collapsed: bool = False) -> Measurement:
    return Measurement("completed", 1.0, "accuracy", value, metrics={COLLAPSED: 1.0} if collapsed else {})


def _retried() -> Retried:
    return Retried(Batch([GOOD, BAD]), [GOOD, BAD])


def _ranking(strategy: Retried) -> list[tuple[str, float]]:
    return [(each.model.name, each.utility) for each in strategy.answer().ranking]


def test_a_collapsed_run_is_asked_for_once_more_on_another_seed() -> None:
    strategy = _retried()
    assert list(strategy.ask(9)) == [GOOD, BAD]
    strategy.tell({GOOD.fingerprint: _reached(0.8), BAD.fingerprint: _reached(0.1, collapsed=True)})
    assert _ranking(strategy) == [("good", 0.8)]
    assert list(strategy.ask(9)) == [RETRY]
    assert list(strategy.ask(9)) == []
    strategy.tell({RETRY.fingerprint: _reached(0.9)})
    assert _ranking(strategy) == [("bad", 0.9), ("good", 0.8)]


def test_a_model_whose_retry_collapses_too_is_blamed() -> None:
    strategy = _retried()
    strategy.tell({BAD.fingerprint: _reached(0.1, collapsed=True)})
    strategy.tell({RETRY.fingerprint: _reached(0.05, collapsed=True)})
    assert list(strategy.ask(9)) == [GOOD]
    assert _ranking(strategy) == [("bad", 0.1)]


def test_a_retry_that_is_known_already_is_not_asked_for() -> None:
    results = {RETRY.fingerprint: _reached(0.9), BAD.fingerprint: _reached(0.1, collapsed=True)}
    for told in (results, dict(reversed(results.items()))):
        strategy = _retried()
        strategy.tell(told)
        assert list(strategy.ask(9)) == [GOOD]
        assert _ranking(strategy) == [("bad", 0.9)]


def test_a_loss_that_was_not_finite_is_made_up_for_by_the_retry() -> None:
    strategy = _retried()
    strategy.tell({BAD.fingerprint: Measurement("failed", 1.0, metrics={COLLAPSED: 1.0}, reason="not finite")})
    strategy.tell({RETRY.fingerprint: _reached(0.7)})
    assert _ranking(strategy) == [("bad", 0.7)]


def test_what_has_no_seed_is_told_as_it_is() -> None:
    evaluation = Evaluation(Subject("m", "m"), TARGET, None, "linear", "1")
    strategy = Retried(Batch([evaluation]), [evaluation])
    strategy.tell({evaluation.fingerprint: _reached(0.1, collapsed=True)})
    assert list(strategy.ask(9)) == []
    assert _ranking(strategy) == [("m", 0.1)]
