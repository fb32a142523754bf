"""A budget of evaluation seconds or epochs: what it leaves out, and that what is known counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shiftql.plan import Rank
from shiftql.rules import optimize
from shiftql.rules.keep_within_budget import keep_within_budget
from shiftql.rules.knowledge import Knowledge
from shiftql.strategies.retried import second_chance

Draft = Callable[[str], Any]
QUESTION = "SELECT * FROM models ORDER BY Linear TRAINED ON reviews-train TESTED ON reviews-test"


def _models(plan: Rank) -> list[str]:
    """Those that are evaluated, baselines apart."""
    (evaluate,) = plan.evaluates
    return [planned.evaluation.model.name for planned in evaluate.evaluations if not planned.baseline]


def _left_out(plan: Rank) -> int:
    return sum(evaluate.left_out for evaluate in plan.evaluates)


def _prices(plan: Rank) -> dict[str, float]:
    """What each model costs alone."""
    budgets = [each / 100 for each in range(1, 100_000)]
    return {name: next(each for each in budgets if name in _models(_cut(plan, each))) for name in _models(plan)}


def _cut(plan: Rank, seconds: float, **known: Any) -> Rank:
    return keep_within_budget(replace(plan, budget=seconds), Knowledge(**known))


def test_without_a_budget_nothing_is_left_out(draft: Draft) -> None:
    plan = draft(QUESTION)
    assert keep_within_budget(plan, Knowledge()) == plan


def test_the_cheapest_are_kept_and_the_rest_is_counted(draft: Draft) -> None:
    plan = draft(QUESTION)
    prices = _prices(plan)
    cheap, dear = sorted(prices, key=lambda name: prices[name])
    between = _cut(plan, (prices[cheap] + prices[dear]) / 2)
    assert _models(between) == [cheap]
    assert _left_out(between) == 1
    assert between.is_cut
    enough = _cut(plan, prices[cheap] + prices[dear])
    assert sorted(_models(enough)) == sorted(prices)
    assert not enough.is_cut


def test_baselines_stay_whatever_the_budget(draft: Draft) -> None:
    (evaluate,) = _cut(draft(QUESTION), 1e-6).evaluates
    assert {planned.evaluation.model.name for planned in evaluate.evaluations} == {"raw", "majority"}


@pytest.mark.parametrize(("spent", "kept"), [(0.0, True), (1e6, False)])
def test_what_is_known_is_kept_and_counts_at_what_it_took(draft: Draft, spent: float, kept: bool) -> None:
    plan = draft(QUESTION)
    first, second = _models(plan)
    (evaluate,) = plan.evaluates
    known = frozenset(
        planned.evaluation.fingerprint for planned in evaluate.evaluations if planned.evaluation.model.name == first
    )
    question = replace(plan, budget=1e5)
    after = optimize(question, Knowledge(known, spent=dict.fromkeys(known, spent)))
    assert isinstance(after, Rank)
    assert first in _models(after)
    assert (second in _models(after)) is kept


@pytest.mark.parametrize(("epochs", "known", "kept"), [(9, 0, 1), (10, 0, 2), (10, 1, 1), (15, 1, 2)])
def test_epochs_pay_for_whole_trainings_and_known_ones_count(draft: Draft, epochs: int, known: int, kept: int) -> None:
    plan = draft("FINETUNE bert-old WITH reviews-train (lr=[0.1, 0.01, 0.001], epochs=5)")
    fingerprints = [each.evaluations[0].evaluation.fingerprint for each in plan.evaluates]
    after = optimize(replace(plan, epochs=epochs), Knowledge(frozenset(fingerprints[:known])))
    assert len(after.new_evaluations) == kept
    assert after.is_cut is (known + kept < 3)


def test_a_second_try_comes_on_top_of_a_budget_of_epochs(draft: Draft) -> None:
    plan = draft("FINETUNE bert-old WITH reviews-train (epochs=5)")
    (evaluate,) = plan.evaluates
    (first,) = evaluate.evaluations
    again = second_chance(first.evaluation)
    assert again is not None
    tried = replace(evaluate, evaluations=(replace(first, known=True), replace(first, evaluation=again)))
    after = keep_within_budget(replace(plan, evaluates=(tried,), epochs=5), Knowledge())
    assert after.new_evaluations == (again,)


def test_nothing_is_embedded_for_what_is_left_out(draft: Draft) -> None:
    after = optimize(replace(draft(QUESTION), budget=1e-6), Knowledge())
    assert {embedding.model.name for embedding in after.all_embeddings} <= {"raw"}
    assert optimize(after, Knowledge()) == after
