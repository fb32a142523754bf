from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftql.bound import BoundRanker
from shiftql.cost import Cost
from shiftql.plan import Choice, Evaluate, PlannedEvaluation, Rank, Round
from shiftql.ranking import failures, rank_chosen, rank_models
from shiftql.strategies.base import Answer, Arm, Offer, Problem, Ranked, no_history
from shiftql.strategies.retried import second_chance
from shiftql.strategies.specs import NamedStrategy
from shiftql.tables import RANKING_KEYS
from storage.evaluations import COLLAPSED, Evaluation, Measurement, Subject
from tasks.rankers.specs import find_ranker

ROWS = 100


def _evaluation(name: str, method: str = "linear") -> Evaluation:
    return Evaluation(Subject(name, name), Subject("train", "d"), Subject("test", "t"), method, "1")


def _evaluate(names: Sequence[str], baselines: Sequence[str] = (), method: str = "linear") -> Evaluate:
    planned = [PlannedEvaluation(_evaluation(name, method), Cost()) for name in names]
    planned += [PlannedEvaluation(_evaluation(name, method), Cost(), baseline=True) for name in baselines]
    return Evaluate(BoundRanker(find_ranker(method), {}), tuple(planned), None)


def _accuracy(right: int) -> Measurement:
    """The first `right` of a hundred rows are right."""
    return Measurement(
        status="completed",
        cost_seconds=1.0,
        metric="accuracy",
        value=right / ROWS,
        n_test=ROWS,
        per_row_correct=np.packbits(np.arange(ROWS) < right).tobytes(),
        layer="last",
    )


def _macro_f1(value: float, *replicates: float) -> Measurement:
    return Measurement(
        status="completed",
        cost_seconds=1.0,
        metric="macro_f1",
        value=value,
        n_test=ROWS,
        # Its rows say that all are equally accurate, which is another question.
        per_row_correct=np.packbits(np.ones(ROWS, dtype=bool)).tobytes(),
        replicates=np.array(replicates, "<f4").tobytes(),
        layer="last",
    )


def _rmse(value: float) -> Measurement:
    return Measurement(status="completed", cost_seconds=1.0, metric="rmse", value=value, higher_is_better=False)


def _failed(reason: str | None) -> Measurement:
    return Measurement(status="failed", cost_seconds=0.0, reason=reason)


def _measured(results: Mapping[str, Measurement], method: str = "linear") -> dict[str, Measurement]:
    return {_evaluation(name, method).fingerprint: measurement for name, measurement in results.items()}


def _rank(
    results: Mapping[str, Measurement],
    *,
    names: Sequence[str] | None = None,
    baselines: Sequence[str] = (),
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    descending: bool = False,
    limit: int | None = None,
) -> list[Any]:
    evaluate = _evaluate(names or list(results), baselines)
    return list(rank_models(evaluate, _measured(results), columns or {}, descending=descending, limit=limit))


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["model"] for row in rows]


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(0, ROWS), min_size=1, max_size=8))
def test_the_best_comes_first_and_equals_by_name(right: dict[str, int]) -> None:
    ranked = _rank({name: _accuracy(count) for name, count in right.items()})
    assert _names(ranked) == sorted(right, key=lambda name: (-right[name], name))
    assert [row["rank"] for row in ranked] == list(range(1, len(right) + 1))


def test_where_less_is_better_the_least_comes_first() -> None:
    assert _names(_rank({"a": _rmse(2.0), "b": _rmse(0.5), "c": _rmse(1.0)})) == ["b", "c", "a"]


def test_the_worst_comes_first_when_asked_for() -> None:
    results = {"a": _accuracy(10), "b": _accuracy(90), "c": _accuracy(50)}
    assert _names(_rank(results, descending=True)) == ["a", "c", "b"]
    assert _names(_rank(results, descending=True, limit=1)) == ["a"]


@pytest.mark.parametrize("limit", [0, 1, 2, 5])
def test_a_limit_cuts_models_and_no_baselines(limit: int) -> None:
    results = {"a": _accuracy(10), "b": _accuracy(90), "majority": _accuracy(50)}
    ranked = _rank(results, names=["a", "b"], baselines=["majority"], limit=limit)
    assert _names(ranked) == [*["b", "a"][:limit], "majority"]


def test_a_baseline_stands_beneath_without_a_rank_however_good() -> None:
    ranked = _rank({"a": _accuracy(10), "raw": _accuracy(99)}, names=["a"], baselines=["raw"])
    assert [(row["model"], row["rank"], row.get("baseline", False)) for row in ranked] == [
        ("a", 1, False),
        ("raw", None, True),
    ]


def test_what_failed_or_is_unknown_is_left_out() -> None:
    ranked = _rank({"a": _accuracy(10), "b": _failed("truncated")}, names=["a", "b", "c"])
    assert _names(ranked) == ["a"]


def test_a_row_says_how_sure_its_score_is() -> None:
    (row,) = _rank({"a": _accuracy(80)})
    assert (row["score"], row["metric"], row["higher_is_better"]) == (0.8, "accuracy", True)
    assert row["low"] == pytest.approx(0.7112, abs=1e-4)
    assert row["high"] == pytest.approx(0.8666, abs=1e-4)
    assert (row["n_test"], row["layer"]) == (ROWS, "last")


