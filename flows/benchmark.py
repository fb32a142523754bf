"""The benchmark flow: fills the performance matrix of the pool, the cells that tell most for their price first."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.board import Board
from flows.computing import Work, compute
from flows.downloading import Downloads
from flows.notes import logged_notes
from flows.telemetry import told_run
from shiftql.benchmark import Cell, Grid, known_matrix, open_grid, order_of
from shiftql.plan import PlannedEvaluation, Rank
from shiftql.preparation import prepare
from shiftql.progress import progress
from shiftql.render import render
from shiftql.wording import worded_seconds
from storage.catalog import Catalog
from storage.database import Database
from storage.evaluations import Measurement
from storage.eviction import features_in_use
from storage.results import ResultStore
from storage.settings import current_settings


@flow(name="benchmark", flow_run_name="{models} on {datasets} by {by}")
async def benchmark(
    models: str = "*", datasets: str = "*", by: str = "FineTune", budget_seconds: float | None = None
) -> dict[str, Any]:
    """Measure what is unknown of models on benchmark datasets: the matrix is the artifact `benchmark`.

    It stops before a cell that would cost more than what the budget of evaluation seconds leaves. What it returns is
    what flows.search does, `spent_seconds`, and `failed` (reasons by fingerprint).

    Args:
        models: Which models, as names and patterns separated by commas: vit, resnet-*.
        datasets: Which datasets, as names and patterns; the splits d-train and d-test are the dataset d.
        by: The ranker that measures, such as Linear or FineTune(epochs=5).
        budget_seconds: How many seconds of evaluations may be spent. Left out, there is no limit.
    """
    settings = current_settings()
    database = Database(settings)
    with features_in_use(settings), told_run(), logged_notes():
        built = _Build(open_grid(database, models, datasets, by), database)
        await built.run(math.inf if budget_seconds is None else budget_seconds)
    matrix = known_matrix(
        open_grid(database, models, datasets, by),
        computed=built.work.computed,
        spent=built.done.spent_seconds,
        attempted=built.done.failed,
    )
    board = Board(str(flow_run.name))
    await board.leave("benchmark", render(matrix, "markdown"))
    await board.leave("answer", render(matrix, "json"), "json")
    return {**asdict(built.work), **asdict(built.done), "flow_run_id": str(flow_run.id)}


@dataclass
class Done:
    """What became of the cells of a build."""

    spent_seconds: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)


class _Build:
    """Measures the cells of a grid one after the other, each as the question that asks for it alone."""

    def __init__(self, grid: Grid, database: Database) -> None:
        self._grid = grid
        self._database = database
        self._catalog = Catalog(database)
        self._results = ResultStore(database)
        self._order = order_of(grid)
        self._downloads = Downloads(database)
        self.work = Work()
        self.done = Done()

    async def run(self, budget: float) -> None:
        """Measure cells until none is left that the budget pays for."""
        progress.get().begin(self._grid.new)
        while (place := self._order.next(budget - self.done.spent_seconds)) is not None:
            cell = self._grid.cells[place]
            outcome, seconds = await self._measure(cell)
            self.done.spent_seconds += seconds or 0.0
            # Copies of a model are measured together.
            for each, alike in self._grid.cells.items():
                if alike.fingerprint == cell.fingerprint:
                    value = outcome.utility if outcome is not None and outcome.status == "completed" else None
                    self._order.tell(each, value, seconds)
            self._report(cell, outcome, budget)

    async def _measure(self, cell: Cell) -> tuple[Measurement | None, float | None]:
        """What came of a cell, and the seconds it took where it was measured here."""
        plan = self._plan(cell)
        if plan.download is not None:
            if await self._downloads.fetch(plan):
                # The fingerprint of a model that is here is of its content.
                plan = self._plan(cell)
            progress.get().begin(self._order.left[0])
        tries: list[str] = []
        started = time.monotonic()
        # What collapsed is planned once more.
        while not {each.evaluation.fingerprint for each in _tries(plan)} <= set(tries):
            tries = [each.evaluation.fingerprint for each in _tries(plan)]
            step, failed = self._downloads.give_up(plan)
            self.work.computed += failed
            await compute(step, self._database, self.work)
            plan = self._plan(cell)
        took = time.monotonic() - started
        outcomes = self._results.outcomes(tries)
        computed = [outcomes[each] for each in tries if each in outcomes and each in self.work.computed]
        outcome = max(outcomes.values(), key=lambda each: each.utility, default=None)
        if outcome is None or not computed:
            return outcome, None
        if outcome.status == "completed":
            return outcome, sum(each.cost_seconds for each in computed)
        self.done.failed[tries[-1]] = outcome.reason or "unknown"
        # What failed tells no cost of its own.
        return outcome, took

    def _plan(self, cell: Cell) -> Rank:
        plan = prepare(self._grid.question(cell, self._catalog), self._database)
        assert isinstance(plan, Rank)
        return plan

    def _report(self, cell: Cell, outcome: Measurement | None, budget: float) -> None:
        if outcome is None or outcome.value is None:
            told = f"failed: {outcome.reason if outcome is not None else 'its result was deleted meanwhile'}"
        else:
            told = f"{outcome.value:.3f}"
        number, seconds = self._order.left
        of = "" if math.isinf(budget) else f" of {budget:.0f}"
        spent = f"{self.done.spent_seconds:.0f}{of} s spent"
        left = f"{number} left: {worded_seconds(seconds)}"
        progress.get().note(f"{cell.model} on {cell.dataset}: {told} ({spent}, {left})")


def _tries(plan: Rank) -> list[PlannedEvaluation]:
    return [each for each in plan.evaluates[0].evaluations if not each.baseline]
