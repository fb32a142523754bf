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
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelled, Cancelling

from flows.computing import HOSTS_BY_START, Work
from flows.evaluate import LABELS, TAG
from flows.needless import Needless
from flows.pools import POOLS, pool_for, workers_up
from shiftql.assignments import Assignment
from shiftql.plan import PlannedEvaluation
from shiftql.progress import progress
from storage.database import Database
from storage.evaluations import Measurement, Subject
from storage.results import ResultStore
from tasks.sources import HOSTS

_POLL_SECONDS = 0.5
_LOOK_FOR_WORKERS_SECONDS = 5.0
# A run costs about a second besides its work. Each worker gets its share in several runs, so that those that turn out
# to be quick get more of it.
_LEAST_SECONDS = 2.0
_RUNS_FOR_EACH = 2
# Prefect takes half a megabyte of parameters.
_MOST_BYTES = 250_000
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
    sources: dict[Subject, str | None] = {}
    for each in assignment.embeddings:
        seconds = each.row_cost.seconds * each.new_rows + (each.opening_seconds if each.new_rows else 0.0)
        embedding[each.model] = embedding.get(each.model, 0.0) + seconds
        sources[each.model] = each.source

    def framework(model: Subject) -> int:
        source = sources.get(model) or next((p.source for p in by_model[model] if p.source), None)
        return HOSTS_BY_START.index(None if source is None else HOSTS[source])

    for model in sorted(by_model, key=framework):
        of_model = by_model[model]
        seconds = embedding.get(model, 0.0) + sum(planned.cost.seconds for planned in of_model)
        yield Batch(tuple(planned.evaluation.fingerprint for planned in of_model), seconds)


def next_batch(batches: Sequence[Batch], workers: int) -> Batch:
    """The first of some batches, as many together as are a run's share of all of them.

    However little they are expected to take, no run has more of them than every worker could have.
    """
    workers = max(1, workers)
    share = max(_LEAST_SECONDS, sum(batch.seconds for batch in batches) / (_RUNS_FOR_EACH * workers))
    fingerprints: list[str] = []
    seconds = 0.0
    for batch in batches[: math.ceil(len(batches) / workers)]:
        if fingerprints and seconds + batch.seconds > share:
            break
        fingerprints += batch.fingerprints
        seconds += batch.seconds
    return Batch(tuple(fingerprints), seconds)


@dataclass(frozen=True)
class Errand:
    """A run that computes some evaluations, in a pool."""

    pool: str
    fingerprints: frozenset[str]


