"""The search flow: computes whatever a question asks for that is not known yet, and records it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.runtime import flow_run

from shiftql.answering import answer_ranking
from shiftql.binder import BoundRanking, bind
from shiftql.parser import parse
from shiftql.plan import Rank
from shiftql.preparation import prepare
from shiftql.progress import progress
from shiftql.render import render
from shiftql.strategies.enumerate import Enumerate
from storage.baselines import MAJORITY_METHOD
from storage.database import Database
from storage.errors import PlanError, ShiftError
from storage.evaluations import Evaluation, Measurement, Subject
from storage.results import CLAIM_EXPIRES_SECONDS, Claim, ResultStore
from storage.settings import current_settings
from tasks.host import host, stop_hosts
from tasks.sources import HOSTS
from tasks.stages import classify, embed, finetune, majority

_POLL_SECONDS = 0.5
_EXPORT_SECONDS = 2.0
_NAME_CHARACTERS = 100


def _run_name() -> str:
    return " ".join(str(flow_run.parameters["statement"]).split())[:_NAME_CHARACTERS]


@flow(name="search", flow_run_name=_run_name)
async def search(statement: str) -> dict[str, Any]:
    """Evaluate what a ranking SELECT asks for, and leave its ranking as an artifact.

    Returns what was done: `computed` (fingerprints of the evaluations computed here), `embedded_rows`,
    `reused_rows` and `flow_run_id`. The results themselves are in the stores.
    """
    database = Database(current_settings())
    question = bind(parse(statement)[0], database, statement)
    if not isinstance(question, BoundRanking):
        raise PlanError("only a ranking is computed by a flow", text=statement)
    plan = prepare(question, database)
    assert isinstance(plan, Rank)
    work = await _Search(question, plan, database).run()
    answer = answer_ranking(question, plan, database, work)
    await acreate_markdown_artifact(
        key="ranking", markdown=f"```sql\n{statement}\n```\n\n{render(answer, 'markdown')}", description=_run_name()
    )
    return work


class _Search:
    """One run: claims what is unknown, drives the stages, one model at a time on each host, and records."""

    def __init__(self, question: BoundRanking, plan: Rank, database: Database) -> None:
        self._question = question
        self._plan = plan
        self._results = ResultStore(database)
        self._sources = {embedding.model: embedding.source for embedding in plan.embeddings}
        # One slot for each host, and one for the rankers, which run in this process.
        self._slots = {name: asyncio.Semaphore(1) for name in HOSTS.values()}
        self._scoring = asyncio.Semaphore(1)
        self._claims: dict[str, Claim] = {}
        self._computed: list[str] = []
        self._embedded_rows = 0
        self._reused_rows = 0

    async def run(self) -> dict[str, Any]:
        evaluations = [p.evaluation for evaluate in self._plan.evaluates for p in evaluate.evaluations]
        strategy = Enumerate(evaluations)
        strategy.tell(self._results.known(evaluation.fingerprint for evaluation in evaluations))
        progress.get().begin(len({evaluation.fingerprint for evaluation in self._plan.new_evaluations}))
        async with self._alive(), self._exporting():
            while wanted := strategy.ask(len(evaluations)):
                by_model: dict[Subject, list[Evaluation]] = {}
                for evaluation in wanted:
                    by_model.setdefault(evaluation.model, []).append(evaluation)
                await asyncio.gather(*(self._evaluate(model, asked) for model, asked in by_model.items()))
                strategy.tell(self._results.outcomes(evaluation.fingerprint for evaluation in wanted))
        return {
            "computed": self._computed,
            "embedded_rows": self._embedded_rows,
            "reused_rows": self._reused_rows,
            "flow_run_id": str(flow_run.id),
        }

    async def _evaluate(self, model: Subject, evaluations: Sequence[Evaluation]) -> None:
        """Compute those evaluations of a model that nobody else is computing, and wait for the others."""
        waiting = []
        claims = []
        for evaluation in evaluations:
            claim = await asyncio.to_thread(self._results.claim, evaluation)
            if claim is None:
                waiting.append(evaluation)
            else:
                self._claims[evaluation.fingerprint] = claim
                claims.append(claim)
        if claims:
            await self._compute(model, claims)
        for evaluation in waiting:
            await self._await_other(evaluation)

    async def _await_other(self, evaluation: Evaluation) -> None:
        """Wait, without holding a slot, until whoever claimed the evaluation is done or dead."""
        while not await asyncio.to_thread(self._results.outcomes, [evaluation.fingerprint]):
            claim = await asyncio.to_thread(self._results.claim, evaluation)
            if claim is not None:
                self._claims[evaluation.fingerprint] = claim
                await self._compute(evaluation.model, [claim])
                return
            await asyncio.sleep(_POLL_SECONDS)
        progress.get().advance(f"{evaluation.method} {evaluation.model.name}")

    async def _compute(self, model: Subject, claims: Sequence[Claim]) -> None:
        """Compute claimed evaluations of one model. Whatever goes wrong is recorded as this model's failure."""
        try:
            on_features = [claim for claim in claims if claim.evaluation.method not in {"finetune", MAJORITY_METHOD}]
            seconds = await self._embed(model) if on_features else 0.0
            for claim in claims:
                await self._score(claim, seconds)
                self._finished(claim)
        except Exception as error:
            for claim in claims:
                if claim.evaluation.fingerprint in self._claims:
                    await asyncio.to_thread(self._results.record, claim, _failure(error))
                    self._finished(claim)

    async def _embed(self, model: Subject) -> float:
        """Embed all datasets of the question with a model; the seconds it took."""
        host_name = HOSTS[self._sources[model]]
        seconds = 0.0
        async with self._slots[host_name]:
            for dataset in {d.fingerprint: d for d in (*self._question.train, *self._question.test)}.values():
                subject = Subject(dataset.name, dataset.fingerprint)
                arguments: dict[str, Any] = {"model": model, "dataset": subject, "host_name": host_name}
                state: Any = await embed(**arguments, return_state=True)  # type: ignore[misc]
                if state.name == "Cached" and not await asyncio.to_thread(_is_embedded, model, subject):
                    state = await embed.with_options(refresh_cache=True)(**arguments, return_state=True)  # type: ignore[misc]
                result = await state.result()
                embedded = 0 if state.name == "Cached" else result["embedded_rows"]
                seconds += 0.0 if state.name == "Cached" else result["seconds"]
                self._embedded_rows += embedded
                self._reused_rows += dataset.num_rows - embedded
        return seconds

    async def _score(self, claim: Claim, embed_seconds: float) -> None:
        method = claim.evaluation.method
        if method == "finetune":
            train = [dataset.name for dataset in self._question.train]
            test = [dataset.name for dataset in self._question.test]
            async with self._slots["torch"]:
                await self._recorded(finetune, claim=claim, train=train, test=test)
        elif method == MAJORITY_METHOD:
            await self._recorded(majority, claim=claim)
        else:
            async with self._scoring:
                await self._recorded(classify, claim=claim, embed_seconds=embed_seconds)

    async def _recorded(self, stage: Any, **arguments: Any) -> None:
        """Run a stage; again, without Prefect's cache, when the result it refers to is no longer in the store."""
        fingerprint = await stage(**arguments)
        if not await asyncio.to_thread(self._results.known, [fingerprint]):
            await stage.with_options(refresh_cache=True)(**arguments)

    def _finished(self, claim: Claim) -> None:
        evaluation = claim.evaluation
        del self._claims[evaluation.fingerprint]
        self._computed.append(evaluation.fingerprint)
        progress.get().advance(f"{evaluation.method} {evaluation.model.name}")

    @contextlib.asynccontextmanager
    async def _alive(self) -> AsyncIterator[None]:
        """Keep this run's claims alive; give back what is left of them at its end."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(CLAIM_EXPIRES_SECONDS / 3)
                await asyncio.to_thread(self._results.heartbeat, list(self._claims.values()))

        beating = asyncio.create_task(beat())
        try:
            yield
        except BaseException:
            # Threads that wait for a host would hold up the end of this process.
            stop_hosts()
            raise
        finally:
            beating.cancel()
            for claim in self._claims.values():
                self._results.release(claim)

    @contextlib.asynccontextmanager
    async def _exporting(self) -> AsyncIterator[None]:
        """Write what is recorded to MLflow every now and then, and once more at the end."""
        problem: ShiftError | None = None

        async def export() -> ShiftError | None:
            try:
                await asyncio.to_thread(host("tracking").call, "storage.tracking:export_pending")
            except ShiftError as error:
                return error
            return None

        async def export_regularly() -> None:
            while True:
                await asyncio.sleep(_EXPORT_SECONDS)
                await export()

        host("tracking").start()
        exporting = asyncio.create_task(export_regularly())
        try:
            yield
        finally:
            exporting.cancel()
        problem = await export()
        if problem is not None:
            progress.get().note(
                f"MLflow could not be written ({problem.message}); the results are kept and written by the next query"
            )


def _failure(error: Exception) -> Measurement:
    if isinstance(error, ShiftError):
        reason, transient = error.message, getattr(error, "transient", True)
    else:
        reason, transient = f"{type(error).__name__}: {error}", True
    return Measurement(status="failed", cost_seconds=0.0, reason=reason, transient=transient)


def _is_embedded(model: Subject, dataset: Subject) -> bool:
    from storage.features import FeatureStore
    from storage.manifests import load_manifest

    settings = current_settings()
    store = FeatureStore(settings.features)
    hashes = load_manifest(settings.manifests, dataset.fingerprint).row_hashes
    return len(store.missing(store.key(model.fingerprint), hashes)) == 0
