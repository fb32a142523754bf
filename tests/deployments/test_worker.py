"""Queries on warm workers: the same answer as embedded, whoever is lost or cancelled meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import arun_deployment
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_WORKER_HEARTBEAT_SECONDS,
    PREFECT_WORKER_QUERY_SECONDS,
    temporary_settings,
)
from prefect.states import Cancelling, Running
from sqlalchemy import delete
from sqlmodel import select

from deployments.deploy import deploy
from deployments.worker import WarmWorker
from flows import computing, spread
from flows.evaluate import evaluate
from shiftql.answering import look_up
from shiftql.answers import RankingAnswer
from shiftql.assignments import Assignment, assignment_of
from shiftql.binder import bind
from shiftql.engine import query
from shiftql.parser import parse
from shiftql.plan import Rank, Step
from shiftql.preparation import prepare
from storage.database import Database
from storage.results import EvaluationRecord, ResultStore
from storage.settings import current_settings

NATURE = "TRAINED ON 'nature-train' TESTED ON 'nature-test'"
LINEAR = f"SELECT * FROM text_models ORDER BY Linear {NATURE}"
_PATIENCE_SECONDS = 120.0


@pytest.fixture
def deployed(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything deployed, and nobody patient."""
    deploy(str(PREFECT_API_URL.value()), lambda change: None)
    monkeypatch.setattr(spread, "_POLL_SECONDS", 0.2)
    monkeypatch.setattr(spread, "_LOOK_FOR_WORKERS_SECONDS", 1.0)
    monkeypatch.setattr(spread, "_LEAST_SECONDS", 0.0)


@contextlib.asynccontextmanager
async def working(*workers: WarmWorker, looking_every: float = 0.5) -> AsyncIterator[None]:
    with temporary_settings({PREFECT_WORKER_QUERY_SECONDS: looking_every}):
        serving = [asyncio.create_task(worker.start(printer=lambda _: None)) for worker in workers]
    try:
        yield
    finally:
        for worker in workers:
            worker.end_all()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def both(name: str) -> tuple[WarmWorker, WarmWorker]:
    """One that plans, and one that computes."""
    with temporary_settings({PREFECT_WORKER_HEARTBEAT_SECONDS: 1.0}):
        return WarmWorker("cpu", "queries", f"{name}-queries"), WarmWorker("cpu", "evaluations", f"{name}-evaluations")


async def until(met: Callable[[], Awaitable[Any]]) -> Any:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not (found := await met()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    return found


async def ended(client: PrefectClient, run: UUID) -> FlowRun:
    async def final() -> FlowRun | None:
        found = await client.read_flow_run(run)
        return found if found.state is not None and found.state.is_final() else None

    return await until(final)


async def handed_out_by(client: PrefectClient, run: UUID) -> list[FlowRun]:
    return await client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[f"of-{run}"])))


async def trigger(client: PrefectClient, statement: str = LINEAR) -> UUID:
    return (await arun_deployment("search/search", client, {"statement": statement}, timeout=0)).id


def ask() -> RankingAnswer:
    answer = query(LINEAR)
    assert isinstance(answer, RankingAnswer)
    return answer


def forget() -> None:
    with Database(current_settings()).session() as session:
        session.exec(delete(EvaluationRecord))  # type: ignore[call-overload]
        session.commit()


def tokens() -> set[int]:
    with Database(current_settings()).session() as session:
        return set(session.exec(select(EvaluationRecord.token)))


def test_workers_answer_as_one_process_does_and_compute_everything_once(deployed: None) -> None:
    embedded = ask()
    forget()

    async def run() -> tuple[FlowRun, list[FlowRun]]:
        async with get_client() as client, working(*both("a"), WarmWorker("cpu", "evaluations", "b")):
            run = await ended(client, await trigger(client))
            return run, [await ended(client, each.id) for each in await handed_out_by(client, run.id)]

    run, handed_out = asyncio.run(run())
    assert run.state_name == "Completed", run.state
    assert {each.work_queue_name for each in handed_out} == {"evaluations"}
    # Who is done helps the other, whose run may not have begun.
    assert {each.state_name for each in handed_out} <= {"Completed", "Cancelled"}
    again = ask()
    assert again.ranking == embedded.ranking
    assert again.evaluated == 0
    assert tokens() == {1}


