"""From measurements to rankings: order, intervals, ties, baselines and failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shiftql.plan import Evaluate, Finetune, PlannedEvaluation, Rank
from shiftql.statistics import (
    SIGNIFICANCE,
    bootstrap_interval,
    bootstrap_tied,
    mcnemar_p_value,
    wilson_interval,
)
from shiftql.strategies.base import Answer, Ranked
from shiftql.strategies.retried import run_of
from storage.evaluations import Measurement, Subject


def rank_models(
    evaluate: Evaluate,
    measured: Mapping[str, Measurement],
    columns: Mapping[str, Mapping[str, Any]],
    *,
    descending: bool,
    limit: int | None,
) -> tuple[dict[str, Any], ...]:
    """The rows of one ranker's ranking, best first (worst first when `descending`), baselines at the end.

    `measured` is by fingerprint; what is not in it or failed is left out. `columns` are the selected columns
    by model name. Of a model that was halved the last round counts, and who came further is better; `rows` tells
    how many training rows that was. Of two tries
    the better counts. Equal scores are in the order of the names. A model is `tied` when the test rows
    cannot tell it from the first of the best at the 5 % level: by McNemar's test where the score is an accuracy, by
    the paired bootstrap where it has replicates, and otherwise only when both scores are equal.
    """
    outcomes = [
        (planned, measurement)
        for planned in evaluate.evaluations
        if (measurement := measured.get(planned.evaluation.fingerprint))
    ]
    outcomes.sort(key=lambda row: (row[0].round, row[1].utility))
    last = {planned.evaluation.model.name: (planned, measurement) for planned, measurement in outcomes}
    scored = [(planned, measurement) for planned, measurement in last.values() if measurement.status == "completed"]
    scored.sort(key=lambda row: (-row[0].round, -row[1].utility, row[0].evaluation.model.name))
    models = [(planned, measurement) for planned, measurement in scored if not planned.baseline]
    best = models[0] if models else None
    ordered = models[::-1] if descending else models
    rows = [
        {
            "rank": rank,
            "model": planned.evaluation.model.name,
            **_figures(measurement, None if (planned, measurement) == best else _rival(best, planned)),
            **({"rows": evaluate.rounds[planned.round].rows} if evaluate.rounds else {}),
            **columns.get(planned.evaluation.model.name, {}),
        }
        for rank, (planned, measurement) in enumerate(ordered[:limit], start=1)
    ]
    baselines = [
        {
            "rank": None,
            "model": planned.evaluation.model.name,
            **_figures(measurement, best and best[1]),
            "baseline": True,
        }
        for planned, measurement in scored
        if planned.baseline
    ]
    return (*rows, *baselines)


def rank_chosen(
    evaluate: Evaluate,
    answer: Answer,
    measured: Mapping[str, Measurement],
    columns: Mapping[str, Mapping[str, Any]],
    *,
    descending: bool,
    limit: int | None,
) -> tuple[dict[str, Any], ...]:
    """The rows of the ranking that a strategy answers with, in its order.

    A model that was evaluated fully has the score and 95 % interval of that. Of any other they are what it is
    `predicted` to reach and the 90 % interval of that, or what it showed after the `epochs` that it was trained for.
    """
    assert evaluate.choice is not None
    method = evaluate.choice.problem.arms[0].final.method if evaluate.choice.problem.arms else None
    full: dict[Subject, Measurement] = {}
    begun: dict[Subject, tuple[int, Measurement]] = {}
    for planned in evaluate.evaluations:
        evaluation = planned.evaluation
        outcome = measured.get(evaluation.fingerprint)
        if outcome is None or outcome.status != "completed" or evaluation.method != method:
            continue
        if not evaluation.fidelity:
            full[evaluation.model] = max(outcome, full.get(evaluation.model, outcome), key=lambda each: each.utility)
        else:
            rung = evaluation.fidelity["epochs"], outcome
            begun[evaluation.model] = max(
                rung, begun.get(evaluation.model, rung), key=lambda each: (each[0], each[1].utility)
            )
    first = answer.ranking[0] if answer.ranking else None
    best = full.get(first.model) if first else None

    def shown(ranked: Ranked) -> dict[str, Any]:
        if ranked.model in full:
            return _figures(full[ranked.model], None if ranked is first else best)
        if ranked.low is None and ranked.model in begun:
            epochs, measurement = begun[ranked.model]
            return {**_figures(measurement, None), "epochs": epochs}
        return _predicted(ranked)

    chosen = [
        (name, figures)
        for ranked in answer.ranking
        for figures in [shown(ranked)]
        for name in evaluate.choice.names[ranked.model]
    ]
    ordered = chosen[::-1] if descending else chosen
    return tuple(
        {"rank": rank, "model": name, **figures, **columns.get(name, {})}
        for rank, (name, figures) in enumerate(ordered[:limit], start=1)
    )


def _predicted(ranked: Ranked) -> dict[str, Any]:
    return {
        "score": ranked.utility,
        "metric": "accuracy",
        "higher_is_better": True,
        "low": ranked.low,
        "high": ranked.high,
        "tied": False,
        "n_test": None,
        "layer": None,
        "predicted": True,
    }


# What tells trainings apart that people compare.
_TOLD = ("lr", "epochs")


def rank_finetuned(plan: Finetune, measured: Mapping[str, Measurement]) -> tuple[dict[str, Any], ...]:
    """The rows of a ranking by validation: each model with each combination of arguments, of two tries the better.

    A row has the learning rate, the epochs and all other arguments that are not the same in all of them.
    """
    best: dict[tuple[str, int], tuple[PlannedEvaluation, Measurement]] = {}
    for number, evaluate in enumerate(plan.evaluates):
        for planned in evaluate.evaluations:
            outcome = measured.get(planned.evaluation.fingerprint)
            if outcome is not None and outcome.status == "completed":
                place = planned.evaluation.model.name, number
                _, so_far = best.get(place, (None, None))
                if so_far is None or outcome.utility > so_far.utility:
                    best[place] = planned, outcome
    ranked = sorted(best.values(), key=lambda row: (-row[1].utility, row[0].evaluation.model.name))
    params = [planned.evaluation.params for planned, _ in ranked]
    names = dict.fromkeys(name for each in params for name in each)
    shown = [name for name in names if name in _TOLD or len({repr(each.get(name)) for each in params}) > 1]
    return tuple(
        {
            "rank": rank,
            "model": planned.evaluation.model.name,
            **_figures(outcome, None if rank == 1 else ranked[0][1]),
            **{name: planned.evaluation.params.get(name) for name in shown},
        }
        for rank, (planned, outcome) in enumerate(ranked, start=1)
    )


_GONE = "its files or the dataset's changed, or its result was purged, while the query ran; ask again"


def failures(
    plan: Rank | Finetune, measured: Mapping[str, Measurement], *, partial: bool
) -> tuple[dict[str, str], ...]:
    """Models that could not be evaluated, each once with each of its reasons, in the order of their names.

    Of two tries the first tells why. In a `partial` answer those that were not reached are no failures.
    """
    reasons = set(plan.refused)
    for evaluate in plan.evaluates:
        completed = {
            run_of(planned.evaluation)
            for planned in evaluate.evaluations
            if (outcome := measured.get(planned.evaluation.fingerprint)) and outcome.status == "completed"
        }
        names = {} if evaluate.choice is None else evaluate.choice.names
        failed = set[tuple[Subject, str, str]]()
        for planned in evaluate.evaluations:
            measurement = measured.get(planned.evaluation.fingerprint)
            model = planned.evaluation.model
            if measurement is None:
                # What a strategy wants next may be known elsewhere by now, and is no failure.
                if not partial and evaluate.choice is None:
                    reasons.add((model.name, _GONE))
                continue
            # A run that collapsed may have done well on its other try.
            run = run_of(planned.evaluation)
            is_made_up_for = measurement.collapsed and run in completed
            if measurement.status == "failed" and not is_made_up_for and run not in failed:
                failed.add(run)
                reasons |= {(name, measurement.reason or "unknown") for name in names.get(model, (model.name,))}
    return tuple({"model": name, "reason": reason} for name, reason in sorted(reasons))


def _rival(best: tuple[PlannedEvaluation, Measurement] | None, planned: PlannedEvaluation) -> Measurement | None:
    """What a model is compared with: the best, if both were trained on as many rows."""
    return best[1] if best and best[0].round == planned.round else None


def _figures(measurement: Measurement, best: Measurement | None) -> dict[str, Any]:
    low, high = _interval(measurement)
    return {
        "score": measurement.value,
        "metric": measurement.metric,
        "higher_is_better": measurement.higher_is_better,
        "low": low,
        "high": high,
        "tied": best is not None and _tied(best, measurement),
        "n_test": measurement.n_test,
        "layer": measurement.layer,
        **({"collapsed": True} if measurement.collapsed else {}),
    }


def _interval(measurement: Measurement) -> tuple[float, float] | tuple[None, None]:
    if measurement.value is None:
        return None, None
    if measurement.metric == "accuracy" and measurement.n_test:
        return wilson_interval(measurement.value, measurement.n_test)
    if measurement.replicates:
        return bootstrap_interval(measurement.value, measurement.replicates)
    return None, None


def _tied(best: Measurement, other: Measurement) -> bool:
    if best.metric != other.metric:
        return False
    if best.metric == "accuracy" and best.per_row_correct and other.per_row_correct:
        return mcnemar_p_value(best.per_row_correct, other.per_row_correct) >= SIGNIFICANCE
    if best.replicates and other.replicates:
        return bootstrap_tied(best.replicates, other.replicates)
    return best.value == other.value
