"""Spreading an assignment over the workers of the pools, some models at a time.

Results come back through the stores alone. Which runs are under way is Prefect's to know; who computes what is decided
by the claims of the result store, so that no run that is lost, or started twice, changes any answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import httpx
from prefect import Task
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelled, Cancelling, Pending

from flows.computing import HOSTS_BY_START, Work
from flows.evaluate import LABELS, TAG
from flows.needless import Needless
from flows.pools import POOLS, pool_for, workers_up
from shiftql.assignments import Assignment
from shiftql.plan import PlannedEvaluation
from shiftql.progress import progress
from storage.database import Database
from storage.errors import StoreError
from storage.evaluations import Measurement, Subject
from storage.results import ResultStore
from tasks.sources import HOSTS

# How often results are looked for; of many that takes long, and is done the less often.
_POLL_SECONDS = 0.2
# Of what is soon over it is looked for so often.
_SOON_SECONDS = 0.05
_WAIT_PER_SECOND = 10.0
# How often Prefect is asked what became of runs, whose results tell sooner, and which workers there are.
_LOOK_SECONDS = 2.0
_LOOK_FOR_WORKERS_SECONDS = 5.0
# A run costs about a second besides its work, most of it until a worker takes it up.
_LEAST_SECONDS = 2.0
_TAKING_UP_SECONDS = 1.0
# Prefect takes half a megabyte of parameters, which are two assignments at most.
_MOST_BYTES = 250_000
# And 100 runs at a time, which are as much as one request should hold.
_MOST_RUNS = 20
_TRIES = 3
_LAST_WORDS_SECONDS = 3.0
_LONGEST_OUTAGE_SECONDS = 600.0
_UNFINISHED = FlowRunFilterState(
    type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
)


@dataclass(frozen=True)
class Batch:
    """Evaluations of some models, in the order they are to be made, and the seconds that they are expected to take."""

    fingerprints: tuple[str, ...]
    seconds: float


def batches_of(assignment: Assignment) -> Iterator[Batch]:
    """The smallest batches of an assignment: all evaluations of a model are made together, as they share its features.

    Models of one framework follow one another: a worker starts each framework once.
    """
    by_model: dict[Subject, list[PlannedEvaluation]] = {}
    for planned in assignment.evaluations:
        by_model.setdefault(planned.evaluation.model, []).append(planned)
    embedding: dict[Subject, float] = {}
    for each in assignment.embeddings:
        seconds = each.row_cost.seconds * each.new_rows + (each.opening_seconds if each.new_rows else 0.0)
        embedding[each.model] = embedding.get(each.model, 0.0) + seconds
    hosts = hosts_by_model(assignment)
    for model in sorted(by_model, key=lambda model: HOSTS_BY_START.index(hosts.get(model))):
        of_model = by_model[model]
        seconds = embedding.get(model, 0.0) + sum(planned.cost.seconds for planned in of_model)
        yield Batch(tuple(planned.evaluation.fingerprint for planned in of_model), seconds)


def hosts_by_model(assignment: Assignment) -> dict[Subject, str | None]:
    """The host that each model of an assignment is opened in."""
    sources = {planned.evaluation.model: planned.source for planned in assignment.evaluations if planned.source}
    sources |= {embedding.model: embedding.source for embedding in assignment.embeddings}
    return {model: HOSTS[source] for model, source in sources.items()}


def next_batch(batches: Sequence[Batch], runs: int) -> Batch:
    """The first of some batches, as many together as are the share of one of so many runs.

    However little they are expected to take, no run has more of them than each could have.
    """
    share = max(_LEAST_SECONDS, sum(batch.seconds for batch in batches) / runs)
    fingerprints: list[str] = []
    seconds = 0.0
    for batch in batches[: math.ceil(len(batches) / runs)]:
        # As near to the share as whole models allow.
        if fingerprints and seconds + batch.seconds / 2 > share:
            break
        fingerprints += batch.fingerprints
        seconds += batch.seconds
    return Batch(tuple(fingerprints), seconds)


@dataclass(frozen=True)
class Errand:
    """A run that is to compute some evaluations, in a pool."""

    pool: str
    fingerprints: frozenset[str]


class Spread:
    """Hands the evaluations of an assignment out to workers until all are recorded; see flows.computing.Computation.

    Each worker gets one run, and whoever is done with its own half of what another has before it: both have it on their
    list then, and the claims of the result store decide.

    The run of this flow may be taken up by another worker when its own is lost: the runs it had started are found again
    by their tag.
    """

    def __init__(self, assignment: Assignment, database: Database, work: Work, needless: Needless) -> None:
        self._assignment = assignment
        self._results = ResultStore(database)
        self._work = work
        self._needless = needless
        self._planned = {planned.evaluation.fingerprint: planned for planned in assignment.evaluations}
        self._seconds = {
            fingerprint: batch.seconds / len(batch.fingerprints)
            for batch in batches_of(assignment)
            for fingerprint in batch.fingerprints
        }
        self._left = dict(self._planned)
        self._busy: set[str] = set()
        self._errands: dict[UUID, Errand] = {}
        # How often evaluations were handed out in vain, and why.
        self._tries: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._workers: Mapping[str, set[str]] = {}
        # When workers, and runs, were last looked for.
        self._counted = self._looked = float("-inf")
        self._tag = f"{TAG}{flow_run.id}"
        # What evaluates in each pool, and the task run that what it runs is shown below on the page of this run.
        self._deployments: dict[str, UUID] = {}
        self._parent: UUID | None = None
        self._noted = False

    async def run(self) -> None:
        """Return when everything is recorded. Runs that are not needed any more, or not waited for, are cancelled."""
        async with get_client() as client:
            await asyncio.gather(self._find_again(client), self._begin(client), self._find_workers(client))
            self._reached = time.monotonic()
            try:
                began = time.monotonic()
                while await asyncio.to_thread(self._take_note):
                    pause = max(self._pause(), _WAIT_PER_SECOND * (time.monotonic() - began))
                    with self._outlasting():
                        await self._hand_out(client)
                    await asyncio.sleep(pause)
                    if time.monotonic() - self._looked > _LOOK_SECONDS:
                        with self._outlasting():
                            await self._look(client)
                    began = time.monotonic()
                # They tell what they did as they end.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORDS_SECONDS):
                        while self._errands and not self._needless.fingerprints & self._under_way():
                            await asyncio.sleep(_SOON_SECONDS)
                            await self._look(client)
            finally:
                # What has recorded everything only has to say so.
                cancelled = [each for each, errand in self._errands.items() if self._is_unsettled(errand)]
                if cancelled:
                    await asyncio.shield(_cancel(cancelled))

    def _pause(self) -> float:
        """How long to wait for results: what is all expected soon is looked for the more often."""
        expected = sum(self._seconds[each] for each in self._left)
        return min(_POLL_SECONDS, max(_SOON_SECONDS, expected / _WAIT_PER_SECOND))

    @contextlib.contextmanager
    def _outlasting(self) -> Iterator[None]:
        """Let a server be away for a while: what is handed out goes on without it. One that refuses always will."""
        try:
            yield
        except httpx.HTTPError as error:
            is_refused = isinstance(error, httpx.HTTPStatusError) and error.response.is_client_error
            if is_refused or time.monotonic() - self._reached > _LONGEST_OUTAGE_SECONDS:
                raise

    def _take_note(self) -> bool:
        """Take what is recorded off the list, and see what of the rest somebody computes; whether there is any rest."""
        under_way = self._under_way()
        for fingerprint, outcome in self._results.outcomes(self._left).items():
            # A failure that may pass is tried once more; whether one is new is known once its run is over.
            if not outcome.transient or (self._tries[fingerprint] and fingerprint not in under_way):
                self._settled(fingerprint, outcome)
        for fingerprint in self._needless.fingerprints & set(self._left):
            del self._left[fingerprint]
        self._busy = self._results.claimed(self._left)
        return bool(self._left)

    def _settled(self, fingerprint: str, outcome: Measurement) -> None:
        planned = self._left.pop(fingerprint)
        self._work.computed.append(fingerprint)
        self._needless.tell({fingerprint: outcome})
        progress.get().advance(f"{planned.evaluation.method} {planned.evaluation.model.name}")

    def _under_way(self) -> set[str]:
        return set().union(*(errand.fingerprints for errand in self._errands.values()))

    async def _hand_out(self, client: PrefectClient) -> None:
        """Start a run for each worker that has none, or is soon done with it."""
        if time.monotonic() - self._counted > _LOOK_FOR_WORKERS_SECONDS:
            await self._find_workers(client)
        room = self._room()
        chosen: list[tuple[str, Batch]] = []
        free = set(self._left) - self._under_way() - self._busy
        given_up = {each for each in free if self._tries[each] >= _TRIES}
        await asyncio.to_thread(self._give_up, given_up)
        while free := free - given_up:
            batches = list(batches_of(self._assignment.of(free)))
            pool = next(filter(None, (self._pool(batch.fingerprints, room) for batch in batches)), None)
            if pool is None:
                break
            there = [batch for batch in batches if self._pool(batch.fingerprints, {pool: 1})]
            takers = [each for each in room if self._pool(there[0].fingerprints, {each: 1})]
            batch = next_batch(there, sum(room[each] for each in takers))
            chosen.append((pool, batch))
            room[pool] -= 1
            free -= set(batch.fingerprints)
        handed_out = [
            (pool, batch, self._to_help(pool, batch, chosen[number - 1][1]))
            for number, (pool, batch) in enumerate(chosen)
        ]
        for pool in room:
            while room[pool] and (half := self._take_half(pool)):
                handed_out.append((pool, half, None))
                room[pool] -= 1
        for pool in room:
            await self._start(client, pool, [(batch, then) for each, batch, then in handed_out if each == pool])

    def _to_help(self, pool: str, batch: Batch, other: Batch) -> Assignment | None:
        """What a run in a pool, when it is done with a batch, may do of another's: its last first, and what is opened
        in a framework that is loaded then."""
        if other is batch:
            return None
        part = self._assignment.of(other.fingerprints)
        loaded, needed = set(hosts_by_model(self._assignment.of(batch.fingerprints)).values()), hosts_by_model(part)
        helped = tuple(
            each
            for each in part.evaluations[::-1]
            if needed.get(each.evaluation.model) in loaded and self._pool([each.evaluation.fingerprint], {pool: 1})
        )
        return fitting(replace(part, evaluations=helped)) if helped else None

    def _room(self) -> dict[str, int]:
        """How many more runs each pool takes. No more than one waits for a worker, however soon all are expected to be
        done."""
        out: Counter[str] = Counter()
        busy: Counter[str] = Counter()
        for errand in self._errands.values():
            left = errand.fingerprints & self._left.keys()
            out[errand.pool] += bool(left)
            busy[errand.pool] += sum(self._seconds[each] for each in left) >= _TAKING_UP_SECONDS
        return {
            pool: max(0, min(len(names) + 1 - out[pool], len(names) - busy[pool]))
            for pool, names in self._workers.items()
        }

    def _take_half(self, pool: str) -> Batch | None:
        """The latter half of what a run has before it, for a worker of a pool; None where no run has enough."""
        halved, before_it = None, Batch((), 0.0)
        for each, errand in self._errands.items():
            untouched = (errand.fingerprints & self._left.keys()) - self._busy
            fit = tuple(fingerprint for fingerprint in untouched if self._pool([fingerprint], {pool: 1}))
            seconds = sum(self._seconds[fingerprint] for fingerprint in fit)
            if seconds > before_it.seconds:
                halved, before_it = each, Batch(fit, seconds)
        batches = list(batches_of(self._assignment.of(before_it.fingerprints)))
        if halved is None or before_it.seconds < 2 * _LEAST_SECONDS or len(batches) == 1:
            return None
        half = next_batch(batches[::-1], 2)
        errand = self._errands[halved]
        self._errands[halved] = replace(errand, fingerprints=errand.fingerprints - set(half.fingerprints))
        return half

    def _pool(self, fingerprints: Iterable[str], room: Mapping[str, int]) -> str | None:
        """The pool with room for evaluations, if there is one."""
        methods = {self._planned[each].evaluation.method for each in fingerprints}
        return pool_for(methods, room, {pool: len(names) for pool, names in self._workers.items()})

    async def _start(
        self, client: PrefectClient, pool: str, batches: Sequence[tuple[Batch, Assignment | None]]
    ) -> None:
        """Start runs in a pool, all at once: who is told of the first asks so much that others would be late.

        Raises StoreError where the server does not take one.
        """
        parts = [(fitting(self._assignment.of(batch.fingerprints)), then) for batch, then in batches]
        for start in range(0, len(parts), _MOST_RUNS):
            some = parts[start : start + _MOST_RUNS]
            response = await client.request(
                "POST",
                "/deployments/{id}/create_flow_run/bulk",  # type: ignore[arg-type]
                path_params={"id": str(self._deployments[pool])},
                json=[
                    {
                        "name": _title(part),
                        "parameters": {"assignment": part.json, "then": then and then.json},
                        "tags": [self._tag],
                        "parent_task_run_id": str(self._parent),
                    }
                    for part, then in some
                ],
            )
            for (part, _), result in zip(some, response.json()["results"], strict=True):
                if result["error"] is not None:
                    raise StoreError(f"Prefect's server takes no run: {result['error']}", subject=_title(part))
                fingerprints = frozenset(evaluation.fingerprint for evaluation in part.new_evaluations)
                self._errands[UUID(result["flow_run_id"])] = Errand(pool, fingerprints)

    async def _find_workers(self, client: PrefectClient) -> None:
        self._counted = time.monotonic()
        self._workers = await workers_up(client)
        self._reached = time.monotonic()
        missing = [pool for pool, names in self._workers.items() if names and pool not in self._deployments]
        for pool in missing:
            self._deployments[pool] = (await client.read_deployment_by_name(f"evaluate/{pool}")).id
        self._say_that_nobody_works()

    async def _begin(self, client: PrefectClient) -> None:
        """Have a place on the page of this run for those that it starts; the same where it was begun before."""
        place = Task(lambda: None, name="evaluations")
        run = UUID(str(flow_run.id))
        self._parent = (await client.create_task_run(place, run, dynamic_key="evaluations", state=Pending())).id

    async def _find_again(self, client: PrefectClient) -> None:
        """Take up the runs that an earlier attempt at this run started."""
        if flow_run.run_count == 1:
            return
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[self._tag]), state=_UNFINISHED)
        for run in await client.read_flow_runs(flow_run_filter=tagged):
            assignment = Assignment.from_json(run.parameters["assignment"])
            fingerprints = frozenset(evaluation.fingerprint for evaluation in assignment.new_evaluations)
            self._errands[run.id] = Errand(str(run.work_pool_name), fingerprints)

    async def _look(self, client: PrefectClient) -> None:
        """Take note of the runs that have ended, and take back those that wait in vain."""
        self._looked = time.monotonic()
        if not self._errands:
            return
        ours = FlowRunFilter(id=FlowRunFilterId(any_=list(self._errands)))
        runs = {run.id: run for run in await client.read_flow_runs(flow_run_filter=ours)}
        self._reached = time.monotonic()
        for each, errand in list(self._errands.items()):
            run = runs.get(each)
            if run is None or run.state is None or run.state.is_final():
                self._ended(self._errands.pop(each), run)
            elif run.state.is_scheduled() and (
                self._is_deserted(errand.pool) or errand.fingerprints.isdisjoint(self._left)
            ):
                del self._errands[each]
                await _cancel([each])

    def _is_deserted(self, pool: str) -> bool:
        """Whether a pool has no worker, and another has."""
        return not self._workers.get(pool) and any(self._workers.values())

    def _ended(self, errand: Errand, run: FlowRun | None) -> None:
        self._tries.update(errand.fingerprints & set(self._left))
        if run is None or run.state is None:
            return
        for name, label in LABELS.items():
            setattr(self._work, name, getattr(self._work, name) + int(run.labels.get(label, 0)))  # type: ignore[arg-type]
        if not run.state.is_completed():
            self._reasons |= dict.fromkeys(errand.fingerprints, f"{run.state.name}: {run.state.message}")

    def _give_up(self, fingerprints: Collection[str]) -> None:
        """Record that evaluations were handed out several times and never came back; asking again tries again."""
        for fingerprint in fingerprints:
            claim = self._results.claim(self._planned[fingerprint].evaluation)
            if claim is not None:
                reason = f"{_TRIES} times nothing came of it: {self._reasons.get(fingerprint, 'none says why')}"
                failure = Measurement(status="failed", cost_seconds=0.0, reason=reason, transient=True)
                self._results.record(claim, failure)

    def _say_that_nobody_works(self) -> None:
        if not any(self._workers.values()) and not self._noted:
            self._noted = True
            progress.get().note(
                f"no worker serves the pools {' and '.join(POOLS)}: start one with 'shiftql up'; the query waits for it"
            )

    def _is_unsettled(self, errand: Errand) -> bool:
        return not errand.fingerprints <= set(self._work.computed)


async def _cancel(runs: Collection[UUID]) -> None:
    """Cancel runs: at once where they wait, and by their workers where they run."""
    async with get_client() as client:
        for each in runs:
            with contextlib.suppress(ObjectNotFound):
                run = await client.read_flow_run(each)
                if run.state is not None and not run.state.is_final():
                    # One that a worker has just taken up is not looked for among those that run.
                    waits = run.state.is_scheduled() or run.state.is_pending()
                    await client.set_flow_run_state(each, Cancelled() if waits else Cancelling(), force=waits)


def fitting(part: Assignment) -> Assignment:
    """As much of it, from its first on, as Prefect takes as a parameter."""
    while len(json.dumps(part.json)) > _MOST_BYTES and len(part.evaluations) > 1:
        half = part.new_evaluations[: len(part.evaluations) // 2]
        part = part.of([evaluation.fingerprint for evaluation in half])
    return part


def _title(assignment: Assignment) -> str:
    """What a run is called: its first evaluation, and how many more there are."""
    first, *more = assignment.new_evaluations
    beside = f" and {len(more)} more" if more else ""
    return f"{first.method} {first.model.name}{beside}"
