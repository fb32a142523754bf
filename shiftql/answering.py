"""Answers from the stores: the rows of a question, or the rankings its recorded evaluations make."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from shiftql.answers import Answer, FinetuneAnswer, RankingAnswer, RowsAnswer
from shiftql.bound import (
    BoundAverage,
    BoundDistances,
    BoundFinetune,
    BoundQuery,
    BoundRanking,
    Lookup,
    Question,
    Ranked,
    nothing_known,
)
from shiftql.catalog_ranking import rank_by_catalog
from shiftql.history import FULL
from shiftql.keeping import describe_kept, find_kept
from shiftql.plan import Distances, Finetune, PlannedEvaluation, PlanNode, Query, Rank
from shiftql.preparation import prepare
from shiftql.ranking import failures, rank_chosen, rank_finetuned, rank_models
from storage.checkpoints import CheckpointStore, training_key
from storage.database import Database
from storage.errors import EvaluationError
from storage.evaluations import Measurement
from storage.results import ResultStore
from storage.settings import current_settings


def look_up(database: Database, attempted: Collection[str] | None = frozenset()) -> Lookup:
    """What is known of rankings.

    One whose unknown evaluations were all `attempted` (None: every one was) is known as far as it got.
    """

    def known(question: BoundRanking | BoundDistances) -> Ranked:
        plan = prepare(question, database, attempted)
        fingerprints = {evaluation.fingerprint for evaluation in plan.new_evaluations}
        if attempted is not None and not fingerprints <= set(attempted):
            return nothing_known(question)
        if isinstance(question, BoundDistances):
            assert isinstance(plan, Distances)
            ids = {dataset.name: dataset.dataset_id or 0 for dataset in question.datasets}
            nearest = measure_distances(question, plan, database)[: question.limit]
            return Ranked(
                tuple((ids[name], rank, distance) for rank, (name, distance) in enumerate(nearest, start=1)),
                is_known=True,
            )
        assert isinstance(plan, Rank)
        numbers = {model.name: model.model_id or 0 for model in question.models}
        ranking = answer_ranking(question, plan, database, {}).ranking
        rows = [(numbers[row["model"]], row["rank"], row["score"]) for row in ranking if row["rank"] is not None]
        return Ranked(tuple(rows), is_known=True)

    return known


def answer(
    question: Question, plan: PlanNode, database: Database, work: Mapping[str, Any], *, partial: bool = False
) -> Answer:
    """The answer to a question by what is recorded."""
    match question:
        case BoundRanking():
            assert isinstance(plan, Rank)
            return answer_ranking(question, plan, database, work, partial=partial)
        case BoundFinetune():
            assert isinstance(plan, Finetune)
            return answer_finetuning(question, plan, database, work, partial=partial)
        case BoundAverage():
            return answer_average(question, database)
        case BoundDistances():
            assert isinstance(plan, Distances)
            return answer_distances(question, plan, database)
        case _:
            assert isinstance(question, BoundQuery)
            return replace(answer_rows(question, database), failed=_not_embedded(plan, database))


def answer_distances(question: BoundDistances, plan: Distances, database: Database) -> RowsAnswer:
    """Datasets by their Task2Vec distance, with the columns that were selected. Raises what failed the target."""
    projection = question.projection
    with database.session() as session:
        found = session.connection().execute(
            projection.select_columns([question.dataset_id, *projection.columns.values()])
        )
        selected: dict[int, dict[str, Any]] = {}
        for number, *values in found:
            selected.setdefault(number, dict(zip(question.columns, map(_plain, values), strict=True)))
    numbers = {dataset.name: dataset.dataset_id or 0 for dataset in question.datasets}
    rows = [
        {**selected[numbers[name]], "distance": distance, "probe": question.probe.name}
        for name, distance in measure_distances(question, plan, database)
    ]
    left_out = tuple({"dataset": name, "reason": reason} for name, reason in question.left_out)
    return RowsAnswer(
        statement=question.text,
        seconds=0.0,
        columns=(*question.columns, "distance", "probe"),
        rows=tuple(rows[: question.limit]),
        failed=(*_not_embedded(plan, database), *left_out),
    )


def measure_distances(question: BoundDistances, plan: Distances, database: Database) -> list[tuple[str, float]]:
    """The names of the datasets that are embedded with their distances, in the order asked for.

    Empty while the dataset they are compared with is not embedded. Raises EvaluationError when that failed.
    """
    from shiftql.distance import transfer_distance

    evaluations = [plan.target, *(evaluation for _, evaluation in plan.others)]
    measured = ResultStore(database).outcomes(evaluation.fingerprint for evaluation in evaluations)
    target = measured.get(plan.target.fingerprint)
    if target is None:
        return []
    if target.vector is None:
        raise EvaluationError(
            f"{plan.target.train.name} cannot be embedded by {plan.target.model.name}: {target.reason}",
            subject=plan.target.train.name,
            fix="name another probe: Task2Vec(probe='…')",
        )
    distances = [
        (
            name,
            transfer_distance(_vector(other.vector), _vector(target.vector), question.ranker.params.get("alpha", 0.0)),
        )
        for name, evaluation in plan.others
        if (other := measured.get(evaluation.fingerprint)) is not None and other.vector is not None
    ]
    return sorted(distances, key=lambda each: ((-1 if question.descending else 1) * each[1], each[0]))


def _not_embedded(plan: PlanNode, database: Database) -> tuple[dict[str, str], ...]:
    """Datasets that could not be embedded, with the reason."""
    if not isinstance(plan, Query | Distances):
        return ()
    evaluations = [planned.evaluation for evaluate in plan.evaluates for planned in evaluate.evaluations]
    measured = ResultStore(database).outcomes(evaluation.fingerprint for evaluation in evaluations)
    return tuple(
        {"dataset": evaluation.train.name, "reason": measured[evaluation.fingerprint].reason or "unknown"}
        for evaluation in evaluations
        if evaluation.fingerprint in measured and measured[evaluation.fingerprint].status == "failed"
    )


def _vector(stored: bytes) -> list[float]:
    """The numbers of a stored vector."""
    return list(struct.unpack(f"<{len(stored) // 4}f", stored))


def answer_rows(question: BoundQuery, database: Database) -> RowsAnswer:
    """Run a question in the database."""
    with database.session() as session:
        found = session.connection().execute(question.projection.select)
        rows = [dict(zip(question.columns, map(_plain, row), strict=True)) for row in found]
    return RowsAnswer(statement=question.text, seconds=0.0, columns=question.columns, rows=tuple(rows))


def answer_average(question: BoundAverage, database: Database) -> RankingAnswer:
    """Rank models by a statistic of their recorded results; those measured on too few datasets are left out."""
    projection = question.projection
    figures = [projection.hidden[label] for label in ("name", "score", "n_datasets")]
    shown = {} if question.shows_all else projection.columns
    with database.session() as session:
        found = session.connection().execute(projection.select_columns([*figures, *shown.values()]))
        rows = [
            {
                "rank": rank,
                "model": name,
                "score": score,
                "metric": f"{question.function}({question.metric})",
                "higher_is_better": question.higher_is_better,
                "low": None,
                "high": None,
                "tied": False,
                "n_test": None,
                "layer": None,
                "n_datasets": number,
                **dict(zip(shown, map(_plain, values), strict=True)),
            }
            for rank, (name, score, number, *values) in enumerate(found, start=1)
        ]
        left_out = session.connection().execute(question.incomplete).all()
    best = rows[0]["score"] if rows else None
    label = f"{question.function.upper()}({question.metric}) of {question.method}"
    return RankingAnswer(
        statement=question.text,
        seconds=0.0,
        rankings={label: tuple({**row, "tied": row["rank"] != 1 and row["score"] == best} for row in rows)},
        failed=tuple(
            {"model": str(name), "reason": f"measured on {number} of the {len(question.datasets)} datasets of the set"}
            for name, number in left_out
        ),
        reused=len(rows),
    )


def answer_ranking(
    question: BoundRanking, plan: Rank, database: Database, work: Mapping[str, Any], *, partial: bool = False
) -> RankingAnswer:
    """The rankings of a plan by what is recorded. `work` says what the flow did; empty when there was none."""
    evaluations = [planned for evaluate in plan.evaluates for planned in evaluate.evaluations]
    measured = ResultStore(database).outcomes(planned.evaluation.fingerprint for planned in evaluations)
    beside = {
        name: {label: _plain(value) for label, value in values.items()} for name, values in question.beside.items()
    }
    rankings, chance = {}, None
    shown: dict[str, Any] = {"descending": plan.descending, "limit": plan.limit}
    for evaluate in plan.evaluates:
        label = evaluate.ranker.label
        if evaluate.choice is not None:
            chosen = evaluate.choice.after(measured).answer()
            rankings[label] = rank_chosen(evaluate, chosen, measured, beside, **shown)
            # Where everything is measured nothing is left to chance.
            is_open = any(row.get("predicted") for row in rankings[label])
            chance = chosen.chance if is_open and chance is None else chance
        elif evaluate.ranker.spec.kind == "catalog":
            rankings[label] = rank_by_catalog(evaluate.ranker, question.models, beside, **shown)
        else:
            rankings[label] = rank_models(evaluate, measured, beside, **shown)
    return RankingAnswer(
        statement=question.text,
        seconds=0.0,
        rankings=rankings,
        failed=failures(plan, measured, partial=partial),
        partial=partial or plan.is_cut,
        begun=_begun(evaluations, measured) if partial else (),
        # Of the worst first it would say nothing.
        chance=None if plan.descending else chance,
        **_figures(evaluations, measured, work),
    )


def answer_finetuning(
    question: BoundFinetune, plan: Finetune, database: Database, work: Mapping[str, Any], *, partial: bool = False
) -> FinetuneAnswer:
    """Fine-tuned models by what is recorded, and what is kept of them."""
    evaluations = [planned for evaluate in plan.evaluates for planned in evaluate.evaluations]
    measured = ResultStore(database).outcomes(planned.evaluation.fingerprint for planned in evaluations)
    kept = find_kept(question, database)
    return FinetuneAnswer(
        statement=question.text,
        seconds=0.0,
        rankings={question.spec.label: rank_finetuned(plan, measured)},
        failed=failures(plan, measured, partial=partial),
        partial=partial or plan.is_cut,
        begun=_begun(evaluations, measured) if partial else (),
        kept=None if kept is None else describe_kept(kept),
        **_figures(evaluations, measured, work),
    )


def _begun(evaluations: Sequence[PlannedEvaluation], measured: Mapping[str, Measurement]) -> tuple[dict[str, Any], ...]:
    """What is known of trainings none of whose rungs is measured, best first."""
    trainings = {
        training_key(each.evaluation): each.evaluation for each in evaluations if each.evaluation.method == FULL
    }
    reached = {training_key(each.evaluation) for each in evaluations if each.evaluation.fingerprint in measured}
    checkpoints = CheckpointStore(current_settings())
    begun: list[tuple[float, dict[str, Any]]] = []
    for key in trainings.keys() - reached:
        epochs, noted, evaluation = checkpoints.epochs(key), checkpoints.noted(key), trainings[key]
        if not epochs or noted is None:
            continue
        sign = 1 if noted.get("higher_is_better", True) else -1
        best = max(sign * value for value in noted["curve"][:epochs])
        told = {"model": evaluation.model.name, "lr": evaluation.params["lr"], "epochs": epochs}
        figures = {"of": evaluation.params["epochs"], "score": sign * best, "metric": noted["metric"]}
        begun.append((-best, {**told, **figures}))
    return tuple(told for _, told in sorted(begun, key=lambda each: (each[0], each[1]["model"])))


def _figures(
    evaluations: Sequence[PlannedEvaluation], measured: Mapping[str, Measurement], work: Mapping[str, Any]
) -> dict[str, Any]:
    """How many of the evaluations were computed for an answer and how many were known, and the flow's other work."""
    computed = set(work.get("computed", ()))
    counted = [planned for planned in evaluations if not planned.baseline]
    return {
        "evaluated": sum(planned.evaluation.fingerprint in computed for planned in counted),
        "reused": sum(
            planned.evaluation.fingerprint in measured and planned.evaluation.fingerprint not in computed
            for planned in counted
        ),
        "work": {
            "embedded_rows": work.get("embedded_rows", 0),
            "reused_rows": work.get("reused_rows", 0),
            "flow_run_id": work.get("flow_run_id"),
        },
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _vector(value)
    return value.isoformat() if isinstance(value, datetime) else value
