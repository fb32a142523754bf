"""The reevaluate flow: asks standing questions again, once something was registered or their time has come.

Asking again is planning again: a question whose plan has no new evaluations is answered by what is known. So nobody has
to note what a question depends on, and what an event missed is made up for by the next run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import acreate_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.benchmark import benchmark
from flows.registration import refresh_models
from flows.search import search
from flows.telemetry import told_run
from flows.telling import tell
from flows.watching import Outcome, refresh
from shiftql.benchmark import EVERYTHING
from shiftql.matrix_rows import matrix_ranker, open_matrix, rows_to_fill
from shiftql.pool_clusters import clusters_of
from shiftql.progress import progress
from shiftql.watching import DAY, answer_watch, asked, is_due, open_watch
from storage.catalog import Catalog
from storage.database import Database
from storage.errors import ShiftError
from storage.kept_clusters import ClusterStore
from storage.settings import current_settings
from storage.watches import Reason, WatchRecord, WatchStore

# A run that was started by a registration waits until nothing was registered for so long, but not for ever: of hundreds
# that are registered one by one, the first are not to wait for the last. It is longer than flows.announcing leaves what
# follows an event without one of its own.
_QUIET_SECONDS = 2.0
_LONGEST_SECONDS = 10.0
# The catalog knows whole seconds.
_CATALOG_SECOND = timedelta(seconds=1)
# What is due before the next run of the schedule is asked now.
_SLACK_SECONDS = 300.0
_NAMED = 3


def run_name() -> str:
    """What a run is called in Prefect: why it asks, and about whom."""
    models = flow_run.parameters["models"] or []
    others = f" and {len(models) - _NAMED} more" if len(models) > _NAMED else ""
    return f"{flow_run.parameters['reason']} {', '.join(models[:_NAMED])}{others}".strip()


@flow(name="reevaluate", flow_run_name=run_name)
async def reevaluate(
    models: list[str] | None = None,
    reason: Reason = "refreshed",
    watches: list[str] | None = None,
    only_due: bool = False,
    budget_seconds: float = 600.0,
) -> dict[str, Any]:
    """Ask standing questions again: evaluate what is new for them, record their rankings, and tell who is first now.

    Args:
        models: Models that are new: their rows of the performance matrix, where there is one, are filled. Those that
            were registered since the watches were last asked are new too.
        reason: Why they are asked again; it stands in their history.
        watches: Ask these watches alone; without any, all.
        only_due: Ask those alone whose time has come: after what EVERY says, or after a day.
        budget_seconds: How many seconds may be spent on evaluations of the performance matrix.
    """
    with told_run():
        database = Database(current_settings())
        again = Again(database, reason, budget_seconds)
        if only_due:
            soon = time.time() + _SLACK_SECONDS
            due = [watch.name for watch in WatchStore(database).all() if is_due(watch, soon)]
            await again.ask(due)
            return await again.report()
        new = set(models or ())
        while True:
            if reason == "registered":
                new |= await _gather(Catalog(database))
            await again.ask(watches, new | again.added())
            # Who registers something after this look has a run that waits for this one, and finds what is left to do.
            if reason != "registered" or not await _waiting():
                return await again.report()


async def _gather(catalog: Catalog) -> set[str]:
    """Do the work of the runs that wait for this one too, once nothing comes for a while; the models they know of."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    told = [run.expected_start_time] if run is not None and run.expected_start_time is not None else []
    give_up = time.monotonic() + _LONGEST_SECONDS
    names: set[str] = set()
    while True:
        waiting = await _waiting()
        await _cover(waiting)
        names |= {name for each in waiting for name in each.parameters.get("models") or ()}
        told += [each.expected_start_time for each in waiting if each.expected_start_time is not None]
        added = catalog.newest()
        newest = max([*told, *([] if added is None else [added + _CATALOG_SECOND])], default=None)
        patience = give_up - time.monotonic()
        left = 0.0 if newest is None else _QUIET_SECONDS - (datetime.now(UTC) - newest).total_seconds()
        if min(left, patience) <= 0:
            return names
        await asyncio.sleep(min(left, patience))


