"""The performance matrix: how well each model of the pool does on each benchmark dataset, as far as it is recorded.

A cell is the evaluation that `SELECT name FROM models WHERE name = 'm' ORDER BY FineTune TRAINED ON d-train TESTED ON
d-test` makes: what anybody asked before is known, and whoever asks it later has it answered by the matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from shiftql import ast
from shiftql.answers import MatrixAnswer
from shiftql.binder import bind
from shiftql.bound import BoundRanker, BoundRanking
from shiftql.parser import parse
from shiftql.plan import PlannedEvaluation, Rank
from shiftql.preparation import prepare
from shiftql.ranker_binder import RankerBinder
from shiftql.strategies.matrix import MatrixOrder
from storage.catalog import Catalog, DatasetRecord, ModelRecord
from storage.database import Database
from storage.errors import BindingError, ShiftError
from storage.evaluations import Measurement
from storage.locations import TEST_SPLITS, full_name
from storage.names import did_you_mean
from storage.results import ResultStore
from tasks.rankers.specs import all_rankers

if TYPE_CHECKING:
    import numpy as np

EVERYTHING = "*"
FINETUNE = "FineTune"

_TRAIN, _TEST = "-train", "-test"
# What a model can be measured by.
_KINDS = {"features", "finetune"}


@dataclass(frozen=True)
class Benchmark:
    """A dataset of the matrix, under the common name of its splits; without `test` a part of it is held out."""

    name: str
    train: DatasetRecord
    test: DatasetRecord | None

    @property
    def splits(self) -> set[str]:
        return {self.train.name, *([] if self.test is None else [self.test.name])}


@dataclass(frozen=True)
class Cell:
    """One evaluation of the matrix, what it is predicted to cost, and what came of it, where that is known.

    `fingerprint` is of the last of its `tries`: what collapsed is tried twice, and the better counts.
    """

    model: str
    dataset: str
    tries: tuple[str, ...]
    seconds: float
    outcome: Measurement | None

    @property
    def fingerprint(self) -> str:
        return self.tries[-1]


@dataclass(frozen=True)
class Grid:
    """The cells of the chosen models and datasets, by their places in `models` and `datasets`.

    `questions` are by dataset, about no model yet. `refused` are the models and datasets that cannot be measured so,
    as {"model" or "dataset", "reason"}. `new` counts the evaluations that no store knows, baselines among them.
    """

    ranker: BoundRanker
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    cells: Mapping[tuple[int, int], Cell]
    refused: tuple[Mapping[str, str], ...]
    questions: Mapping[str, BoundRanking]
    new: int

    def question(self, cell: Cell, catalog: Catalog) -> BoundRanking:
        """The question that asks for a cell alone, by the model as it is in the catalog now."""
        return replace(self.questions[cell.dataset], models=(catalog.model(cell.model),))

    @property
    def known(self) -> int:
        return sum(cell.outcome is not None for cell in self.cells.values())


def benchmarks_in(datasets: Sequence[DatasetRecord]) -> list[Benchmark]:
    """Registered splits as datasets: `d-train` with `d-test` is `d`, a path goes with its own split for testing."""
    records = {dataset.name: dataset for dataset in datasets}
    tests = {name: _test_of(name) for name in records}
    pairs = {name: test for name, names in tests.items() if (test := next((n for n in names if n in records), None))}
    found = []
    for name in records.keys() - set(pairs.values()):
        test = pairs.get(name)
        common = name.removesuffix(_TRAIN) if test == f"{name.removesuffix(_TRAIN)}{_TEST}" else name
        found.append(Benchmark(common, records[name], records[test] if test else None))
    return sorted(found, key=lambda benchmark: benchmark.name)


def chosen(written: str, names: Sequence[str], kind: str) -> list[str]:
    """Those of the names that are written, as `name,pattern,…`, in their order.

    Raises BindingError where something that is written is none of them.

    >>> chosen("vit,resnet-*", ["bert", "resnet-a", "resnet-b", "vit"], "model")
    ['resnet-a', 'resnet-b', 'vit']
    """
    if not names:
        raise BindingError(
            f"there are no {kind}s yet",
            fix=f"register one with 'shiftql {kind}s add', or make a pool: 'shiftql playground DIR'",
        )
    wanted: set[str] = set()
    for each in filter(None, map(str.strip, written.split(","))):
        matching = [each] if each in names else [name for name in names if fnmatchcase(name, each)]
        if not matching:
            raise BindingError(
                f"there is no {kind} {each!r}",
                subject=each,
                allowed=names,
                fix=did_you_mean(each, names, 1) or f"'shiftql {kind}s list' shows all; '*' stands for them",
            )
        wanted |= set(matching)
    return [name for name in names if name in wanted]


def choose_benchmarks(written: str, datasets: Sequence[DatasetRecord]) -> list[Benchmark]:
    """The datasets that are written, by their common name, a split's or a path; see `chosen`."""
    found = benchmarks_in(datasets)
    common = {split: benchmark.name for benchmark in found for split in benchmark.splits}
    common |= {benchmark.name: benchmark.name for benchmark in found}
    parts = [part.strip() for part in written.split(",")]
    named = ",".join(common.get(part) or common.get(full_name(part)) or part for part in parts if part)
    names = set(chosen(named, [benchmark.name for benchmark in found], "dataset"))
    return [benchmark for benchmark in found if benchmark.name in names]


