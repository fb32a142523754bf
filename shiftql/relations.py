"""The relations a query may select from, and their columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, case, literal_column, null
from sqlalchemy import select as sql_select
from sqlmodel import col

from storage.catalog import DatasetRecord, ModelRecord
from storage.results import EvaluationRecord


@dataclass(frozen=True)
class Relation:
    """One row per `row`. `columns` are what `*` shows, in order; `aliases` are further names of columns."""

    name: str
    row: str
    table: FromClause
    columns: Mapping[str, ColumnElement[Any]]
    aliases: Mapping[str, str]
    order: str
    condition: ColumnElement[bool] | None = None


_MODEL_COLUMNS = (
    "model_id",
    "name",
    "source",
    "modality",
    "architecture",
    "num_params",
    "size_bytes",
    "embedding_dim",
    "image_size",
    "token_length",
    "upstream_dataset",
    "upstream_accuracy",
    "date_added",
    "licence",
    "tags",
    "finetuned",
    "trusted",
    "fingerprint",
)
_MODEL_ALIASES = {"input": "modality", "params": "num_params", "up_acc": "upstream_accuracy", "model": "name"}
_DATASET_COLUMNS = (
    "dataset_id",
    "name",
    "modality",
    "task",
    "type",
    "num_rows",
    "num_classes",
    "fingerprint",
    "date_added",
)


def _models(name: str, row: str, modality: str | None = None) -> Relation:
    table = ModelRecord.__table__  # type: ignore[attr-defined]
    return Relation(
        name=name,
        row=row,
        table=table,
        columns={column: table.c[column] for column in _MODEL_COLUMNS},
        aliases=_MODEL_ALIASES,
        order="name",
        condition=None if modality is None else col(ModelRecord.modality) == modality,
    )


def _datasets() -> Relation:
    table = DatasetRecord.__table__  # type: ignore[attr-defined]
    return Relation(
        name="datasets",
        row="registered dataset split",
        table=table,
        columns={column: table.c[column] for column in _DATASET_COLUMNS},
        aliases={"data_reader_id": "dataset_id", "reader_id": "dataset_id", "input": "modality"},
        order="name",
    )


def _benchmark_results() -> Relation:
    measured = EvaluationRecord.__table__  # type: ignore[attr-defined]
    model = ModelRecord.__table__  # type: ignore[attr-defined]
    dataset = DatasetRecord.__table__  # type: ignore[attr-defined]
    accuracy = case((measured.c.metric == "accuracy", measured.c.value), else_=null())
    view = (
        sql_select(
            model.c.model_id,
            measured.c.model_name,
            dataset.c.dataset_id,
            measured.c.train_name.label("dataset_name"),
            measured.c.method,
            measured.c.metric,
            measured.c.value,
            accuracy.label("accuracy"),
            (literal_column("1.0") - accuracy).label("error"),
            measured.c.cost_seconds,
            measured.c.fidelity,
        )
        .select_from(measured)
        .outerjoin(model, model.c.fingerprint == measured.c.model_fingerprint)
        .outerjoin(dataset, dataset.c.fingerprint == measured.c.train_fingerprint)
        .where(measured.c.status == "completed")
        .subquery("benchmark_results")
    )
    return Relation(
        name="benchmark_results",
        row="measured (model, dataset, method)",
        table=view,
        columns=dict(view.c),
        aliases={"data_reader_id": "dataset_id", "err": "error", "acc": "accuracy"},
        order="model_name",
    )


_ALIASES = {
    "models": ("models",),
    "image_models": ("image_models",),
    "text_models": ("text_models",),
    "datasets": ("datasets", "readers", "data_readers"),
    "benchmark_results": ("benchmark_results",),
}

RELATIONS: Mapping[str, Relation] = {
    "models": _models("models", "model version in the pool"),
    "image_models": _models("image_models", "image model in the pool", "image"),
    "text_models": _models("text_models", "text model in the pool", "text"),
    "datasets": _datasets(),
    "benchmark_results": _benchmark_results(),
}

# Every name a relation goes by.
RELATION_NAMES: Mapping[str, str] = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}
