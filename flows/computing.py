"""Computing what is new of a step of a question: here, and each evaluation by one of many who ask for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import ChainMap
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import Any

from prefect import get_run_logger
from prefect.runtime import deployment, flow_run

from flows.learning import Pass, learn
from flows.needless import Needless
from flows.slots import Slots, hosts_of
from flows.starting import has_trained
from shiftql.assignments import Assignment, assignment_of
from shiftql.history import FULL
from shiftql.plan import Embedding, Step
from shiftql.preparation import missing_rows
from shiftql.progress import progress
from storage.baselines import MAJORITY_METHOD
from storage.database import Database
from storage.errors import EvaluationError, LostFeaturesError, ShiftError
from storage.evaluations import Evaluation, Measurement, Subject
from storage.events import tell
from storage.eviction import evict_features
from storage.results import Claim, ResultStore
from storage.settings import current_settings
from storage.turns import Turns
from storage.views import View
from tasks.host import host, stop_hosts
from tasks.sources import HOSTS
from tasks.stages import classify, embed, embed_task, finetune, majority

# How soon hosts are up: models of the first are embedded while the next still starts.
HOSTS_BY_START = (None, "torch", "tensorflow")
_POLL_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 0.1
_EXPORT_SECONDS = 1.0
_LONGEST_EXPORT_SECONDS = 30.0


@dataclass
class Work:
    """What was done for a question."""

    computed: list[str] = field(default_factory=list)
    embedded_rows: int = 0
    embedded_parts: int = 0
    reused_rows: int = 0
    embed_seconds: dict[str, float] = field(default_factory=dict)
    download_seconds: float = 0.0
    partial: bool = False


async def compute(step: Step, database: Database, work: Work) -> None:
    """Compute what is new of a step, or wait for whoever else does; what was done is added to `work`.

    A deployment's run hands it out to the workers of the pools.
    """
    needless = Needless(step)
    if needless.may_be:
        planned = chain(*(evaluate.evaluations for evaluate in step.evaluates))
        needless.tell(ResultStore(database).known(each.evaluation.fingerprint for each in planned))
    assignment = assignment_of(step)
    if is_deployed():
        from flows.spread import Spread

        async with _exporting(()):
            await Spread(assignment, database, work, needless).run()
    else:
        async with _exporting(hosts_of(assignment.embeddings, assignment.evaluations)):
            await Computation(assignment, database, work, needless).run()


def is_deployed() -> bool:
    """Whether the flow that runs here, or one that it is part of, is a deployment's, which workers serve."""
    return deployment.id is not None or flow_run.parent_deployment_id is not None


@contextlib.asynccontextmanager
async def _exporting(hosts: Collection[str]) -> AsyncIterator[None]:
    """Write what is recorded, here or by workers, to MLflow every now and then, and once more at the end.

    It begins when one of the hosts that the work is done in is up, where there are any here.
    """

    async def export() -> ShiftError | None:
        try:
            await asyncio.to_thread(host("tracking").call, "storage.tracking:export_pending")
        except ShiftError as error:
            return error
        return None

    async def export_regularly() -> None:
        # MLflow's imports would slow those that the work waits for.
        while hosts and not any(host(name).is_ready() for name in hosts):
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        while True:
            await export()
            await asyncio.sleep(_EXPORT_SECONDS)

    exporting = asyncio.create_task(export_regularly())
    try:
        yield
    finally:
        exporting.cancel()
    try:
        problem = await asyncio.wait_for(export(), _LONGEST_EXPORT_SECONDS)
    except TimeoutError:
        host("tracking").stop()
        problem = EvaluationError(f"it took over {_LONGEST_EXPORT_SECONDS:g} s")
    if problem is not None:
        progress.get().note(
            f"MLflow could not be written ({problem.message.splitlines()[0]}); the results are kept, and written "
            "by the next query that computes something"
        )