def open_grid(database: Database, models: str, datasets: str, by: str) -> Grid:
    """The cells of the models and datasets that are written, with what is known of them. Computes nothing."""
    catalog = Catalog(database)
    key, ranker = _read_ranker(by)
    records = {model.name: model for model in catalog.models()}
    pool = [records[name] for name in chosen(models, list(records), "model")]
    found = _Columns(key, pool, database)
    for benchmark in choose_benchmarks(datasets, catalog.datasets()):
        found.add(benchmark)
    names = [model.name for model in pool if model.name in {cell.model for cell in found.cells}]
    places = {name: number for number, name in enumerate(names)}
    columns = {name: number for number, name in enumerate(found.questions)}
    return Grid(
        ranker=ranker,
        models=tuple(names),
        datasets=tuple(found.questions),
        cells={(places[cell.model], columns[cell.dataset]): cell for cell in found.cells},
        refused=tuple(found.refused.values()),
        questions=found.questions,
        new=found.new,
    )


@dataclass
class _Columns:
    """The columns of a matrix as they are planned one by one."""

    key: ast.OrderKey
    pool: Sequence[ModelRecord]
    database: Database
    cells: list[Cell] = field(default_factory=list)
    refused: dict[str, Mapping[str, str]] = field(default_factory=dict)
    questions: dict[str, BoundRanking] = field(default_factory=dict)
    new: int = 0

    def add(self, benchmark: Benchmark) -> None:
        """Plan the cells of a dataset, or note why it has none."""
        try:
            question = _question(self.key, benchmark, self.database)
        except ShiftError as error:
            self.refused[benchmark.name] = {"dataset": benchmark.name, "reason": error.reason}
            return
        fitting = tuple(model for model in self.pool if model.modality == benchmark.train.modality)
        plan = prepare(replace(question, models=fitting), self.database)
        assert isinstance(plan, Rank)
        self.questions[benchmark.name] = question
        self.refused |= {name: {"model": name, "reason": reason} for name, reason in plan.refused}
        self.new += len(plan.new_evaluations)
        self.cells += self._cells(benchmark, plan)

    def _cells(self, benchmark: Benchmark, plan: Rank) -> Iterator[Cell]:
        planned = [each for evaluate in plan.evaluates for each in evaluate.evaluations if not each.baseline]
        known = ResultStore(self.database).known(each.evaluation.fingerprint for each in planned)
        embedding: dict[str, float] = {}
        for part in plan.all_embeddings:
            if part.new_rows:
                before = embedding.get(part.model.fingerprint)
                passes = part.row_cost.seconds * part.new_rows
                embedding[part.model.fingerprint] = (part.opening_seconds if before is None else before) + passes
        tries: dict[str, list[PlannedEvaluation]] = {}
        for each in planned:
            tries.setdefault(each.evaluation.model.name, []).append(each)
        for name, of_model in tries.items():
            last = of_model[-1]
            seconds = last.cost.seconds + embedding.get(last.evaluation.model.fingerprint, 0.0)
            outcomes = [known.get(each.evaluation.fingerprint) for each in of_model]
            best = max((each for each in outcomes if each is not None), key=lambda each: each.utility, default=None)
            is_settled = None not in outcomes
            fingerprints = tuple(each.evaluation.fingerprint for each in of_model)
            yield Cell(name, benchmark.name, fingerprints, seconds, best if is_settled else None)


def values_of(grid: Grid) -> np.ndarray:
    """The utilities of a grid, (models, datasets), NaN where they are unknown."""
    import numpy as np

    values = np.full((len(grid.models), len(grid.datasets)), np.nan)
    for place, cell in grid.cells.items():
        if cell.outcome is not None and cell.outcome.status == "completed":
            values[place] = cell.outcome.utility
    return values


def order_of(grid: Grid) -> MatrixOrder:
    """The order in which the unknown cells of a grid are to be measured."""
    import numpy as np

    values = values_of(grid)
    measured = np.full(values.shape, np.nan)
    offered, predicted = np.zeros(values.shape, dtype=bool), np.ones(values.shape)
    for place, cell in grid.cells.items():
        predicted[place] = cell.seconds
        offered[place] = cell.outcome is None
        # What a proxy of stored features took says nothing of one whose features have to be made.
        if grid.ranker.spec.kind == "finetune" and cell.outcome is not None and not np.isnan(values[place]):
            measured[place] = cell.outcome.cost_seconds
    return MatrixOrder(values, offered, predicted, measured)


