"""What is told of every flow run: its start, how long it waited for a worker, its end, and what its answer rests on."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from shiftql.answers import Answer, RankingAnswer
from storage.event_log import log_to
from storage.events import tell, telling_of
from storage.settings import current_settings


@contextlib.contextmanager
def told_run(statement: str | None = None, query: str | None = None) -> Iterator[None]:
    """Within a flow run: its start and its end are told, and everything between has the id of the run.

    `query` is the run that this one works for, where it is not for itself.
    """
    log_to(current_settings())
    running = FlowRunContext.get()
    assert running is not None
    assert running.flow_run is not None
    run = str(running.flow_run.id)
    began = time.monotonic()
    with telling_of(query=query or run, run=run if query else None, flow=running.flow.name if running.flow else None):
        tell("started", statement=statement, queue_seconds=_queue_seconds(running.flow_run))
        try:
            yield
        except BaseException as error:
            status = "failed" if isinstance(error, Exception) else "stopped"
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            tell("ended", level=logging.ERROR, status=status, reason=reason, seconds=time.monotonic() - began)
            raise
        tell("ended", status="completed", seconds=time.monotonic() - began)


def tell_answer(answer: Answer) -> None:
    """Tell how many evaluations an answer rests on, and how many of them were known."""
    if isinstance(answer, RankingAnswer):
        tell("answered", evaluated=answer.evaluated, reused=answer.reused, failed=len(answer.failed))


def _queue_seconds(run: FlowRun) -> float | None:
    """From when a run of a deployment was due until it began; None of a run that whoever asked runs."""
    if run.deployment_id is None or run.expected_start_time is None:
        return None
    return (datetime.now(UTC) - run.expected_start_time).total_seconds()
