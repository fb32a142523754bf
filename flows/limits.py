"""What ends a step of a question early: WITHIN, a time that has passed, and BUDGET, seconds that were spent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from flows.slots import hosts_needed
from shiftql.plan import Finetune, Rank, Step
from shiftql.progress import progress
from storage.results import ResultStore
from tasks.host import host

_POLL_SECONDS = 0.25


class Limits:
    """The limits of the steps of one question, which was asked at a time (seconds since 1970).

    Whoever goes beyond one is cancelled: what is recorded by then stays, and what is under way is given up. What is
    given the whole question by the clock (`within`, in seconds) is given to each step that it rests on, too.
    """

    def __init__(self, asked_at: float, within: float | None = None) -> None:
        self._asked_at = asked_at
        self._within = within
        self._ended: set[str] = set()

    @property
    def were_reached(self) -> bool:
        """Whether any step was ended early."""
        return bool(self._ended)

    def ended(self, step: str) -> bool:
        """Whether the step of that text has reached its limit."""
        return step in self._ended

    @contextlib.asynccontextmanager
    async def of(self, step: str, plan: Step, results: ResultStore, computed: Sequence[str]) -> AsyncIterator[None]:
        """Within it the work of a step ends when a limit of its plan is reached; `computed` grows as work is done."""
        limited = plan if isinstance(plan, Rank | Finetune) else None
        budget = None if limited is None else limited.budget
        given = [each for each in (self._within, None if limited is None else limited.within) if each is not None]
        within = min(given, default=None)
        if within is None and budget is None:
            yield
            return
        reached: list[str] = []
        hosts = hosts_needed(plan)
        working = asyncio.current_task()
        assert working is not None

        async def watch() -> None:
            done, began, spent = -1, 0.0, 0.0
            while not reached:
                if budget is not None:
                    if len(computed) != done:
                        done, began = len(computed), time.monotonic()
                        spent = await asyncio.to_thread(_spent, plan, results)
                    if not all(host(name).is_ready() for name in hosts):
                        # That frameworks are loading is no evaluation's cost.
                        began = time.monotonic()
                    if spent + time.monotonic() - began >= budget:
                        reached.append(f"BUDGET {budget:g}s")
                if within is not None and time.time() - self._asked_at >= within:
                    reached.append(f"WITHIN {within:g}s")
                await asyncio.sleep(0 if reached else _POLL_SECONDS)
            working.cancel()

        watching = asyncio.create_task(watch())
        try:
            yield
        except asyncio.CancelledError:
            # Somebody else may have cancelled it too, as by an interrupt.
            if not reached or working.uncancel() > 0:
                raise
            if not self._ended:
                progress.get().note(f"{reached[0]} is over: this is the answer so far; asking again goes on from here")
            self._ended.add(step)
        finally:
            watching.cancel()


def _spent(plan: Step, results: ResultStore) -> float:
    """The seconds that those evaluations of a plan took that are known by now."""
    evaluations = {
        planned.evaluation.fingerprint
        for evaluate in plan.evaluates
        for planned in evaluate.evaluations
        if not planned.baseline
    }
    return sum(outcome.cost_seconds for outcome in results.known(evaluations).values())
