"""Running a flow from this process, against the configured Prefect API or the home's own server."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from sqlalchemy.exc import DBAPIError

from flows.certificates import few_certificates
from flows.detached import RUN_VARIABLE
from flows.server import ensure_server, is_api_configured
from flows.slots import hosts_needed
from shiftql.interrupts import interrupts
from shiftql.plan import PlanNode
from shiftql.progress import progress
from storage.errors import ShiftError, StoreError
from storage.outages import explain
from storage.settings import Settings
from storage.uncollected import uncollected
from tasks.host import host

# What most models are opened in.
_USUAL_HOST = "torch"
# How often a run gives a sign of life; deployments.automations says when it is taken for lost.
HEARTBEAT_SECONDS = 30


def run_search(statement: str, plan: PlanNode, settings: Settings, asked_at: float) -> dict[str, Any]:
    """Run the search flow for one statement, asked at a time, and return what it did; see flows.search."""
    parameters = {"statement": statement, "asked_at": asked_at}
    return _run_flow("flows.search:search", parameters, hosts_needed(plan), settings)


def run_finetuning(statement: str, plan: PlanNode, settings: Settings, asked_at: float) -> dict[str, Any]:
    """Run the flow that fine-tunes models and keeps the best, and return what it did; see flows.finetune."""
    parameters = {"statement": statement, "asked_at": asked_at}
    return _run_flow("flows.finetune:finetune", parameters, hosts_needed(plan), settings)


def run_benchmark(parameters: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Run the flow that fills the performance matrix and return what it did; see flows.benchmark."""
    return _run_flow("flows.benchmark:benchmark", parameters, [_USUAL_HOST], settings)


def run_reevaluation(parameters: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Run the flow that asks standing questions again and return what came of them; see flows.reevaluate."""
    return _run_flow("flows.reevaluate:reevaluate", parameters, [_USUAL_HOST], settings)


def _run_flow(name: str, parameters: Mapping[str, Any], hosts: Collection[str], settings: Settings) -> dict[str, Any]:
    """Run the flow of that name, as module:function, and return what it did.

    Frameworks start loading in their own processes at once, while this one imports Prefect and finds its server.
    """
    for each in hosts:
        host(each).start()
    if not is_api_configured():
        server, is_new = ensure_server(settings)
        if is_new:
            progress.get().note(f"started the background Prefect server: {server.ui_url} ('shiftql down' stops it)")
        api_url: str | None = server.api_url
    else:
        api_url = None
    # Prefect's own log lines would drown a person's answer; the server receives them all.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")

    with uncollected():
        from prefect import tags
        from prefect.exceptions import TerminationSignal
        from prefect.settings import (
            PREFECT_API_URL,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
            PREFECT_HOME,
            PREFECT_LOCAL_STORAGE_PATH,
            temporary_settings,
        )

        module, _, function = name.partition(":")
        flow = getattr(import_module(module), function)

    updates: dict[Any, Any] = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: HEARTBEAT_SECONDS}
    if api_url is not None:
        home = settings.home / "prefect"
        updates |= {
            PREFECT_API_URL: api_url,
            PREFECT_HOME: home,
            PREFECT_LOCAL_STORAGE_PATH: home / "storage",
            **few_certificates(api_url, settings),
        }
    # The name that a search was detached under.
    detached = [os.environ[RUN_VARIABLE]] if RUN_VARIABLE in os.environ else []
    with temporary_settings(updates=updates), tags(*detached):
        try:
            return _run(lambda: flow(**parameters))
        except (ShiftError, DBAPIError):
            raise
        except TerminationSignal as ended:
            raise KeyboardInterrupt from ended
        except Exception as error:
            raise explain(error, settings) or StoreError(
                f"the query could not be run as a flow: {type(error).__name__}: {error}",
                subject=PREFECT_API_URL.value(),
                fix=f"check that the Prefect server at {PREFECT_API_URL.value()} answers; results so far are kept",
            ) from error


def _run(start: Callable[[], Awaitable[Any]]) -> Any:
    """Run a coroutine to its end, also where an event loop runs already, as in a notebook; an interrupt ends it."""
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def call() -> Any:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        running.append((loop, task))

        def end() -> None:
            task.cancel()
            # It may be waiting for something to happen.
            loop.call_soon_threadsafe(lambda: None)

        with interrupts.ending(end):
            return await start()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        try:
            return asyncio.run(call())
        except asyncio.CancelledError as ended:
            if not interrupts.were_heard:
                raise
            raise KeyboardInterrupt from ended
    context = contextvars.copy_context()
    with ThreadPoolExecutor(max_workers=1) as executor:
        outcome = executor.submit(context.run, asyncio.run, call())
        try:
            return outcome.result()
        except KeyboardInterrupt:
            for loop, task in running:
                loop.call_soon_threadsafe(task.cancel)
            raise
