"""Downloading the models that a question needs and this machine lacks, before it is computed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import TypeVar

from shiftql.plan import Step
from shiftql.progress import progress
from storage.bandwidth import note_download
from storage.catalog import TOLD, Catalog, ModelRecord
from storage.database import Database
from storage.errors import ShiftError, StoreError
from storage.evaluations import Evaluation, Measurement
from storage.results import ResultStore
from storage.settings import current_settings
from tasks.eviction import make_room
from tasks.hub import Snapshot, download, find_snapshot
from tasks.registration import inspect_downloaded, resolve_handle
from tasks.sources.failures import reasons

_AT_ONCE = 3
_MEGABYTE = 1e6

T = TypeVar("T")


class Downloads:
    """The downloads of one search. Each model is tried once, whatever steps need it."""

    def __init__(self, database: Database) -> None:
        self._catalog = Catalog(database)
        self._results = ResultStore(database)
        self._reasons: dict[str, str] = {}
        self._in_use: set[str] = set()
        self._is_stopped = False
        self.seconds = 0.0

    async def fetch(self, plan: Step) -> bool:
        """Download what a step needs and this machine lacks; True when any model came.

        Names are to be bound again then: the fingerprint of a model that is here is of its content.
        """
        self._in_use |= {evaluation.model.name for evaluation in plan.new_evaluations}
        lacking = plan.download.weights if plan.download is not None else ()
        models = [self._catalog.model(weights.model.name) for weights in lacking]
        models = [model for model in models if model.name not in self._reasons]
        if not models:
            return False
        snapshots = await self._each(models, _find)
        evicted = await asyncio.to_thread(self._make_room, snapshots.values())
        if evicted:
            progress.get().note(f"deleted {', '.join(evicted)} to keep within SHIFT_MODELS_LIMIT")
        size = sum(snapshot.missing_bytes for snapshot in snapshots.values())
        if size:
            names = sorted(name for name, snapshot in snapshots.items() if snapshot.missing_bytes)
            progress.get().note(f"downloading {', '.join(names)}: {size / _MEGABYTE:.0f} MB")
            progress.get().begin(size / _MEGABYTE)
        started = time.monotonic()
        came = await self._each(
            [model for model in models if model.name in snapshots],
            lambda model: self._bring(model, snapshots[model.name]),
        )
        seconds = time.monotonic() - started
        if len(came) == len(snapshots):
            note_download(current_settings(), size, seconds)
        self.seconds += seconds
        return bool(came)

    def give_up(self, plan: Step) -> tuple[Step, list[str]]:
        """The plan without the models that could not be had, and the fingerprints of what failed for the want of them.

        It is recorded with the reason, to be tried again when it is asked for again.
        """
        lost = [evaluation for evaluation in plan.new_evaluations if evaluation.model.name in self._reasons]
        for evaluation in lost:
            self._record(evaluation)
        fingerprints = [evaluation.fingerprint for evaluation in lost]
        evaluates = tuple(
            replace(
                evaluate,
                evaluations=tuple(p for p in evaluate.evaluations if p.evaluation.fingerprint not in fingerprints),
            )
            for evaluate in plan.evaluates
        )
        return replace(plan, evaluates=evaluates), fingerprints

    def _record(self, evaluation: Evaluation) -> None:
        claim = self._results.claim(evaluation)
        if claim is not None:
            reason = self._reasons[evaluation.model.name]
            self._results.record(claim, Measurement("failed", cost_seconds=0.0, reason=reason, transient=True))

    def _make_room(self, snapshots: Collection[Snapshot]) -> list[str]:
        in_use = {(snapshot.handle, snapshot.commit) for snapshot in snapshots}
        for model in self._catalog.models():
            if model.name in self._in_use and model.handle is not None:
                in_use.add((model.handle, model.revision))
        return make_room(sum(snapshot.missing_bytes for snapshot in snapshots), in_use)

    def _bring(self, model: ModelRecord, snapshot: Snapshot) -> None:
        surface = progress.get()

        def report(size: int) -> None:
            if self._is_stopped:
                raise StoreError("the download was interrupted", subject=model.name, fix="ask again to go on")
            surface.advance(f"MB, {model.name}", size / _MEGABYTE)

        path = download(snapshot, report)
        told = {column for column in TOLD if getattr(model, column)}
        columns = {**inspect_downloaded(model.source, path, model.trusted), "revision": snapshot.commit}
        news = {column: value for column, value in columns.items() if value is not None and column not in told}
        self._catalog.save_model(model.name, news)

    async def _each(self, models: Iterable[ModelRecord], step: Callable[[ModelRecord], T]) -> dict[str, T]:
        """What a step gives for each of the models, a few at a time; why it gives nothing for others is kept."""
        slots = asyncio.Semaphore(_AT_ONCE)
        done: dict[str, T] = {}

        async def take(model: ModelRecord) -> None:
            async with slots:
                try:
                    with reasons(model):
                        done[model.name] = await asyncio.to_thread(step, model)
                except ShiftError as error:
                    self._reasons[model.name] = error.reason

        try:
            await asyncio.gather(*map(take, models))
        except BaseException:
            # Threads end only by themselves, and would hold up the end of this process.
            self._is_stopped = True
            raise
        return done


def _find(model: ModelRecord) -> Snapshot:
    assert model.handle is not None
    if model.source == "tfhub":
        return Snapshot(model.handle, None, {}, resolve_handle(model.handle))
    return find_snapshot(model.handle, model.revision)