class Computation:
    """Claims the evaluations of an assignment, drives their stages, one model at a time on a host, and records them.

    What somebody else has claimed is waited for, and each stage is a task run; not where the assignment was handed out
    as a run of its own, which is record enough: Prefect's server takes longer for a task run than many a stage. What
    `needless` finds is left out.
    """

    def __init__(
        self,
        assignment: Assignment,
        database: Database,
        work: Work,
        needless: Needless,
        *,
        is_handed_out: bool = False,
    ) -> None:
        self._assignment = assignment
        self._database = database
        self._work = work
        self._needless = needless
        self._is_handed_out = is_handed_out
        self._passes: list[Pass] = []
        self._results = ResultStore(database)
        self._turns = Turns(database, current_settings().claim_seconds)
        self._embeddings: dict[Subject, list[Embedding]] = {}
        for embedding in assignment.embeddings:
            self._embeddings.setdefault(embedding.model, []).append(embedding)
        self._planned = {planned.evaluation.fingerprint: planned for planned in assignment.evaluations}
        # In which models are opened for one evaluation alone.
        self._frameworks = {
            planned.evaluation.model: str(HOSTS[planned.source])
            for planned in assignment.evaluations
            if planned.source is not None
        }
        self._hosts = hosts_of(assignment.embeddings, assignment.evaluations)
        self._slots = Slots(assignment.embeddings)
        # Rankers run in this process, one at a time and on one core.
        self._scoring = asyncio.Semaphore(1)
        self._claims: dict[str, Claim] = {}
        # Of the models that are embedded with now.
        self._turns_held: set[str] = set()
        self._notes: set[str] = set()
        # Bytes of features that may be written before all are looked at, which takes the longer the more there are.
        self._room = 0
        # Which model is opened after another in the same process, where that is certain.
        self._following: dict[Subject, Subject] = {}

    async def run(self) -> None:
        known = self._results.known(self._planned)
        by_model: dict[Subject, list[Evaluation]] = {}
        for evaluation in self._assignment.new_evaluations:
            if evaluation.fingerprint not in known:
                by_model.setdefault(evaluation.model, []).append(evaluation)
        trained = has_trained(self._hosts)
        async with self._alive():
            in_turn = sorted(by_model, key=self._start_order)
            alone = [model for model in in_turn if self._takes_all_cores(model)]
            self._following = dict(pairwise(alone))
            await asyncio.gather(*(self._settle(model, by_model[model]) for model in in_turn))
            outcomes = self._results.outcomes(chain(*({each.fingerprint for each in of} for of in by_model.values())))
            learn(self._assignment, self._database, self._passes, self._work.computed, outcomes, has_trained=trained)

    def _start_order(self, model: Subject) -> tuple[int, bool]:
        """Whose host is up first comes first, and models that share the cores before those that take all."""
        if model not in self._embeddings:
            return HOSTS_BY_START.index(self._frameworks.get(model)), False
        embedding = self._embeddings[model][0]
        return HOSTS_BY_START.index(HOSTS[embedding.source]), not embedding.fits_one_core

    def _takes_all_cores(self, model: Subject) -> bool:
        embeddings = self._embeddings.get(model, [])
        return bool(embeddings) and HOSTS[embeddings[0].source] == "torch" and not embeddings[0].fits_one_core

    async def _settle(self, model: Subject, evaluations: Sequence[Evaluation]) -> None:
        """See to it that evaluations of one model are recorded, by this run or by whoever claimed them before."""
        waiting = await self._evaluate(model, evaluations)
        if self._is_handed_out:
            return
        if waiting:
            tell("waiting", model=model.name, evaluations=len(waiting))
        while waiting:
            await asyncio.sleep(_POLL_SECONDS)
            recorded = await asyncio.to_thread(self._results.outcomes, [e.fingerprint for e in waiting])
            for evaluation in waiting:
                if evaluation.fingerprint in recorded:
                    _advance(evaluation)
            # What is left is being computed elsewhere, or free again because its owner died.
            waiting = await self._evaluate(model, [e for e in waiting if e.fingerprint not in recorded])

    async def _evaluate(self, model: Subject, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
        """Compute what nobody else has claimed, just before claimed; the evaluations that somebody has."""
        for evaluation in evaluations:
            if evaluation.method == FULL:
                async with self._slots.take(self._frameworks[model], all_cores=True):
                    for claim in await self._claim([evaluation]):
                        await self._finetune(claim, self._frameworks[model])
            elif evaluation.method == "task2vec":
                async with self._slots.take(self._frameworks[model], all_cores=True):
                    for claim in await self._claim([evaluation]):
                        await self._recorded(embed_task, claim=claim, parts=self._planned[evaluation.fingerprint].parts)
            elif evaluation.method == MAJORITY_METHOD:
                for claim in await self._claim([evaluation]):
                    await self._recorded(majority, claim=claim)
        on_features = [e for e in evaluations if e.method not in {FULL, "task2vec", MAJORITY_METHOD}]
        if on_features:
            # Of the others, what is lost since they were planned turns out when it is read.
            to_embed = [embedding for embedding in self._embeddings[model] if embedding.new_rows]
            if to_embed:
                async with self._turn(model, on_features) as (host_name, to_score):
                    embedded = await self._embed(to_embed, host_name, to_score) if to_score else {}
            else:
                to_score = await self._claim(on_features)
                embedded = dict.fromkeys((claim.evaluation.fingerprint for claim in to_score), 0.0)
            if to_score:
                untouched = (e.part.num_rows for e in self._embeddings[model] if not e.new_rows)
                self._work.reused_rows += sum(untouched)
            for claim in to_score:
                if claim.evaluation.fingerprint in embedded:
                    await self._settled(claim, self._score(claim, embedded[claim.evaluation.fingerprint]))
        # A claim may have been taken over while its evaluation was computed, as after the machine was suspended.
        settled = {*self._work.computed, *self._needless.fingerprints}
        return [evaluation for evaluation in evaluations if evaluation.fingerprint not in settled]

    def _slot(self, model: Subject) -> contextlib.AbstractAsyncContextManager[str | None]:
        """A slot to open the model in; the baselines, which are opened in this process, need none."""
        embedding = self._embeddings[model][0]
        framework = HOSTS[embedding.source]
        if framework is None:
            return contextlib.nullcontext()
        return self._slots.take(framework, all_cores=not embedding.fits_one_core)

    @contextlib.asynccontextmanager
    async def _turn(
        self, model: Subject, evaluations: Sequence[Evaluation] = ()
    ) -> AsyncIterator[tuple[str | None, list[Claim]]]:
        """A slot to open the model in while nobody else embeds with it, and claims on those evaluations that are free.

        Who waits for that holds no slot; where all evaluations are taken there is nothing to wait for.
        """
        claims: list[Claim] = []
        while True:
            async with self._slot(model) as host_name:
                if evaluations and not claims:
                    claims = await self._claim(evaluations)
                    if not claims:
                        yield host_name, []
                        return
                turn = await asyncio.to_thread(self._turns.take, model.fingerprint)
                if turn is not None:
                    self._turns_held.add(turn)
                    try:
                        yield host_name, claims
                    finally:
                        self._turns_held.remove(turn)
                        self._turns.give_back(turn)
                    return
            await asyncio.sleep(_POLL_SECONDS)

    async def _claim(self, evaluations: Sequence[Evaluation]) -> list[Claim]:
        """Claims on those of the evaluations that are free."""
        free = [
            claim
            for evaluation in evaluations
            if evaluation.fingerprint not in self._needless.fingerprints
            and (claim := await asyncio.to_thread(self._results.claim, evaluation)) is not None
        ]
        self._claims |= {claim.evaluation.fingerprint: claim for claim in free}
        return free

    async def _embed(
        self, embeddings: Sequence[Embedding], host_name: str | None, claims: Sequence[Claim]
    ) -> dict[str, float]:
        """Embed datasets with a model; the seconds it took, by the fingerprints of those evaluations it did not
        fail."""
        model = embeddings[0].model
        groups: dict[tuple[View, ...], list[Claim]] = {}
        for claim in claims:
            groups.setdefault(self._planned[claim.evaluation.fingerprint].views, []).append(claim)
        try:
            seconds = await self._embed_views(embeddings, host_name, set(chain.from_iterable(groups)))
        except Exception as error:
            if len(groups) > 1:
                # Features that the model lacks are no fault of the claims that rest on others.
                apart = [await self._embed(embeddings, host_name, group) for group in groups.values()]
                return dict(ChainMap(*apart))
            for claim in claims:
                await self._failed(claim, error)
            return {}
        self._work.embed_seconds[model.fingerprint] = self._work.embed_seconds.get(model.fingerprint, 0.0) + seconds
        return {claim.evaluation.fingerprint: seconds for claim in claims}

    async def _embed_views(
        self, embeddings: Sequence[Embedding], host_name: str | None, views: Collection[View]
    ) -> float:
        """Bring views of datasets by a model into the feature store; the seconds it took."""
        seconds = 0.0
        for planned in embeddings:
            model = planned.model
            embedding = replace(planned, views=tuple(view for view in planned.views if view in views))
            arguments: dict[str, Any] = {
                "model": model,
                "part": embedding.part,
                "views": embedding.views,
                "host_name": host_name,
                "then": self._following.get(model),
            }
            result = await self._embedded(embedding, arguments)
            embedded = 0
            if result is not None:
                embedded = result["embedded_rows"]
                seconds += result["seconds"]
                self._passes.append(Pass(model.name, result))
                self._work.embedded_parts += embedded > 0
                if result["dropped"]:
                    self._note_computed_anew(model, "damaged")
                await self._make_room(result["written_bytes"])
            if embedded:
                tell("embedded", model=model.name, dataset=planned.part.dataset.name, rows=embedded)
            self._work.embedded_rows += embedded
            self._work.reused_rows += embedding.part.num_rows - embedded
        return seconds

    async def _make_room(self, written_bytes: int) -> None:
        self._room -= written_bytes
        if self._room < 0:
            # Others may write as well.
            self._room = await asyncio.to_thread(evict_features, current_settings()) // 2

    async def _embedded(self, embedding: Embedding, arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What embedding a dataset came to; None where Prefect knows that it was done before."""
        if self._is_handed_out:
            return await embed.fn(**arguments)
        state: Any = await embed(**arguments, return_state=True)  # type: ignore[misc]
        if state.name == "Cached" and not await asyncio.to_thread(_is_embedded, embedding):
            state = await embed.with_options(refresh_cache=True)(**arguments, return_state=True)  # type: ignore[misc]
        result: Mapping[str, Any] = await state.result()
        return None if state.name == "Cached" else result

    async def _score(self, claim: Claim, embed_seconds: float) -> None:
        """Score stored features; what turns out to be lost of them is computed anew."""
        model, views = claim.evaluation.model, self._planned[claim.evaluation.fingerprint].views
        # Each view of either split turns out when it is read.
        chances = 2 * len(views)
        while True:
            try:
                async with self._scoring:
                    return await self._stored(classify, claim=claim, views=views, embed_seconds=embed_seconds)
            except LostFeaturesError as lost:
                if not chances:
                    raise
                self._note_computed_anew(model, lost.was)
            chances -= 1
            async with self._turn(model) as (host_name, _):
                embed_seconds += await self._embed_views(self._embeddings[model], host_name, views)
            # They were counted as reused before. Other models' rows may have been counted meanwhile.
            rows = sum(embedding.part.num_rows for embedding in self._embeddings[model])
            self._work.reused_rows = max(0, self._work.reused_rows - rows)

    def _note_computed_anew(self, model: Subject, was: str) -> None:
        note = f"features of {model.name} were {was} and are computed anew"
        if note not in self._notes:
            self._notes.add(note)
            progress.get().note(note)

    async def _finetune(self, claim: Claim, framework: str) -> None:
        train, test = self._assignment.train, self._assignment.test
        assert train is not None
        # Nobody but the last rung of a training is tested.
        tested = () if test is None or claim.evaluation.test is None else test.parts
        await self._recorded(finetune, claim=claim, train=train.parts, test=tested, framework=framework)

    async def _recorded(self, stage: Any, *, claim: Claim, **arguments: Any) -> None:
        """Run a stage that records one evaluation; a failure is recorded as such."""
        await self._settled(claim, self._stored(stage, claim=claim, **arguments))

    async def _stored(self, stage: Any, *, claim: Claim, **arguments: Any) -> None:
        """Run a stage; again, without Prefect's cache, when the result it refers to is no longer in the store."""
        if self._is_handed_out:
            await stage.fn(claim=claim, **arguments)
            return
        fingerprint = await stage(claim=claim, **arguments)
        is_known = await asyncio.to_thread(self._results.known, [fingerprint])
        if not is_known and await asyncio.to_thread(self._results.holds, claim):
            await stage.with_options(refresh_cache=True)(claim=claim, **arguments)

    async def _settled(self, claim: Claim, work: Awaitable[None]) -> None:
        """Wait for work that records an evaluation; a failure is recorded as such."""
        try:
            await work
        except Exception as error:
            await self._failed(claim, error)
        else:
            await self._finished(claim)

    async def _failed(self, claim: Claim, error: Exception) -> None:
        if self._is_handed_out:
            of = claim.evaluation
            get_run_logger().error("%s %s failed: %s", of.method, of.model.name, error, exc_info=error)
        await asyncio.to_thread(self._results.record, claim, _failure(error))
        await self._finished(claim)

    async def _finished(self, claim: Claim) -> None:
        """Take note of what was computed here; what another process took over meanwhile is its, and waited for."""
        evaluation = claim.evaluation
        del self._claims[evaluation.fingerprint]
        if await asyncio.to_thread(self._results.holds, claim):
            self._work.computed.append(evaluation.fingerprint)
            _advance(evaluation)
            if self._needless.may_be:
                self._needless.tell(await asyncio.to_thread(self._results.outcomes, [evaluation.fingerprint]))

    @contextlib.asynccontextmanager
    async def _alive(self) -> AsyncIterator[None]:
        """Keep this run's claims alive; give back what is left of them at its end."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(current_settings().claim_seconds / 3):
                # One that does not come through is made up for by the next.
                with contextlib.suppress(Exception):
                    self._results.heartbeat(list(self._claims.values()))
                    self._turns.heartbeat(list(self._turns_held))

        # A thread of its own: the loop, and the threads it shares out, may be busy for longer than a claim lasts.
        threading.Thread(target=beat, name="heartbeat", daemon=True).start()
        try:
            yield
        except BaseException:
            # Threads that wait for a host would hold up the end of this process.
            stop_hosts()
            raise
        finally:
            ended.set()
            # Where the store is out of reach they expire; why it is tells the error that is on its way.
            with contextlib.suppress(Exception):
                for claim in self._claims.values():
                    self._results.release(claim)


def _advance(evaluation: Evaluation) -> None:
    progress.get().advance(f"{evaluation.method} {evaluation.model.name}")


def _failure(error: Exception) -> Measurement:
    if isinstance(error, ShiftError):
        reason, transient = error.reason, getattr(error, "transient", True)
    else:
        reason, transient = f"{type(error).__name__}: {error}", True
    return Measurement(status="failed", cost_seconds=0.0, reason=reason, transient=transient)


def _is_embedded(embedding: Embedding) -> bool:
    return missing_rows([embedding.key])[embedding.key] == 0
