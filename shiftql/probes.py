"""Task2Vec's probes and vectors in SQL, and the probe that is taken where a question names none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, and_

from storage.catalog import ModelRecord
from storage.results import EvaluationRecord
from tasks.rankers.specs import RANKERS

TASK2VEC = RANKERS["task2vec"]
# Which sources' models can be probes: their weights have derivatives.
PROBE_SOURCES = frozenset({"huggingface"})
# A default probe embeds a task in minutes on two cores, and knows something where that was measured.
_MOST_PARAMETERS = 150_000_000
_LEAST_ACCURACY = 0.5


@dataclass(frozen=True)
class Vectors:
    """What a table of datasets becomes when its vectors are asked for: a row for each dataset and probe.

    The vector is empty where it is not measured yet.
    """

    datasets: FromClause
    probes: FromClause
    measured: FromClause

    @classmethod
    def of(cls, datasets: FromClause) -> Vectors:
        return cls(datasets, _table(ModelRecord).alias(), _table(EvaluationRecord).alias())

    @property
    def probe(self) -> ColumnElement[Any]:
        return self.probes.c.name

    @property
    def vec(self) -> ColumnElement[Any]:
        return self.measured.c.vector

    def join(self, source: FromClause) -> FromClause:
        """A source that holds the datasets, with every probe for each of them and its vector."""
        fits = and_(
            self.probes.c.modality == self.datasets.c.modality,
            self.probes.c.source.in_(sorted(PROBE_SOURCES)),
            self.datasets.c.task.in_(sorted(TASK2VEC.tasks)),
        )
        is_its_vector = and_(
            self.measured.c.model_fingerprint == self.probes.c.fingerprint,
            self.measured.c.train_fingerprint == self.datasets.c.fingerprint,
            self.measured.c.method == TASK2VEC.name,
            self.measured.c.version == str(TASK2VEC.version),
            self.measured.c.status == "completed",
        )
        return source.join(self.probes, fits).outerjoin(self.measured, is_its_vector)


def default_probe(models: Iterable[ModelRecord], modality: str) -> ModelRecord | None:
    """The probe that is taken where none is named; None where there is none.

    Of the models of the modality that are here, can be probes and have 150 million parameters at most, the one with
    most; of equal ones the first by name. One whose upstream accuracy is known to be below a half is the last resort.
    """
    candidates = [
        model
        for model in models
        if model.modality == modality
        and model.source in PROBE_SOURCES
        and model.num_params is not None
        and model.num_params <= _MOST_PARAMETERS
        and model.is_local
    ]

    def preference(model: ModelRecord) -> tuple[bool, int, str]:
        is_poor = model.upstream_accuracy is not None and model.upstream_accuracy < _LEAST_ACCURACY
        return is_poor, -(model.num_params or 0), model.name

    return min(candidates, key=preference, default=None)


def _table(record: type[Any]) -> FromClause:
    return record.__table__