class Spread:
    """Hands the evaluations of an assignment out to workers until all are recorded; see flows.computing.Computation.

    The run of this flow may be taken up by another worker when its own is lost: the runs it had started are found again
    by their tag.
    """

    def __init__(self, assignment: Assignment, database: Database, work: Work, needless: Needless) -> None:
        self._assignment = assignment
        self._results = ResultStore(database)
        self._work = work
        self._needless = needless
        self._planned = {planned.evaluation.fingerprint: planned for planned in assignment.evaluations}
        self._left = dict(self._planned)
        self._busy: set[str] = set()
        self._errands: dict[UUID, Errand] = {}
        # How often evaluations were handed out in vain, and why.
        self._tries: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._workers: Mapping[str, set[str]] = {}
        self._looked = float("-inf")
        self._tag = f"{TAG}{flow_run.id}"
        self._noted = False

    async def run(self) -> None:
        """Return when everything is recorded. Runs that are not needed any more, or not waited for, are cancelled."""
        async with get_client() as client:
            await self._find_again(client)
            try:
                while await asyncio.to_thread(self._take_note):
                    with self._outlasting():
                        await self._hand_out(client)
                    await asyncio.sleep(_POLL_SECONDS)
                    with self._outlasting():
                        await self._look(client)
                # They tell what they did as they end.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORDS_SECONDS):
                        while self._errands and not self._needless.fingerprints & self._under_way():
                            await asyncio.sleep(_POLL_SECONDS)
                            await self._look(client)
            finally:
                # What has recorded everything only has to say so.
                cancelled = [each for each, errand in self._errands.items() if self._is_unsettled(errand)]
                if cancelled:
                    await asyncio.shield(_cancel(cancelled))

    @contextlib.contextmanager
    def _outlasting(self) -> Iterator[None]:
        """Let a server be away for a while: what is handed out goes on without it."""
        try:
            yield
            self._reached = time.monotonic()
        except httpx.HTTPError:
            if time.monotonic() - self._reached > _LONGEST_OUTAGE_SECONDS:
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
        """Start as many runs as workers are free, and one for whoever is free next."""
        if time.monotonic() - self._looked > _LOOK_FOR_WORKERS_SECONDS:
            self._looked = time.monotonic()
            self._workers = await workers_up(client)
            self._say_that_nobody_works()
        workers = {pool: len(names) for pool, names in self._workers.items()}
        free = set(self._left) - self._under_way() - self._busy
        given_up = {each for each in free if self._tries[each] >= _TRIES}
        await asyncio.to_thread(self._give_up, given_up)
        while free := free - given_up:
            out = Counter(errand.pool for errand in self._errands.values())
            room = {pool: number + 1 - out[pool] if number else 0 for pool, number in workers.items()}
            batches = list(batches_of(self._assignment.of(free)))
            pool = next(filter(None, (pool_for(self._methods(batch), room, workers) for batch in batches)), None)
            if pool is None:
                return
            there = [batch for batch in batches if pool_for(self._methods(batch), {pool: 1}, workers) == pool]
            chosen = next_batch(there, sum(workers.values()))
            await self._start(client, pool, chosen)
            free -= set(chosen.fingerprints)

    def _methods(self, batch: Batch) -> set[str]:
        return {self._planned[each].evaluation.method for each in batch.fingerprints}

    async def _start(self, client: PrefectClient, pool: str, batch: Batch) -> None:
        part = self._assignment.of(batch.fingerprints)
        while len(json.dumps(written := part.json)) > _MOST_BYTES and len(part.evaluations) > 1:
            half = [evaluation.fingerprint for evaluation in part.new_evaluations[: len(part.evaluations) // 2]]
            part = self._assignment.of(half)
        fingerprints = frozenset(evaluation.fingerprint for evaluation in part.new_evaluations)
        started = await arun_deployment(
            f"evaluate/{pool}",
            client=client,
            parameters={"title": _title(part), "assignment": written},
            timeout=0,
            tags=[self._tag],
        )
        self._errands[started.id] = Errand(pool, fingerprints)

    async def _find_again(self, client: PrefectClient) -> None:
        """Take up the runs that an earlier attempt at this run started."""
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[self._tag]), state=_UNFINISHED)
        for run in await client.read_flow_runs(flow_run_filter=tagged):
            assignment = Assignment.from_json(run.parameters["assignment"])
            fingerprints = frozenset(evaluation.fingerprint for evaluation in assignment.new_evaluations)
            self._errands[run.id] = Errand(str(run.work_pool_name), fingerprints)

    async def _look(self, client: PrefectClient) -> None:
        """Take note of the runs that have ended, and take back those that wait where nobody is left to take them."""
        if not self._errands:
            return
        ours = FlowRunFilter(id=FlowRunFilterId(any_=list(self._errands)))
        runs = {run.id: run for run in await client.read_flow_runs(flow_run_filter=ours)}
        for each in list(self._errands):
            run = runs.get(each)
            if run is None or run.state is None or run.state.is_final():
                self._ended(self._errands.pop(each), run)
            elif run.state.is_scheduled() and self._is_deserted(self._errands[each].pool):
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
                    waits = run.state.is_scheduled()
                    await client.set_flow_run_state(each, Cancelled() if waits else Cancelling(), force=waits)


def _title(assignment: Assignment) -> str:
    """What a run is called: its first evaluation, and how many more there are."""
    first, *more = assignment.new_evaluations
    beside = f" and {len(more)} more" if more else ""
    return f"{first.method} {first.model.name}{beside}"
