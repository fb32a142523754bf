"""The rows that models which are new have in the performance matrix, where there is one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlmodel import col, select

from shiftql.benchmark import EVERYTHING, FINETUNE, Grid, open_grid
from storage.database import Database
from storage.results import EvaluationRecord

# Fewer models, or datasets, that are measured alike are a few questions and no matrix.
_LEAST = 2


@dataclass(frozen=True)
class Rows:
    """Models whose cells are unknown on datasets that others are measured on, each written as `name,name,…`."""

    models: str
    datasets: str


def matrix_ranker(database: Database) -> str | None:
    """The fine-tuning by which most of the matrix was measured, as it is written; None where there is no matrix."""
    record = EvaluationRecord
    models = func.count(func.distinct(record.model_fingerprint))
    datasets = func.count(func.distinct(record.train_fingerprint))
    measured = (
        select(record.params)
        .where(record.method == FINETUNE.lower(), record.status == "completed")
        .where(col(record.fidelity) == "{}", col(record.test_fingerprint).is_not(None))
        .group_by(record.params)
        .having(models >= _LEAST, datasets >= _LEAST)
        .order_by(func.count().desc(), record.params)
    )
    found = database.do(lambda session: session.exec(measured.limit(1)).first())
    return None if found is None else _written(json.loads(found))


def open_matrix(database: Database, by: str) -> Grid:
    """All of the matrix."""
    return open_grid(database, EVERYTHING, EVERYTHING, by)


def rows_to_fill(grid: Grid, names: Collection[str]) -> Rows | None:
    """What is unknown of the named models where at least two others are measured; None where that is nothing."""
    measured = Counter(
        dataset
        for (row, dataset), cell in grid.cells.items()
        if grid.models[row] not in names and cell.outcome is not None and cell.outcome.status == "completed"
    )
    unknown = [
        (grid.models[row], grid.datasets[dataset])
        for (row, dataset), cell in sorted(grid.cells.items())
        if grid.models[row] in names and cell.outcome is None and measured[dataset] >= _LEAST
    ]
    if not unknown:
        return None
    models, datasets = (dict.fromkeys(part) for part in zip(*unknown, strict=True))
    return Rows(",".join(models), ",".join(datasets))


def _written(params: dict[str, Any]) -> str:
    arguments = ", ".join(f"{name}={_literal(value)}" for name, value in params.items() if value is not None)
    return f"{FINETUNE}({arguments})"


def _literal(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)
