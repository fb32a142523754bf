"""What SHOW lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select as SqlSelect
from sqlalchemy import select
from sqlmodel import col

from shiftql import ast
from shiftql.answers import RowsAnswer
from shiftql.places import Places
from shiftql.vocabulary import SHOWN
from shiftql.watching import WATCH_COLUMNS, watch_rows
from storage.catalog import DatasetRecord, ModelRecord, is_local
from storage.database import Database
from storage.results import EvaluationRecord
from tasks.rankers.specs import all_rankers

_LATEST_RUNS = 50


def _models() -> SqlSelect[Any]:
    model = ModelRecord
    return select(
        col(model.name),
        col(model.source),
        col(model.modality),
        col(model.architecture),
        col(model.num_params),
        col(model.upstream_dataset),
        col(model.upstream_accuracy),
        col(model.handle),
        col(model.path),
    ).order_by(col(model.name))


def _datasets() -> SqlSelect[Any]:
    dataset = DatasetRecord
    return select(
        col(dataset.name),
        col(dataset.modality),
        col(dataset.task),
        col(dataset.type),
        col(dataset.num_rows),
        col(dataset.num_classes),
    ).order_by(col(dataset.name))


def _runs() -> SqlSelect[Any]:
    run = EvaluationRecord
    return (
        select(
            col(run.recorded),
            col(run.method),
            col(run.model_name).label("model"),
            col(run.train_name).label("dataset"),
            col(run.status),
            col(run.metric),
            col(run.value),
            col(run.cost_seconds),
            col(run.reason),
        )
        .where(col(run.status) != "claimed")
        .order_by(col(run.recorded).desc(), col(run.fingerprint))
        .limit(_LATEST_RUNS)
    )


_QUERIES: Mapping[str, Callable[[], SqlSelect[Any]]] = {"MODELS": _models, "DATASETS": _datasets, "RUNS": _runs}


def show(statement: ast.Show, text: str, database: Database) -> RowsAnswer:
    """The answer to a SHOW. Raises BindingError where it names nothing that can be shown."""
    columns, rows = _rows_of(Places(text).one_of(SHOWN, statement.what, statement), database)
    return RowsAnswer(statement=statement.text, seconds=0.0, columns=columns, rows=tuple(rows))


def _rows_of(what: str, database: Database) -> tuple[tuple[str, ...], Sequence[Mapping[str, Any]]]:
    """Columns and rows of one of the things that vocabulary.SHOWN lists."""
    if what == "RANKERS":
        return _rankers()
    if what == "WATCHES":
        return WATCH_COLUMNS, watch_rows(database)
    with database.session() as session:
        found = session.connection().execute(_QUERIES[what]())
        columns = tuple(found.keys())
        rows = [dict(zip(columns, row, strict=True)) for row in found]
    if what == "MODELS":
        columns = (*columns[:-1], "is_local")
        rows = [{**row, "is_local": is_local(row["handle"], row.pop("path"))} for row in rows]
    for row in rows:
        if "recorded" in row:
            row["recorded"] = datetime.fromtimestamp(row["recorded"], UTC).isoformat(timespec="seconds")
    return columns, rows


def _rankers() -> tuple[tuple[str, ...], Sequence[Mapping[str, Any]]]:
    rows = [
        {
            "ranker": spec.label,
            "arguments": ", ".join(
                argument.name if argument.default is None else f"{argument.name}={argument.default}"
                for argument in spec.arguments
            ),
            "tasks": ", ".join(sorted(spec.tasks)),
            "needs_test": spec.needs_test,
            "says": spec.summary,
        }
        for spec in all_rankers()
    ]
    return tuple(rows[0]), rows
