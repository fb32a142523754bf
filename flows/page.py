"""The page of a run in Prefect's interface: what was asked, the plan, how far it is, the answer and what it cost."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from flows.board import Board, as_code
from shiftql.answers import Answer, ErrorAnswer, RankingAnswer
from shiftql.explain import plan_as_tree, rules_as_text
from shiftql.plan import Evaluate, PlanNode
from shiftql.render import render
from storage.database import Database
from storage.results import EvaluationRecord, ResultStore
from storage.settings import current_settings, tracking_page

# Until then the server has what the work waits for to do.
_SHOWN_AFTER_SECONDS = 1.0


class Page(Board):
    """The artifacts of a run of several statements: beside the answers so far for people, the same for programs.

    `answer` holds what `--format json` prints, a line for each statement; the one under way is told as far as it is.
    """

    def __init__(self, statement: str, database: Database) -> None:
        super().__init__(statement)
        self._database = database
        self._parts: list[str] = []
        self._lines: list[str] = []
        # That of the statement under way, before its work began, and whether it is shown.
        self._plan: PlanNode | None = None
        self._is_planned = False

    @contextlib.asynccontextmanager
    async def begun(self, plan: PlanNode) -> AsyncIterator[None]:
        """Within it a question with new work is computed, and what will be done is shown; the work does not wait for
        that."""
        self._plan, ended = plan, asyncio.Event()

        async def show() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SHOWN_AFTER_SECONDS):
                    await ended.wait()
                    return
            with contextlib.suppress(Exception):
                await self.leave("plan", _plan_as_markdown(self._statement, plan))
                self._is_planned = True
                if "progress" not in self._left:
                    await self._tell(0.0)

        showing = asyncio.create_task(show())
        try:
            yield
        finally:
            # An artifact that is being made while it is cancelled would be made again.
            ended.set()
            await showing

    async def put(self, answer: Answer) -> None:
        """Leave an answer as far as it is known, after those of the statements before."""
        await self._show([*self._parts, render(answer, "markdown")], [*self._lines, render(answer, "json")])

    async def add(self, answer: Answer, plan: PlanNode | None) -> None:
        """Leave the answer to a statement, and the plan that it followed where it is a question's."""
        records = [] if plan is None else ResultStore(self._database).records(_fingerprints(plan))
        self._lines.append(render(answer, "json"))
        making = asyncio.create_task(asyncio.to_thread(_as_markdown, answer, records))
        if plan is not None and not self._is_planned:
            await self.leave("plan", _plan_as_markdown(self._statement, self._plan or plan))
        if self._plan is not None and not (isinstance(answer, RankingAnswer) and answer.partial):
            await self._tell(100.0)
        self._plan, self._is_planned = None, False
        self._parts.append(await making)
        await self._show(self._parts, self._lines)

    async def _show(self, parts: Sequence[str], lines: Sequence[str]) -> None:
        await asyncio.gather(
            self.leave("ranking", "\n\n---\n\n".join([as_code(self._statement), *parts])),
            self.leave("answer", "\n".join(lines), "json"),
        )


def _plan_as_markdown(statement: str, plan: PlanNode) -> str:
    tree = "\n\n".join(filter(None, (plan_as_tree(plan), rules_as_text(plan))))
    return f"{as_code(statement)}\n\n```\n{tree}\n```"


def _as_markdown(answer: Answer, records: Sequence[EvaluationRecord]) -> str:
    """An answer with links to the MLflow runs of its models, and a picture of what it cost where something was paid."""
    if isinstance(answer, ErrorAnswer):
        return f"**It could not be answered.**\n\n```\n{answer.error}\n```"
    if not isinstance(answer, RankingAnswer):
        return render(answer, "markdown")
    runs = {record.model_name: str(record.mlflow_run_id) for record in records if record.mlflow_run_id}
    if (url := tracking_page(current_settings())) is not None:
        linked = {model: f"[{model}]({url}/#/runs/{run})" for model, run in runs.items()}
        return "\n\n".join([render(_with_links(answer, linked), "markdown"), *_picture(records)])
    listed = [f"| {model} | `{run}` |" for model, run in sorted(runs.items())]
    table = ["\n".join(["| model | MLflow run |", "| --- | --- |", *listed])] if listed else []
    return "\n\n".join([render(answer, "markdown"), *_picture(records), *table])


def _with_links(answer: RankingAnswer, links: Mapping[str, str]) -> RankingAnswer:
    rankings = {
        ranker: tuple({**row, "model": links.get(row["model"], row["model"])} for row in rows)
        for ranker, rows in answer.rankings.items()
    }
    return replace(answer, rankings=rankings)


def _picture(records: Sequence[EvaluationRecord]) -> list[str]:
    """The best so far against the seconds that were paid for it, as an image that needs no file; none of one point."""
    from shiftql.pictures.spending import Paid, draw_spending

    paid = [
        Paid(record.model_name, float(record.cost_seconds or 0.0), record.value)
        for record in records
        if record.metric is not None and record.metric == records[-1].metric
    ]
    if len(paid) < 2:
        return []
    last = records[-1]
    png = draw_spending(paid, str(last.metric), higher_is_better=bool(last.higher_is_better))
    return [f"![what it cost](data:image/png;base64,{base64.b64encode(png).decode()})"]


def _fingerprints(plan: PlanNode) -> list[str]:
    nodes = [node for node in plan.walk() if isinstance(node, Evaluate)]
    return [each.evaluation.fingerprint for node in nodes for each in node.evaluations if not each.baseline]
