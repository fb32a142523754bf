"""Answers from the stores: the rows of a question, or the rankings its recorded evaluations make."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shiftql.answers import RankingAnswer, RowsAnswer
from shiftql.binder import BoundRanking, BoundRows
from shiftql.plan import Rank
from shiftql.ranking import failures, rank_models
from storage.database import Database
from storage.results import ResultStore


def answer_rows(question: BoundRows, database: Database) -> RowsAnswer:
    """Run a question in the database."""
    with database.session() as session:
        found = session.connection().execute(question.select)
        rows = [dict(zip(question.columns, map(_plain, row), strict=True)) for row in found]
    return RowsAnswer(statement=question.text, seconds=0.0, columns=question.columns, rows=tuple(rows))


def answer_ranking(
    question: BoundRanking, plan: Rank, database: Database, work: Mapping[str, Any], *, partial: bool = False
) -> RankingAnswer:
    """The rankings of a plan by what is recorded. `work` says what the flow did; empty when there was none."""
    evaluations = [planned for evaluate in plan.evaluates for planned in evaluate.evaluations]
    measured = ResultStore(database).outcomes(planned.evaluation.fingerprint for planned in evaluations)
    columns = {
        model.name: {label: _plain(getattr(model, column)) for label, column in question.columns}
        for model in question.models
    }
    rankings = {
        evaluate.ranker.label: rank_models(evaluate, measured, columns, descending=plan.descending, limit=plan.limit)
        for evaluate in plan.evaluates
    }
    computed = set(work.get("computed", ()))
    counted = [planned for planned in evaluations if not planned.baseline]
    evaluated = sum(planned.evaluation.fingerprint in computed for planned in counted)
    reused = sum(
        planned.evaluation.fingerprint in measured and planned.evaluation.fingerprint not in computed
        for planned in counted
    )
    return RankingAnswer(
        statement=question.text,
        seconds=0.0,
        rankings=rankings,
        failed=failures(plan, measured, partial=partial),
        evaluated=evaluated,
        reused=reused,
        partial=partial,
        work={
            "embedded_rows": work.get("embedded_rows", 0),
            "reused_rows": work.get("reused_rows", 0),
            "flow_run_id": work.get("flow_run_id"),
        },
    )


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