def test_what_is_no_share_has_no_interval() -> None:
    (row,) = _rank({"a": _rmse(1.0)})
    assert (row["low"], row["high"]) == (None, None)


def test_a_row_says_the_same_of_every_model_and_baseline() -> None:
    results = {"a": _accuracy(80), "b": _macro_f1(0.5, 0.4, 0.6), "c": _rmse(1.0), "raw": _accuracy(3)}
    ranked = _rank(results, names=["a", "b", "c"], baselines=["raw"])
    assert [tuple(row) for row in ranked] == [RANKING_KEYS[:-3]] * 3 + [RANKING_KEYS[:-2]]


def test_what_has_replicates_has_the_interval_between_them() -> None:
    (row,) = _rank({"a": _macro_f1(0.5, *np.linspace(0, 1, 41))})
    assert (row["low"], row["high"]) == pytest.approx((0.025, 0.975))
    assert row["n_test"] == ROWS


def test_what_has_replicates_is_tied_by_them_and_not_by_its_accuracy() -> None:
    hardness = np.linspace(0, 0.5, 41)
    ranked = _rank(
        {
            "best": _macro_f1(0.75, *(1 - hardness)),
            "near": _macro_f1(0.74, *(1 - hardness + 0.05 * np.cos(np.arange(41)))),
            "far": _macro_f1(0.70, *(0.95 - hardness)),
        }
    )
    assert [(row["model"], row["tied"]) for row in ranked] == [("best", False), ("near", True), ("far", False)]


def test_scores_of_two_metrics_are_never_tied() -> None:
    ranked = _rank({"a": _macro_f1(0.5, 0.5), "majority": _accuracy(50)}, names=["a"], baselines=["majority"])
    assert [row["tied"] for row in ranked] == [False, False]


def test_selected_columns_stand_beside_the_score() -> None:
    ranked = _rank({"a": _accuracy(1), "b": _accuracy(2)}, columns={"a": {"size": 3}, "b": {"size": None}})
    assert [row["size"] for row in ranked] == [None, 3]


def test_models_the_test_rows_cannot_tell_apart_are_tied_with_the_best() -> None:
    # On rows 90 to 93 only one is right: p = 0.125; on rows 60 to 93: p < 0.001.
    ranked = _rank({"best": _accuracy(94), "near": _accuracy(90), "far": _accuracy(60)})
    tied = {row["model"]: row["tied"] for row in ranked}
    assert tied["near"] is True
    assert tied["far"] is False


def test_ties_are_with_the_best_whatever_the_order_and_limit() -> None:
    results = {"best": _accuracy(94), "near": _accuracy(90), "far": _accuracy(60)}
    best_first = {row["model"]: row["tied"] for row in _rank(results)}
    worst_first = {row["model"]: row["tied"] for row in _rank(results, descending=True, limit=2)}
    assert worst_first == {name: best_first[name] for name in ("far", "near")}


def test_without_rows_only_equal_scores_are_tied() -> None:
    ranked = _rank({"a": _rmse(1.0), "b": _rmse(1.0), "c": _rmse(1.1)})
    assert [row["tied"] for row in ranked[1:]] == [True, False]


def test_failures_are_told_once_in_the_order_of_names() -> None:
    names = ["c", "b", "a"]
    plan = Rank(
        strategy="Enumerate",
        evaluates=(_evaluate(names), _evaluate(names, method="cosine_nn")),
        shared=None,
        train=None,
        test=None,
        descending=False,
        limit=None,
        refused=(("d", "FineTune is not available for torch models"),),
    )
    measured = _measured({"c": _failed("first"), "b": _accuracy(3)}) | _measured(
        {"c": _failed("second"), "a": _failed(None)}, "cosine_nn"
    )
    assert failures(plan, measured, partial=True) == (
        {"model": "a", "reason": "unknown"},
        {"model": "c", "reason": "first"},
        {"model": "c", "reason": "second"},
        {"model": "d", "reason": "FineTune is not available for torch models"},
    )


def test_of_two_tries_that_failed_the_first_tells_why() -> None:
    first = replace(_evaluation("a"), params={"seed": 0})
    second = second_chance(first)
    assert second is not None
    planned = tuple(PlannedEvaluation(each, Cost()) for each in (first, second))
    plan = Rank(
        "Enumerate",
        (replace(_evaluate([]), evaluations=planned),),
        None,
        None,
        None,
        descending=False,
        limit=None,
    )
    lost = {each.fingerprint: _failed(f"the loss grew to {n}") for n, each in enumerate((first, second), start=200)}
    assert failures(plan, lost, partial=False) == ({"model": "a", "reason": "the loss grew to 200"},)


def test_what_was_planned_and_has_no_result_is_a_failure_unless_the_answer_is_partial() -> None:
    plan = Rank("Enumerate", (_evaluate(["a"]),), None, None, None, descending=False, limit=None)
    (failure,) = failures(plan, {}, partial=False)
    assert failure["model"] == "a"
    assert "changed" in failure["reason"]
    assert failures(plan, {}, partial=True) == ()


