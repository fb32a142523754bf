"""Bound statements: every name looked up, every value checked, filters compiled to SQL with bound parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from sqlalchemy import Select as SqlSelect

from shiftql import ast
from shiftql.scope import Column, Projection
from shiftql.strategies.successive_halving import RowRace
from storage.catalog import DatasetRecord, ModelRecord
from storage.evaluations import Subject
from storage.fingerprints import fingerprint_of
from tasks.rankers.specs import RankerSpec


@dataclass(frozen=True)
class BoundChange:
    """`rows` of a dataset are replaced by rows `by_rows` of `by`."""

    rows: tuple[int, ...]
    by: DatasetRecord
    by_rows: tuple[int, ...]


@dataclass(frozen=True)
class BoundDataset:
    """A registered dataset, with rows replaced, or one of the two parts it is split into."""

    record: DatasetRecord
    changes: tuple[BoundChange, ...] = ()
    held_out: Literal["train", "test"] | None = None

    @property
    def label(self) -> str:
        """How people read it."""
        changes = ", ".join(f"CHANGE {list(c.rows)} TO {c.by.name} {list(c.by_rows)}" for c in self.changes)
        if self.held_out:
            return f"{self.record.name} ({'but for the rows held out' if self.held_out == 'train' else 'held out'})"
        return f"({self.record.name} {changes})" if changes else self.record.name


@dataclass(frozen=True)
class BoundRanker:
    """A ranker with all its arguments; `label` is how people read it."""

    spec: RankerSpec
    params: Mapping[str, Any]

    @property
    def label(self) -> str:
        arguments = ", ".join(f"{name}={value}" for name, value in self.params.items() if value is not None)
        return f"{self.spec.label}({arguments})" if arguments else self.spec.label


@dataclass(frozen=True, kw_only=True)
class BoundQuery:
    """A question. `projection` is its result as something to select from.

    `inputs` are the questions it rests on that the database does not answer.
    """

    text: str
    title: str
    projection: Projection = field(compare=False, repr=False)
    inputs: tuple[BoundQuery, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.projection.columns)


@dataclass(frozen=True, kw_only=True)
class BoundRows(BoundQuery):
    """A question the database answers alone once its inputs are known.

    `embeddings` are the probes and the datasets whose Task2Vec vectors have to be known too.
    """

    condition: str | None = None
    order: str | None = None
    retrieve: str | None = None
    limit: int | None = None
    embeddings: tuple[tuple[ModelRecord, DatasetRecord], ...] = ()


@dataclass(frozen=True, kw_only=True)
class BoundSet(BoundQuery):
    """A set operation of two questions."""

    operator: str
    left: BoundQuery
    right: BoundQuery


@dataclass(frozen=True, kw_only=True)
class BoundRanking(BoundQuery):
    """A question that depends on a dataset. `models` are those that meet the condition, by name.

    `beside` holds the selected columns by the models' names. `unneeded` are the fingerprints of models that whoever
    selects from it filters out again. One that `is_unordered` names no order, and `rankers` has what that means. The
    optimizer may have made it a `race`.
    """

    models: tuple[ModelRecord, ...]
    condition: str | None
    rankers: tuple[BoundRanker, ...]
    train: tuple[BoundDataset, ...]
    test: tuple[BoundDataset, ...]
    descending: bool
    limit: int | None
    beside: Mapping[str, Mapping[str, Any]]
    chunk: ast.Chunk | None = None
    budget: ast.Budget | None = None
    within: float | None = None
    unneeded: frozenset[str] = frozenset()
    is_unordered: bool = False
    race: RowRace | None = None

    @cached_property
    def datasets(self) -> tuple[BoundDataset, ...]:
        return (*self.train, *self.test)


@dataclass(frozen=True, kw_only=True)
class BoundAverage(BoundQuery):
    """Models by a statistic of recorded results over a set of datasets.

    `incomplete` selects the names of models measured on some of the datasets only, and on how many.
    """

    shows_all: bool
    function: str
    metric: str
    higher_is_better: bool
    method: str
    datasets: tuple[str, ...]
    condition: str | None
    descending: bool
    limit: int | None
    incomplete: SqlSelect[Any] = field(compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class BoundDistances(BoundQuery):
    """Datasets by their distance to a dataset, all embedded by `probe`.

    `datasets` are those that meet the condition, by name; `left_out` are further ones, with the reason.
    """

    ranker: BoundRanker
    probe: ModelRecord
    datasets: tuple[DatasetRecord, ...]
    left_out: tuple[tuple[str, str], ...]
    dataset_id: Column = field(compare=False, repr=False)
    train: tuple[BoundDataset, ...]
    condition: str | None
    descending: bool
    limit: int | None


@dataclass(frozen=True, kw_only=True)
class BoundFinetune:
    """Models to fine-tune on datasets with every combination of arguments of `spec`; the best is kept as `name`.

    `statement` is what was asked, in one spelling and without limits. Of the `candidates` it is about, `models` are
    still there.
    """

    text: str
    statement: str
    spec: RankerSpec
    models: tuple[ModelRecord, ...]
    candidates: tuple[Subject, ...]
    train: tuple[BoundDataset, ...]
    grid: tuple[Mapping[str, Any], ...]
    name: str | None
    budget: ast.Budget | None = None
    within: float | None = None
    inputs: tuple[BoundQuery, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Equal where the same models are fine-tuned on the same rows in the same ways."""
        datasets = [
            [each.record.fingerprint, [[change.rows, change.by.fingerprint, change.by_rows] for change in each.changes]]
            for each in self.train
        ]
        combinations = sorted(fingerprint_of(dict(params)) for params in self.grid)
        models = sorted({candidate.fingerprint for candidate in self.candidates})
        return fingerprint_of(models, datasets, combinations, str(self.spec.version))


def steps_in(questions: Iterable[Question]) -> Iterator[Question]:
    """Every question among these and below them that takes evaluations, those that others rest on first."""
    for question in questions:
        yield from steps_in(question.inputs)
        if isinstance(question, BoundRanking | BoundDistances | BoundFinetune) or (
            isinstance(question, BoundRows) and question.embeddings
        ):
            yield question


Question: TypeAlias = BoundQuery | BoundFinetune


@dataclass(frozen=True)
class Ranked:
    """A ranking's outcome as (model or dataset id, rank, score); an assumed one where not all is measured yet."""

    rows: tuple[tuple[int, int, float], ...]
    is_known: bool


# Looks up what is known of a ranking.
Lookup: TypeAlias = Callable[[BoundRanking | BoundDistances], Ranked]


def nothing_known(question: BoundRanking | BoundDistances) -> Ranked:
    """Assumes of a ranking that everything is in it, in the order of the names."""
    if isinstance(question, BoundRanking):
        ids = [model.model_id for model in question.models]
    else:
        ids = [dataset.dataset_id for dataset in question.datasets]
    rows = [(number or 0, rank, 0.0) for rank, number in enumerate(ids, start=1)]
    return Ranked(tuple(rows[: question.limit]), is_known=False)


@dataclass(frozen=True)
class Declaration:
    """A query under a name, as written in `text`, where the names in `declared` meant something; `number` counts."""

    name: str
    statement: ast.Declare
    text: str
    declared: Mapping[str, Declaration]
    number: int