def known_matrix(
    grid: Grid,
    *,
    computed: Sequence[str] = (),
    interrupted: bool = False,
    spent: float = 0.0,
    attempted: Mapping[str, str] | None = None,
) -> MatrixAnswer:
    """The matrix as far as it is known; `computed` and `attempted` failures, with reasons, are by fingerprint."""
    tried = attempted or {}
    order = order_of(grid)
    for place, cell in grid.cells.items():
        if cell.fingerprint in tried:
            order.tell(place, None, None)
    number, seconds = order.left
    rows: list[dict[str, Any]] = [{"model": name} | dict.fromkeys(grid.datasets) for name in grid.models]
    failed = []
    metrics: dict[str, str | None] = {}
    for (row, _), cell in sorted(grid.cells.items()):
        reason = tried.get(cell.fingerprint)
        if cell.outcome is not None and cell.outcome.status == "completed":
            rows[row][cell.dataset] = cell.outcome.value
            metrics[cell.dataset] = cell.outcome.metric
        elif cell.outcome is not None or reason is not None:
            told = reason or (cell.outcome and cell.outcome.reason) or "unknown"
            failed.append({"model": cell.model, "dataset": cell.dataset, "reason": told})
    evaluated = {cell.fingerprint for cell in grid.cells.values() if not set(computed).isdisjoint(cell.tries)}
    return MatrixAnswer(
        statement="",
        seconds=0.0,
        columns=("model", *grid.datasets),
        rows=tuple(rows),
        failed=tuple(failed),
        method=grid.ranker.label,
        metrics=metrics,
        refused=grid.refused,
        evaluated=len(evaluated),
        reused=sum(c.outcome is not None and c.fingerprint not in evaluated for c in grid.cells.values()),
        spent_seconds=spent,
        left=number,
        left_seconds=seconds,
        interrupted=interrupted,
    )


def expected_matrix(grid: Grid, budget: float | None) -> MatrixAnswer:
    """The matrix as far as it is known, with what each unknown cell would cost, and those that a budget pays for."""
    order = order_of(grid)
    predicted = order.seconds
    left = budget = math.inf if budget is None else budget
    upcoming = []
    expected = {
        (cell.model, cell.dataset): float(predicted[place])
        for place, cell in grid.cells.items()
        if cell.outcome is None
    }
    while (place := order.next(left)) is not None:
        cell = grid.cells[place]
        seconds = expected[cell.model, cell.dataset]
        left -= seconds
        upcoming.append({"model": cell.model, "dataset": cell.dataset, "predicted_seconds": seconds})
        order.tell(place, math.nan, None)
    return replace(known_matrix(grid), upcoming=tuple(upcoming), expected=expected)


def _test_of(name: str) -> list[str]:
    """The names that the test split of a training split may have."""
    common = [f"{name.removesuffix(_TRAIN)}{_TEST}"] if name.endswith(_TRAIN) else []
    return [*common, *(f"{name}#{split}" for split in TEST_SPLITS)]


def _read_ranker(by: str) -> tuple[ast.OrderKey, BoundRanker]:
    """The ranker that is written, as a sort key and bound. Raises BindingError where it measures no models."""
    text = f"SELECT * FROM models ORDER BY {by}"
    statements = parse(text)
    plain = parse(f"SELECT * FROM models ORDER BY {FINETUNE}")[0]
    written = statements[0]
    if isinstance(written, ast.Select) and len(written.order_by) == len(statements) == 1:
        key = written.order_by[0]
        assert isinstance(plain, ast.Select)
        if replace(written, order_by=plain.order_by) == plain and not isinstance(key.key, ast.Aggregate):
            ranker = RankerBinder(text).bind(key.key)
            if ranker.spec.kind in _KINDS and not key.descending:
                return key, ranker
    raise BindingError(
        f"models cannot be measured by {by!r}",
        subject=by,
        allowed=[spec.label for spec in all_rankers() if spec.kind in _KINDS],
        fix="write for example --by Linear, or --by 'FineTune(epochs=5)'",
    )


def _question(key: ast.OrderKey, benchmark: Benchmark, database: Database) -> BoundRanking:
    """The question that ranks models on a dataset, about none. Raises BindingError where the ranker is not for it."""
    template = parse("SELECT * FROM models WHERE name = ''")[0]
    assert isinstance(template, ast.Select)

    def named(name: str) -> tuple[ast.DatasetName, ...]:
        return (ast.DatasetName(name=name, position=template.position),)

    test = benchmark.test or benchmark.train
    asked = replace(template, order_by=(key,), trained_on=named(benchmark.train.name), tested_on=named(test.name))
    question = bind(asked, database)
    assert isinstance(question, BoundRanking)
    if benchmark.test is None and question.rankers[0].spec.needs_test:
        (whole,) = question.train
        rest, part = replace(whole, held_out="train"), replace(whole, held_out="test")
        return replace(question, train=(rest,), test=(part,))
    return question
