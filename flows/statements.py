"""The flow behind the deployment `search`: answers any statements, and leaves what came of them on its page."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
from collections.abc import Iterator
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.finetune import finetune_and_keep
from flows.notes import logged_notes
from flows.page import Page
from flows.search import answer_question
from flows.telemetry import told_run
from shiftql.answers import Answer, ErrorAnswer, RankingAnswer
from shiftql.engine import Session
from shiftql.plan import Finetune, PlanNode
from storage.database import Database
from storage.errors import EvaluationError
from storage.eviction import features_in_use
from storage.settings import current_settings

_NAME_CHARACTERS = 100
# How long a run that is cancelled may take to say what is known by then.
_LAST_WORDS_SECONDS = 10.0


def run_name() -> str:
    """What a run is called in Prefect: its statements, on one line."""
    return " ".join(str(flow_run.parameters["statement"]).split())[:_NAME_CHARACTERS]


@flow(name="search", flow_run_name=run_name)
async def search(statement: str, asked_at: float | None = None) -> dict[str, Any]:
    """Answer SHiFT-QL: which pre-trained model to fine-tune for a dataset, or any other statement.

    The answers are the artifacts `ranking`, for people, and `answer`, what `--format json` prints.

    Args:
        statement: One statement or several separated by `;`, such as
            SELECT name FROM image_models ORDER BY Linear TRAINED ON 'mine-train' TESTED ON 'mine-test' LIMIT 5.
        asked_at: When it was asked, in seconds since 1970, from which WITHIN counts. Left out, it is when the run
            begins.
    """
    return await answer_statements(statement, asked_at)


async def answer_statements(statement: str, asked_at: float | None = None) -> dict[str, Any]:
    """Answer statements as `search` does, on the page of the flow run that this is called in.

    Returns how many were `answered`, and the `flow_run_id`. Raises the error of one that fails, after it is told on the
    page, and EvaluationError where no model could be evaluated.
    """
    settings = current_settings()
    with features_in_use(settings), told_run(statement), logged_notes():
        database = Database(settings)
        page = Page(statement, database)
        work = _Work(page, database, asked_at)
        session = Session(compute=work.compute)
        answers = session.run(statement)
        answered = 0
        while (answer := await work.next_of(answers)) is not None:
            await page.add(answer, session.plan)
            _raise_failure(answer)
            answered += 1
            if work.is_cancelled:
                raise asyncio.CancelledError
    return {"answered": answered, "flow_run_id": str(flow_run.id)}


class _Work:
    """Computes in the flow's loop what a session in a thread asks for."""

    def __init__(self, page: Page, database: Database, asked_at: float | None) -> None:
        self._page = page
        self._database = database
        self._asked_at = asked_at
        self._loop = asyncio.get_running_loop()
        self._computing: concurrent.futures.Future[dict[str, Any]] | None = None
        self.is_cancelled = False

    def compute(self, script: str, plan: PlanNode, asked_at: float) -> dict[str, Any]:
        """Compute what is new of a question. Raises KeyboardInterrupt when the run is cancelled meanwhile."""
        asked = asked_at if self._asked_at is None else self._asked_at
        self._computing = asyncio.run_coroutine_threadsafe(self._run(script, plan, asked), self._loop)
        try:
            return self._computing.result()
        except concurrent.futures.CancelledError:
            raise KeyboardInterrupt from None

    async def _run(self, script: str, plan: PlanNode, asked_at: float) -> dict[str, Any]:
        async with self._page.begun(plan):
            if isinstance(plan, Finetune):
                _, done = await finetune_and_keep(script, self._database, self._page, asked_at)
            else:
                _, done = await answer_question(script, self._database, self._page, asked_at)
        # The session answers from what is recorded now, which is what is added to the page.
        return done

    async def next_of(self, answers: Iterator[Answer]) -> Answer | None:
        """The next answer, found in a thread; where the run is cancelled meanwhile, the answer so far."""
        context = contextvars.copy_context()
        # No task: when a process is told to end all of them are cancelled, and this is to have the last word.
        answer = self._loop.run_in_executor(None, lambda: context.run(lambda: next(answers, None)))
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            self.is_cancelled = True
            if self._computing is None:
                raise
            self._computing.cancel()
            return await asyncio.wait_for(asyncio.shield(answer), _LAST_WORDS_SECONDS)


def _raise_failure(answer: Answer) -> None:
    """Raise what an answer says went wrong, where nothing else came of it."""
    if isinstance(answer, ErrorAnswer):
        raise answer.error
    if isinstance(answer, RankingAnswer) and answer.failed and not answer.partial:
        rows = [row for ranking in answer.rankings.values() for row in ranking]
        if all(row.get("baseline") for row in rows):
            first = answer.failed[0]
            raise EvaluationError(
                f"no model could be evaluated: {first['model']} {first['reason']}"
                + (f", and {len(answer.failed) - 1} more" if len(answer.failed) > 1 else "")
            )
