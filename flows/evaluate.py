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
from storage.settings import current_settings

# The tag of a run that is handed out names the run that did so.
TAG = "of-"
# The labels of a run that tell what was done, by the attributes of flows.computing.Work.
LABELS = {name: f"shift.{name}" for name in ("embedded_rows", "embedded_parts", "reused_rows")}


@flow(name="evaluate", flow_run_name="{title}")
async def evaluate(title: str, assignment: dict[str, Any]) -> None:
    """Compute the evaluations of an assignment (shiftql.assignments) that nobody else computes.

    Results are in the stores; how much was embedded and reused stands in the run's labels.

    Args:
        title: What the run is called.
        assignment: Evaluations and the forward passes they rest on, as shiftql.assignments writes them.
    """
    settings = current_settings()
    work = Work()
    with features_in_use(settings), told_run(query=_asked_by()):
        # Who waits holds no worker: what others compute is waited for by whoever handed this out.
        computation = Computation(
            Assignment.from_json(assignment), Database(settings), work, Needless(None), is_handed_out=True
        )
        await computation.run()
    async with get_client() as client:
        labels = {label: getattr(work, name) for name, label in LABELS.items()}
        await client.update_flow_run_labels(flow_run.id, labels)


def _asked_by() -> str | None:
    """The run that handed this one out; see flows.spread."""
    return next((tag.removeprefix(TAG) for tag in flow_run.tags if tag.startswith(TAG)), None)