def test_who_came_further_is_better_and_counts_by_the_last_round() -> None:
    in_rounds = [("a", 0, 90), ("b", 0, 80), ("c", 0, 70), ("b", 1, 60), ("a", 1, 50)]
    planned = [
        PlannedEvaluation(replace(_evaluation(name), fidelity={"rows": 10 * (number + 1)}), Cost(), round=number)
        for name, number, _ in in_rounds
    ]
    measured = {
        each.evaluation.fingerprint: _accuracy(right) for each, (*_, right) in zip(planned, in_rounds, strict=True)
    }
    rounds = (Round(3, 10, Cost()), Round(2, 20, Cost()))
    evaluate = Evaluate(BoundRanker(find_ranker("linear"), {}), tuple(planned), None, rounds)
    rows = rank_models(evaluate, measured, {}, descending=False, limit=None)
    assert [(row["model"], row["score"], row["rows"]) for row in rows] == [
        ("b", 0.6, 20),
        ("a", 0.5, 20),
        ("c", 0.7, 10),
    ]
    del measured[planned[3].evaluation.fingerprint]
    assert [row["model"] for row in rank_models(evaluate, measured, {}, descending=False, limit=None)] == [
        "a",
        "b",
        "c",
    ]
    measured[planned[3].evaluation.fingerprint] = Measurement("failed", 0.0, reason="out of memory")
    assert [row["model"] for row in rank_models(evaluate, measured, {}, descending=False, limit=None)] == ["a", "c"]


def _chosen(names: Sequence[str], evaluations: Sequence[Evaluation]) -> Evaluate:
    """What a strategy has the choice of; `a` is registered twice."""
    arms = [Arm(Subject(name, name), (Offer("finetune", _finetuning(name), 1.0),)) for name in names]
    known = {Subject(name, name): (name, "copy-of-a") if name == "a" else (name,) for name in names}
    choice = Choice(NamedStrategy("Enumerate", {}), Problem("target", arms, no_history()), known)
    planned = tuple(PlannedEvaluation(each, Cost()) for each in evaluations)
    return Evaluate(BoundRanker(find_ranker("auto"), {}), planned, None, choice=choice)


def _finetuning(name: str) -> Evaluation:
    return replace(_evaluation(name, "finetune"), params={"seed": 0})


def test_a_model_that_tells_all_rows_alike_is_marked() -> None:
    constant = replace(_accuracy(60), metrics={COLLAPSED: 1.0})
    marked, other = _rank({"a": constant, "b": _accuracy(50)})
    assert marked["collapsed"]
    assert "collapsed" not in other


def test_a_strategy_ranks_by_what_was_measured_where_it_was_and_by_its_prediction_elsewhere() -> None:
    evaluate = _chosen(["a", "b"], [_finetuning("a"), _evaluation("b")])
    answer = Answer((Ranked(Subject("b", "b"), 0.9, 0.8, 0.95), Ranked(Subject("a", "a"), 0.7, 0.6, 0.8)))
    measured = {_finetuning("a").fingerprint: _accuracy(75), _evaluation("b").fingerprint: _accuracy(20)}
    beside = {"b": {"size": 3}}
    rows = rank_chosen(evaluate, answer, measured, beside, descending=False, limit=None)
    assert [(row["rank"], row["model"], row["score"]) for row in rows] == [
        (1, "b", 0.9),
        (2, "a", 0.75),
        (3, "copy-of-a", 0.75),
    ]
    predicted, reached, _ = rows
    assert (predicted["low"], predicted["high"], predicted["n_test"], predicted["size"]) == (0.8, 0.95, None, 3)
    assert predicted["predicted"]
    assert reached["n_test"] == ROWS
    assert "predicted" not in reached
    worst_first = rank_chosen(evaluate, answer, measured, beside, descending=True, limit=2)
    assert [row["model"] for row in worst_first] == ["copy-of-a", "a"]


def test_of_two_tries_the_better_counts_and_a_collapse_that_was_made_up_for_is_no_failure() -> None:
    first = _finetuning("a")
    second = second_chance(first)
    assert second is not None
    collapsed = Measurement("failed", 1.0, metrics={COLLAPSED: 1.0}, reason="the loss is not finite")
    measured = {first.fingerprint: collapsed, second.fingerprint: _accuracy(80)}
    evaluate = _chosen(["a"], [first, second])
    answer = Answer((Ranked(Subject("a", "a"), 0.8),))
    assert rank_chosen(evaluate, answer, measured, {}, descending=False, limit=1)[0]["score"] == 0.8
    plain = replace(evaluate, choice=None)
    assert [row["score"] for row in rank_models(plain, measured, {}, descending=False, limit=None)] == [0.8]
    plan = Rank("Enumerate", (plain,), None, None, None, descending=False, limit=None)
    assert failures(plan, measured, partial=False) == ()
    measured[second.fingerprint] = collapsed
    assert [each["model"] for each in failures(plan, measured, partial=False)] == ["a"]
