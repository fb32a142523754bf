"""Slots: which host process may open the next model, so that cores are neither idle nor fought over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

from shiftql.plan import Embedding, PlannedEvaluation, PlanNode
from storage.workload import ALL_CORES
from tasks.host import host
from tasks.sources import HOSTS

_TORCH = "torch"
_SECOND_TORCH = "torch-2"
# A second torch process takes about as long to start as this much work; later queries find it started.
_WORTH_A_SECOND_HOST_SECONDS = 4.0
_LOOK_AGAIN_SECONDS = 0.1


def hosts_needed(plan: PlanNode) -> set[str]:
    """The hosts that the new work of a plan is done in."""
    return hosts_of(plan.all_embeddings, plan.new_planned)


def hosts_of(embeddings: Iterable[Embedding], evaluations: Iterable[PlannedEvaluation]) -> set[str]:
    """The hosts that evaluations, and the forward passes they rest on, are done in."""
    needed = {HOSTS[embedding.source] for embedding in embeddings if embedding.new_rows}
    needed |= {HOSTS[planned.source] for planned in evaluations if planned.source is not None}
    return {name for name in needed if name is not None}


class Slots:
    """One slot for each host process; a model that takes all cores waits for all of them.

    Small models keep one core busy each, so two torch processes share them where there are two cores and no GPU.
    """

    def __init__(self, embeddings: Sequence[Embedding]) -> None:
        self._busy: set[str] = set()
        self._one_takes_all = False
        self._changed = asyncio.Condition()
        small = [e for e in embeddings if HOSTS[e.source] == _TORCH and e.fits_one_core]
        seconds = sum(e.opening_seconds + e.row_cost.seconds * e.new_rows for e in small)
        has_spare_core = ALL_CORES > 1 and not Path("/dev/nvidia0").exists()
        self._is_second_worth_it = has_spare_core and seconds >= _WORTH_A_SECOND_HOST_SECONDS

    @contextlib.asynccontextmanager
    async def take(self, framework: str, *, all_cores: bool) -> AsyncIterator[str]:
        """Wait for a slot; its host's name."""
        async with self._changed:
            while (name := self._free_host(framework, all_cores)) is None:
                # A host that becomes ready tells nobody.
                # No wait_for: its task would take the condition's lock for itself when this one is cancelled.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                        await self._changed.wait()
            self._busy.add(name)
            self._one_takes_all = all_cores
        try:
            yield name
            # Only now, so that it does not slow the start of the first.
            if self._is_second_worth_it and name == _TORCH:
                host(_SECOND_TORCH).start()
        finally:
            async with self._changed:
                self._busy.remove(name)
                self._one_takes_all = False
                self._changed.notify_all()

    def _free_host(self, framework: str, all_cores: bool) -> str | None:
        if self._one_takes_all or (all_cores and self._busy):
            return None
        if framework not in self._busy:
            return framework
        is_second_free = framework == _TORCH and _SECOND_TORCH not in self._busy
        return _SECOND_TORCH if is_second_free and host(_SECOND_TORCH).is_ready() else None
