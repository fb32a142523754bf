"""What models brought on other datasets, for a live question: own results, and the published ones beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select
from sqlmodel import Session

from shiftql.published import TABLES, keep_published
from shiftql.strategies.base import History
from storage.baselines import MAJORITY_METHOD, RAW
from storage.catalog import ModelRecord
from storage.database import Database
from storage.evaluations import Subject
from storage.published import PublishedModelRecord, PublishedRecord
from storage.results import EvaluationRecord

if TYPE_CHECKING:
    import numpy as np

FULL = "finetune"
# What says nothing of how good a model is.
_NO_SCORES = ("task2vec", MAJORITY_METHOD)
# The rounded results of curves_nlp once more, and some others.
_ROUNDED, _EXACT = "two_phase_nlp", "curves_nlp"


def history_of(database: Database, models: Sequence[ModelRecord], target: Subject) -> History:
    """What is known of the models, and of others beside them, on datasets other than `target`.

    A dataset measured here is a column by its name, a published one by its table and name, as vision_1k/caltech101.
    Columns and models of which nothing of use is known are left out: a column needs one of `models`, a model one cell.
    Own results are found by the content of a model, published ones by its name or handle. Of several own results
    of a model on a dataset the best of the newest version counts, and of several metrics or test splits the one with
    the most models; values are utilities, higher is better. Kinds are named by `kind_of`. What is published counts as
    measured on the test split throughout. `target` itself, what is derived or held out from it, and other versions
    of it by its name are no history.
    """
    table = _Table()
    candidates = _Candidates(models)
    keep_published(database)

    def read(session: Session) -> None:
        _add_own(table, session, candidates, target)
        _add_published(table, session, candidates)

    database.do(read)
    return table.history(candidates.names)


def kind_of(method: str, fidelity: Mapping[str, Any]) -> str:
    """What a history calls evaluations by a method at a fidelity.

    >>> kind_of("linear", {}), kind_of("finetune", {"epochs": 2})
    ('linear', 'finetune(epochs=2)')
    """
    told = ", ".join(f"{name}={value}" for name, value in sorted(fidelity.items()))
    return f"{method}({told})" if told else method


class _Candidates:
    """The models to choose from: their names by what results know them by."""

    def __init__(self, models: Sequence[ModelRecord]) -> None:
        self.names = {model.name for model in models}
        self.modalities = {model.modality for model in models}
        self.by_content: dict[str, list[str]] = {}
        self.by_spelling: dict[str, list[str]] = {}
        for model in models:
            self.by_content.setdefault(model.fingerprint, []).append(model.name)
            for spelling in {model.name, model.handle or model.name}:
                self.by_spelling.setdefault(spelling, []).append(model.name)


@dataclass
class _Table:
    """Cells by kind, column and model: value, and seconds where they are known."""

    cells: dict[str, dict[str, dict[str, tuple[float, float | None]]]] = field(default_factory=dict)

    def add(self, kind: str, column: str, model: str, value: float, seconds: float | None) -> None:
        self.cells.setdefault(kind, {}).setdefault(column, {})[model] = value, seconds

    def history(self, candidates: Collection[str]) -> History:
        """The columns with a candidate as arrays."""
        import numpy as np

        datasets = sorted(
            {
                name
                for columns in self.cells.values()
                for name, column in columns.items()
                if not candidates.isdisjoint(column)  # type: ignore[attr-defined]
            }
        )
        kept = {kind: {name: columns[name] for name in datasets if name in columns} for kind, columns in self.cells.items()}
        models = sorted({model for columns in kept.values() for column in columns.values() for model in column})
        places = {name: number for number, name in enumerate(models)}
        seen: dict[str, np.ndarray] = {}
        seconds: dict[str, np.ndarray] = {}
        for kind, columns in kept.items():
            if columns:
                values, costs = (np.full((len(models), len(datasets)), np.nan) for _ in range(2))
                for number, name in enumerate(datasets):
                    if name in columns:
                        rows = [places[model] for model in columns[name]]
                        values[rows, number], costs[rows, number] = np.array(
                            list(columns[name].values()), dtype=float
                        ).T
                seen[kind], seconds[kind] = values, costs
        reached = seen.get(FULL, np.full((len(models), len(datasets)), np.nan))
        return History(tuple(models), tuple(datasets), reached, reached, seen, seconds)