async def _waiting() -> list[FlowRun]:
    """The runs that registrations started and that wait for this one, of which the deployment runs one at a time."""
    context = FlowRunContext.get()
    deployment = context.flow_run.deployment_id if context is not None and context.flow_run is not None else None
    if deployment is None:
        return []
    async with get_client() as client:
        found = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            )
        )
    return [run for run in found if run.parameters.get("reason") == "registered"]


async def _cover(waiting: Collection[FlowRun]) -> None:
    """Have runs not run: this one does their work."""
    done: State[Any] = Completed(name="Covered", message=f"what was registered is re-evaluated by {flow_run.name}")
    async with get_client() as client:
        await asyncio.gather(*(client.set_flow_run_state(run.id, done) for run in waiting))


class Again:
    """Asks watches, one after the other; one that fails does not keep the others from being asked."""

    def __init__(self, database: Database, reason: Reason, budget: float) -> None:
        self._database = database
        self._reason = reason
        self._budget = budget
        self._catalog = Catalog(database)
        self._store = WatchStore(database)
        self._outcomes: dict[str, Outcome] = {}
        last = [watch.asked for watch in self._store.all() if watch.asked is not None]
        self._since = datetime.fromtimestamp(int(min(last, default=time.time() - DAY)), UTC)

    def added(self) -> set[str]:
        """The models that were registered since the watches were last asked, or within a day where none was."""
        return {model.name for model in self._catalog.models() if model.date_added >= self._since}

    async def ask(self, names: Collection[str] | None, new: Collection[str] = ()) -> None:
        """Ask these watches, or all; what rests on the matrix once the rows of `new` models are filled there."""
        refresh_models(self._catalog)
        watches = [watch for watch in self._store.all() if names is None or watch.name in names]
        resting = [watch for watch in watches if not await self._ask(watch)]
        if new:
            await self._fill(new)
        for watch in resting:
            await self._ask(watch, is_filled=True)

    async def report(self) -> dict[str, Any]:
        """What came of the watches, also as an artifact of the run."""
        rows = [asdict(outcome) for outcome in self._outcomes.values()]
        if rows:
            await acreate_table_artifact(rows, "watches", flow_run.name)
        return {"watches": rows, "flow_run_id": str(flow_run.id)}

    async def _ask(self, watch: WatchRecord, *, is_filled: bool = False) -> bool:
        """Ask a watch and record what it answers; False where it waits for the matrix to be filled."""
        outcome = self._outcomes.setdefault(watch.name, Outcome(watch.name))
        started = time.perf_counter()
        try:
            refresh(watch.script, self._database)
            standing = open_watch(watch.script, self._database)
            if standing.rests_on_matrix and not is_filled:
                return False
            work: dict[str, Any] = {}
            if standing.plan.new_evaluations:
                progress.get().note(f"asking {watch.name} again")
                work = await search(watch.script)
                standing = open_watch(watch.script, self._database, final=True)
            found = asked(answer_watch(standing, self._database, work), self._reason, time.perf_counter() - started)
            change = self._store.record(watch.name, watch.script, found)
        except Exception as error:
            outcome.failure = error.reason if isinstance(error, ShiftError) else f"{type(error).__name__}: {error}"
            get_run_logger().error("%s could not be asked: %s", watch.name, outcome.failure)
            self._store.fail(watch.name, watch.script, outcome.failure)
            return True
        outcome.first = found.places[0].name if found.places else None
        outcome.evaluated += found.evaluated
        outcome.reused, outcome.failure = found.reused, None
        if change is not None:
            outcome.before = outcome.before or change.before
            await tell(change, watch.script)
        return True

    async def _fill(self, new: Collection[str]) -> None:
        """Measure new models where others are measured, within the budget, and bring the clusters up to date."""
        try:
            if (by := matrix_ranker(self._database)) is None:
                return
            grid = open_matrix(self._database, by)
            if (rows := rows_to_fill(grid, new)) is not None and self._budget > 0:
                done = await benchmark(rows.models, rows.datasets, by, self._budget)
                self._budget -= done["spent_seconds"]
                grid = open_matrix(self._database, by)
            clusters_of(grid, EVERYTHING, EVERYTHING, ClusterStore(current_settings().clusters))
        except Exception as error:
            get_run_logger().error("the performance matrix could not be brought up to date: %s", error)
