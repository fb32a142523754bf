"""The evaluate flow: computes what a query hands out to a worker of a pool."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from flows.computing import Computation, Work
from flows.needless import Needless
from flows.telemetry import told_run
from shiftql.assignments import Assignment
from storage.database import Database
from storage.eviction import features_in_use
from storage.results import ResultStore
from storage.settings import current_settings

# The tag of a run that is handed out names the run that did so.
TAG = "of-"
# The labels of a run that tell what was done, by the attributes of flows.computing.Work.
LABELS = {name: f"shift.{name}" for name in ("embedded_rows", "embedded_parts", "reused_rows")}


@flow(name="evaluate")
async def evaluate(assignment: dict[str, Any], then: dict[str, Any] | None = None) -> None:
    """Compute the evaluations of an assignment (shiftql.assignments) that nobody else computes.

    Results are in the stores; how much was embedded and reused stands in the run's labels.

    Args:
        assignment: Evaluations and the forward passes they rest on, as shiftql.assignments writes them.
        then: What another run was given, in the order in which that is to be helped with when this is done.
    """
    settings = current_settings()
    work = Work()
    with features_in_use(settings), told_run(query=_asked_by()):
        database = Database(settings)
        await _compute(Assignment.from_json(assignment), database, work)
        if then is not None:
            await _compute(_untouched(Assignment.from_json(then), ResultStore(database)), database, work)
    async with get_client() as client:
        labels = {label: getattr(work, name) for name, label in LABELS.items()}
        await client.update_flow_run_labels(flow_run.id, labels)


async def _compute(assignment: Assignment, database: Database, work: Work) -> None:
    # Who waits holds no worker: what others compute is waited for by whoever handed this out.
    await Computation(assignment, database, work, Needless(None), is_handed_out=True).run()


def _untouched(assignment: Assignment, results: ResultStore) -> Assignment:
    """What of an assignment nobody has begun with."""
    fingerprints = {evaluation.fingerprint for evaluation in assignment.new_evaluations}
    return assignment.of(fingerprints - results.outcomes(fingerprints).keys() - results.claimed(fingerprints))


def _asked_by() -> str | None:
    """The run that handed this one out; see flows.spread."""
    return next((tag.removeprefix(TAG) for tag in flow_run.tags if tag.startswith(TAG)), None)