def test_who_comes_late_takes_half_of_what_another_has_before_it(
    deployed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_begin = threading.Event()
    evaluate_models = computing.Computation._evaluate

    async def begin(self: computing.Computation, *of_a_model: Any) -> Any:
        while not may_begin.is_set():
            await asyncio.sleep(0.05)
        return await evaluate_models(self, *of_a_model)

    monkeypatch.setattr(computing.Computation, "_evaluate", begin)

    async def run() -> tuple[FlowRun, list[FlowRun]]:
        async with get_client() as client, working(*both("a")):
            run = await trigger(client)

            async def running(number: int) -> bool:
                states = [each.state_name for each in await handed_out_by(client, run)]
                return states.count("Running") == number

            await until(lambda: running(1))
            async with working(WarmWorker("cpu", "evaluations", "late")):
                await until(lambda: running(2))
                may_begin.set()
                return await ended(client, run), await handed_out_by(client, run)

    run, handed_out = asyncio.run(run())
    assert run.state_name == "Completed", run.state
    lists = [evaluations_of(each) for each in handed_out]
    assert sum(map(len, lists)) > len(set().union(*lists))
    assert ask().evaluated == 0
    assert tokens() == {1}


def evaluations_of(run: FlowRun) -> set[str]:
    assignment = Assignment.from_json(run.parameters["assignment"])
    return {evaluation.fingerprint for evaluation in assignment.new_evaluations}


def test_what_waits_is_taken_up_as_soon_as_there_is_room(deployed: None) -> None:
    assignment = assignment_of(planned(LINEAR)).json

    async def run() -> list[str | None]:
        async with get_client() as client:
            runs = [
                (await arun_deployment("evaluate/cpu", client, {"assignment": assignment}, timeout=0)).id
                for _ in range(2)
            ]
            async with working(WarmWorker("cpu", "evaluations", "b"), looking_every=3600.0):
                return [(await ended(client, each)).state_name for each in runs]

    assert asyncio.run(run()) == ["Completed", "Completed"]


def test_a_run_is_taken_up_as_soon_as_it_is_handed_out(deployed: None) -> None:
    ask()

    async def run() -> FlowRun:
        planning, _ = both("a")
        async with get_client() as client, working(planning, looking_every=3600.0):
            return await ended(client, await trigger(client))

    assert asyncio.run(run()).state_name == "Completed"


def test_a_worker_that_is_stopped_is_off_the_list(deployed: None) -> None:
    async def run() -> set[str]:
        worker = WarmWorker("cpu", "evaluations", "b")

        async def is_up() -> bool:
            return worker.is_setup

        async with working(worker):
            await until(is_up)
        async with get_client() as client:
            return {each.name for each in await client.read_workers_for_work_pool("cpu")}

    assert "b" not in asyncio.run(run())


def test_a_worker_without_room_does_not_ask_for_work(deployed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def look(worker: WarmWorker) -> list[Any]:
        asked.append(worker.name)
        return []

    monkeypatch.setattr(WarmWorker, "_get_scheduled_flow_runs", look)

    async def run() -> None:
        async with WarmWorker("cpu", "evaluations", "b") as worker:
            asked.clear()
            worker.limiter.acquire_on_behalf_of_nowait("a run")
            await worker.get_and_submit_flow_runs()
            assert asked == []
            worker.limiter.release_on_behalf_of("a run")
            await worker.get_and_submit_flow_runs()
            assert asked

    asyncio.run(run())


def test_the_runs_of_a_lost_worker_are_taken_over(deployed: None) -> None:
    async def run() -> FlowRun:
        async with get_client() as client:
            lost = await trigger(client)
            await client.set_flow_run_state(lost, Running(), force=True)
            await client.update_flow_run_labels(lost, {"prefect.worker.name": "lost"})
            async with working(*both("a")):
                return await ended(client, lost)

    run = asyncio.run(run())
    assert run.state_name == "Completed", run.state
    assert run.labels["prefect.worker.name"] == "a-queries"
    assert ask().evaluated == 0


def test_what_waits_where_nobody_is_left_goes_to_another_pool(deployed: None) -> None:
    async def run() -> tuple[FlowRun, list[FlowRun]]:
        async with get_client() as client, working(*both("a")):
            with temporary_settings({PREFECT_WORKER_HEARTBEAT_SECONDS: 1.0}):
                # It is there, and takes nothing.
                idle = WarmWorker("gpu", "queries", "idle")
            async with working(idle):
                run = await trigger(client)

                async def waits() -> bool:
                    return any(each.work_pool_name == "gpu" for each in await handed_out_by(client, run))

                await until(waits)
            return await ended(client, run), await handed_out_by(client, run)

    run, handed_out = asyncio.run(run())
    assert run.state_name == "Completed"
    assert {each.state_name for each in handed_out if each.work_pool_name == "gpu"} == {"Cancelled"}
    assert ask().evaluated == 0


def test_a_run_whose_end_could_not_be_told_is_run_again(deployed: None) -> None:
    async def run() -> FlowRun:
        async with get_client() as client:
            planning, computing_one = both("a")
            untold = await trigger(client)
            await client.set_flow_run_state(untold, Running(), force=True)
            await client.update_flow_run_labels(untold, {"prefect.worker.name": planning.name})
            planning._untold.add(untold)
            async with working(planning, computing_one):
                return await ended(client, untold)

    assert asyncio.run(run()).state_name == "Completed"
    assert ask().evaluated == 0


def test_who_cancels_a_query_cancels_what_it_handed_out(deployed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing.Computation, "run", _for_ever)

    async def run() -> None:
        async with get_client() as client, working(*both("a")):
            run = await cancelled_as_it_runs(client)

            async def all_cancelled() -> bool:
                runs = [await client.read_flow_run(run), *await handed_out_by(client, run)]
                return {each.state_name for each in runs} == {"Cancelled"}

            await until(all_cancelled)

    asyncio.run(run())


def test_a_worker_outlasts_a_server_that_cannot_be_told_of_a_cancelled_run(
    deployed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computing.Computation, "run", _for_ever)
    away = [httpx.ConnectError("away")]

    planning, computing_one = both("a")
    tell = planning._mark_flow_run_as_cancelled

    async def tell_when_there(flow_run: FlowRun) -> None:
        if away:
            raise away.pop()
        await tell(flow_run)

    monkeypatch.setattr(planning, "_mark_flow_run_as_cancelled", tell_when_there)

    async def run() -> set[str]:
        async with get_client() as client, working(planning, computing_one):
            run = await cancelled_as_it_runs(client)

            async def is_cancelled() -> bool:
                return (await client.read_flow_run(run)).state_name == "Cancelled"

            await until(is_cancelled)
            return {worker.name for worker in await client.read_workers_for_work_pool("cpu")}

    workers = asyncio.run(run())
    assert not away
    assert planning.name in workers


def test_a_query_whose_runs_the_server_refuses_fails_and_says_so(
    deployed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "_title", lambda _: ["no", "name"])

    async def run() -> FlowRun:
        async with get_client() as client, working(*both("a")):
            return await ended(client, await trigger(client))

    refused = asyncio.run(run())
    assert refused.state_name == "Failed"
    assert refused.state is not None
    assert "422" in str(refused.state.message)


async def cancelled_as_it_runs(client: PrefectClient) -> UUID:
    """A query of which something is computed, and which is to be cancelled from now on."""
    run = await trigger(client)

    async def computing_it() -> bool:
        return any(each.state_name == "Running" for each in await handed_out_by(client, run))

    await until(computing_it)
    await client.set_flow_run_state(run, Cancelling())
    return run


async def _for_ever(_: computing.Computation) -> None:
    await asyncio.Event().wait()


def test_what_never_comes_back_is_said_to_fail(deployed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing.Computation, "run", _nothing)
    monkeypatch.setattr(spread, "_TRIES", 1)

    async def run() -> FlowRun:
        async with get_client() as client, working(*both("a")):
            return await ended(client, await trigger(client))

    asyncio.run(run())
    with Database(current_settings()).session() as session:
        reasons = set(session.exec(select(EvaluationRecord.reason)))
    assert len(reasons) == 1
    assert "1 times nothing came of it" in str(reasons)


async def _nothing(_: computing.Computation) -> None:
    return None


def test_who_is_done_goes_on_with_what_nobody_began_of_anothers(deployed: None) -> None:
    whole = assignment_of(planned(LINEAR))
    first, begun, *others = [evaluation.fingerprint for evaluation in whole.new_evaluations]
    results = ResultStore(Database(current_settings()))
    claim = results.claim(next(each for each in whole.new_evaluations if each.fingerprint == begun))
    assert claim is not None
    asyncio.run(evaluate(whole.of([first]).json, whole.of([begun, *others]).json))
    assert results.outcomes([first, begun, *others]).keys() == {first, *others}
    assert results.holds(claim)


def test_what_others_compute_is_left_to_whoever_handed_it_out(deployed: None) -> None:
    ask()
    results = ResultStore(Database(current_settings()))
    with Database(current_settings()).session() as session:
        for record in session.exec(select(EvaluationRecord)):
            record.status, record.owner, record.heartbeat = "claimed", "them", time.time() + 3600
            session.add(record)
        session.commit()
    assignment = assignment_of(planned(LINEAR))
    fingerprints = {evaluation.fingerprint for evaluation in assignment.new_evaluations}
    assert results.claimed(fingerprints) == fingerprints
    asyncio.run(evaluate(assignment.json))
    assert results.claimed(fingerprints) == fingerprints


def planned(text: str) -> Step:
    statement, *_ = parse(text)
    database = Database(current_settings())
    plan = prepare(bind(statement, database, text, {}, look_up(database)), database)
    assert isinstance(plan, Rank)
    return plan
