"""A worker that stays warm: it runs flows in its own process, in which frameworks stay loaded from run to run.

    python -m deployments.worker --pool cpu|gpu [--queue queries|evaluations] [--name NAME]

It serves pools of Prefect's type `process`. `prefect worker start` does so too, and starts a process for each run.
Runs whose worker is lost are taken over by the others of its pool.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import warnings
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx
from prefect import Flow
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter
from prefect.flow_engine import run_flow
from prefect.flows import load_flow_from_flow_run
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOCAL_STORAGE_PATH,
    PREFECT_WORKER_HEARTBEAT_SECONDS,
    PREFECT_WORKER_QUERY_SECONDS,
    temporary_settings,
)
from prefect.states import AwaitingRetry
from prefect.types._datetime import now
from prefect.workers.process import ProcessWorker

from flows.certificates import few_certificates
from flows.metrics import serve_metrics
from flows.pools import EVALUATIONS, POOLS, QUERIES, is_for_queries, name_of_worker
from flows.run import HEARTBEAT_SECONDS
from storage.errors import StoreError
from storage.settings import current_settings
from tasks.host import stop_hosts

# The events of runs that wait from then on.
_SCHEDULED = ["prefect.flow-run.Scheduled", "prefect.flow-run.AwaitingRetry"]
_LISTEN_AGAIN_SECONDS = 5.0
# What a server takes to be asked for work.
_ASKING_SECONDS = 0.02
# How many runs a worker has at once: those that only plan and wait, and those that compute.
LIMITS = {QUERIES: 10, EVALUATIONS: 1}
# What is otherwise looked for every 15 s, told every 30 s, and not told at all. Most work is found by its events.
_SETTINGS: dict[Any, Any] = {
    PREFECT_WORKER_QUERY_SECONDS: 2.0,
    PREFECT_WORKER_HEARTBEAT_SECONDS: 5.0,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY: HEARTBEAT_SECONDS,
}
# A run is given to a worker before the worker's name is noted with it.
_NAMED_WITHIN = timedelta(seconds=60)
_ANEW = 6
_UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


# In this process it takes the other's place in Prefect's registry, and is meant to.
warnings.filterwarnings("ignore", message="Type 'WarmWorker'")


class WarmWorker(ProcessWorker):
    """Runs flows in threads of this process, each with an event loop of its own."""

    type = "process"

    def __init__(self, pool: str, queue: str, name: str) -> None:
        super().__init__(
            pool,
            work_queues=[queue],
            name=name,
            limit=LIMITS[queue],
            prefetch_seconds=0,
        )
        self._queue = queue
        # Set when work may wait for this worker.
        self._told = asyncio.Event()
        # The workers of this queue that are alive.
        self._peers = [name]
        self._flows: dict[UUID, Flow[..., Any]] = {}
        self._running: dict[UUID, tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = {}
        self._cancelled: set[UUID] = set()
        # Runs that ended while the server could not be told so.
        self._untold: set[UUID] = set()
        self._is_stopping = False

    async def setup(self) -> None:
        """Prepare to run, and to be told of work: regular looks find what events do not tell of."""
        await super().setup()
        assert self._runs_task_group is not None
        for service in (self._listen, self._ask_when_told):
            self._runs_task_group.start_soon(self._until_torn_down, service)

    async def _until_torn_down(self, service: Callable[[], Awaitable[None]]) -> None:
        with anyio.CancelScope() as scope:
            self._scheduled_task_scopes.add(scope)
            await service()

    async def _listen(self) -> None:
        """Take note of every run that comes into the queue of this worker."""
        while True:
            with contextlib.suppress(Exception):
                queue = await self.client.read_work_queue_by_name(self._queue, self._work_pool_name)
                ours = EventAnyResourceFilter(id=[f"prefect.work-queue.{queue.id}"])
                scheduled = EventFilter(event=EventNameFilter(name=_SCHEDULED), any_resource=ours)
                async with get_events_subscriber(scheduled) as events:
                    async for _ in events:
                        self._told.set()
            await anyio.sleep(_LISTEN_AGAIN_SECONDS)

    async def _ask_when_told(self) -> None:
        while True:
            await self._told.wait()
            # The server bears so many who ask, all of whom were told at once; the next sees what is left.
            await anyio.sleep(_ASKING_SECONDS * self._peers.index(self.name))
            self._told.clear()
            with contextlib.suppress(httpx.HTTPError):
                await self.get_and_submit_flow_runs()

    async def _submit_run(self, flow_run: FlowRun) -> None:
        """Take a run up and run it here; what comes of it is its state, which the engine tells the server.

        What a worker of Prefect's asks and tells besides is about the infrastructure of a run, and there is none.
        """
        try:
            if await self._propose_pending_state(flow_run):
                await self._run_and_settle(flow_run)
        finally:
            self._submitting_flow_run_ids.discard(flow_run.id)
            self._release_limit_slot(flow_run.id)

    async def _run_and_settle(self, flow_run: FlowRun) -> None:
        try:
            flow = await self._flow_of(flow_run)
        except Exception as error:
            await self._propose_crashed_state(flow_run, f"its flow cannot be loaded: {type(error).__name__}: {error}")
            return
        assert self._runs_task_group is not None
        self._runs_task_group.start_soon(self._give_worker_labels_to_flow_run, flow_run.id)
        await anyio.to_thread.run_sync(self._run_here, flow, flow_run)
        try:
            if flow_run.id in self._cancelled:
                await self._tell_of_cancelling(flow_run)
            elif self._is_stopping:
                await self._hand_back(flow_run.id, "its worker was stopped")
        except httpx.HTTPError:
            self._untold.add(flow_run.id)

    async def _flow_of(self, flow_run: FlowRun) -> Flow[..., Any]:
        """The flow of a run's deployment, which is loaded once in this process."""
        assert flow_run.deployment_id is not None
        if flow_run.deployment_id not in self._flows:
            flow: Flow[..., Any] = await load_flow_from_flow_run(flow_run, use_placeholder_flow=False)
            # What comes of it is in the stores. Where else it is kept the server would be asked in every run.
            self._flows[flow_run.deployment_id] = flow.with_options(
                persist_result=False, result_storage=Path(PREFECT_LOCAL_STORAGE_PATH.value())
            )
        return self._flows[flow_run.deployment_id]

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        """Note who runs a run, so that it is known whose runs are lost with this worker."""
        with contextlib.suppress(httpx.HTTPError):
            await super()._give_worker_labels_to_flow_run(flow_run_id)

    def _run_here(self, flow: Flow[..., Any], flow_run: FlowRun) -> None:
        async def main() -> None:
            task = asyncio.current_task()
            assert task is not None
            self._running[flow_run.id] = asyncio.get_running_loop(), task
            try:
                outcome = run_flow(flow, flow_run=flow_run, return_type="state")
                if asyncio.iscoroutine(outcome):
                    await outcome
            finally:
                del self._running[flow_run.id]

        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            # The engine has told the server of it.
            self._logger.debug("run %s was ended", flow_run.id)
        except Exception:
            self._untold.add(flow_run.id)
            self._logger.warning("what came of run %s could not be told", flow_run.id, exc_info=True)

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Take up what waits, as far as there is room; where there is none the server is not asked."""
        if self._is_stopping or not self.limiter.available_tokens:
            return []
        return await super().get_and_submit_flow_runs()

    async def _get_scheduled_flow_runs(self) -> list[WorkerFlowRunResponse]:
        """The runs that wait, from this worker's place on: workers that ask at once are not to want the same."""
        runs = await super()._get_scheduled_flow_runs()
        first = self._peers.index(self.name) % max(1, len(runs))
        return runs[first:] + runs[:first]

    def _release_limit_slot(self, flow_run_id: UUID) -> None:
        """Make room, and have it taken: a run is over, or another worker was quicker to take it up."""
        super()._release_limit_slot(flow_run_id)
        self._told.set()

    async def teardown(self, *exc_info: Any) -> None:
        """End, and leave the list of workers, on which one that is lost stays for half a minute."""
        path = {"work_pool_name": self._work_pool_name, "name": self.name}
        with contextlib.suppress(httpx.HTTPError):
            await self.client.request("DELETE", "/work_pools/{work_pool_name}/workers/{name}", path_params=path)  # type: ignore[arg-type]
        await super().teardown(*exc_info)

    async def sync_with_backend(self) -> None:
        """Tell that this worker is alive, end the runs that were cancelled, and take over those of lost workers."""
        await super().sync_with_backend()
        await self._end_cancelled()
        await self._tell_again()
        await self._take_over()

    async def _end_cancelled(self) -> None:
        if not self._running:
            return
        cancelling = FlowRunFilter(
            id=FlowRunFilterId(any_=list(self._running)),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLING])),
        )
        for run in await self.client.read_flow_runs(flow_run_filter=cancelling):
            self._cancelled.add(run.id)
            self._end(run.id)

    async def _tell_again(self) -> None:
        """Have runs run again that the server takes for running: what they recorded is known, so they soon end. Those
        that were to be cancelled are."""
        for each in list(self._untold):
            run = await self.client.read_flow_run(each)
            if each in self._cancelled:
                await self._tell_of_cancelling(run)
            elif run.state is not None and not run.state.is_final():
                await self._hand_back(each, "the server could not be told what came of it")
            self._untold.discard(each)

    async def _tell_of_cancelling(self, flow_run: FlowRun) -> None:
        await self._mark_flow_run_as_cancelled(flow_run)
        self._cancelled.discard(flow_run.id)

    def _end(self, flow_run_id: UUID) -> None:
        if (running := self._running.get(flow_run_id)) is not None:
            loop, task = running
            loop.call_soon_threadsafe(task.cancel)

    async def _take_over(self) -> None:
        """Schedule the runs anew whose worker gives no sign of life; the first worker by name does that for all."""
        workers = await self.client.read_workers_for_work_pool(self._work_pool_name)
        alive = {worker.name for worker in workers if worker.status == WorkerStatus.ONLINE}
        plans = self._queue == QUERIES
        self._peers = sorted({self.name, *(name for name in alive if is_for_queries(name) == plans)})
        if self.name != min(alive, default=None):
            return
        under_way = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNDER_WAY)))
        here = WorkPoolFilter(name=WorkPoolFilterName(any_=[self._work_pool_name]))
        for run in await self.client.read_flow_runs(flow_run_filter=under_way, work_pool_filter=here):
            by = run.labels.get("prefect.worker.name")
            assert run.state is not None
            is_named = by is not None or now() - run.state.timestamp > _NAMED_WITHIN
            if by in alive or not is_named:
                continue
            if run.state.type == StateType.CANCELLING:
                await self._mark_flow_run_as_cancelled(run)
            else:
                await self._hand_back(run.id, f"its worker {by} was lost")

    async def _hand_back(self, flow_run_id: UUID, why: str) -> None:
        self._logger.info("run %s is scheduled anew: %s", flow_run_id, why)
        await self.client.set_flow_run_state(flow_run_id, AwaitingRetry(message=why), force=True)

    def end_all(self) -> None:
        """End every run, for another worker to take up."""
        self._is_stopping = True
        for each in list(self._running):
            self._end(each)


async def serve(pool: str, queue: str, name: str) -> None:
    """Serve a queue of a pool until this process is told to end."""
    wanted = _SETTINGS | few_certificates(PREFECT_API_URL.value(), current_settings())
    given = {setting: value for setting, value in wanted.items() if setting.name not in os.environ}
    with temporary_settings(given):
        # One that is started anew is another worker: what the former had under way is lost.
        worker = WarmWorker(pool, queue, f"{name}-{uuid4().hex[:_ANEW]}")
        serving = asyncio.ensure_future(worker.start())

    def end() -> None:
        worker.end_all()
        serving.cancel()

    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, end)
    try:
        await serving
    except asyncio.CancelledError:
        pass
    finally:
        stop_hosts()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", choices=sorted(POOLS), required=True)
    parser.add_argument("--queue", choices=sorted(LIMITS), default=EVALUATIONS)
    parser.add_argument("--name", default=socket.gethostname())
    options = parser.parse_args()
    name = name_of_worker(options.name, options.queue)
    try:
        serve_metrics(options.pool, name)
    except StoreError as error:
        sys.exit(str(error))
    asyncio.run(serve(options.pool, options.queue, name))


if __name__ == "__main__":
    main()
