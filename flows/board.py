"""The answer so far of a run: shown to whoever waits for it, and left as the run's artifacts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from textwrap import fill
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.runtime import flow_run

from shiftql.answers import Answer
from shiftql.progress import progress
from shiftql.render import render

# An answer takes a tenth of a second to make and write: about a fiftieth of the time goes into it. Of 10,000 models it
# takes seconds, and is made the less often.
_REFRESH_SECONDS = 5.0
_WAIT_PER_SECOND = 10.0
# A page has room for so many characters of code beside each other.
_WIDTH = 80


class Board:
    """The artifacts `ranking` and `progress` of the run of one statement, brought up to date as it goes on."""

    def __init__(self, statement: str) -> None:
        self._statement = statement
        self._left: dict[str, UUID] = {}

    async def put(self, answer: Answer) -> None:
        """Leave an answer in place of the one before."""
        await self.leave("ranking", f"{as_code(self._statement)}\n\n{render(answer, 'markdown')}")

    @contextlib.asynccontextmanager
    async def kept_up(self, answer: Callable[[], Answer], computed: Sequence[str], total: int) -> AsyncIterator[None]:
        """Within it the answer so far is shown as work goes on; `computed` grows by up to `total` evaluations."""
        begun, ended = len(computed), asyncio.Event()

        async def refresh() -> None:
            seen, pause = begun, _REFRESH_SECONDS
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await ended.wait()
                if len(computed) == seen or ended.is_set():
                    continue
                seen, started = len(computed), time.monotonic()
                # Nobody waits for what is looked at in passing.
                with contextlib.suppress(Exception):
                    so_far = await asyncio.to_thread(answer)
                    progress.get().show(so_far)
                    await self.put(so_far)
                    await self._tell(100 * (seen - begun) / max(1, total))
                pause = max(_REFRESH_SECONDS, _WAIT_PER_SECOND * (time.monotonic() - started))

        refreshing = asyncio.create_task(refresh())
        try:
            yield
        finally:
            # An artifact that is being made while it is cancelled would be made again.
            ended.set()
            await refreshing

    async def _tell(self, per_cent: float) -> None:
        await self.leave("progress", min(100.0, per_cent), "progress")

    async def leave(self, key: str, data: Any, type: str = "markdown") -> None:
        """Leave an artifact in place of the one of this key before."""
        async with get_client() as client:
            if key in self._left:
                await client.update_artifact(self._left[key], ArtifactUpdate(data=data))
                return
            run = UUID(str(flow_run.id))
            artifact = ArtifactCreate(key=key, type=type, description=flow_run.name, data=data, flow_run_id=run)
            self._left[key] = (await client.create_artifact(artifact)).id


def as_code(statement: str) -> str:
    """Statements as Markdown, in lines that need not be scrolled."""
    lines = [fill(line, _WIDTH, break_long_words=False, break_on_hyphens=False) for line in statement.splitlines()]
    return "\n".join(["```sql", *lines, "```"])
