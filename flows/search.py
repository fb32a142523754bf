"""The search flow: computes whatever a question asks for that is not known yet, and records it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeAlias

from prefect import flow
from prefect.runtime import flow_run

from flows.board import Board
from flows.computing import Work, compute
from flows.downloading import Downloads
from flows.limits import Limits
from flows.telemetry import tell_answer, told_run
from shiftql import ast
from shiftql.answering import answer, look_up
from shiftql.answers import Answer, RankingAnswer
from shiftql.binder import bind
from shiftql.bound import Question, steps_in
from shiftql.history import FULL
from shiftql.plan import PlanNode, Rank, Step
from shiftql.preparation import prepare
from shiftql.printer import to_text
from shiftql.progress import progress
from shiftql.script import read_script
from storage.checkpoints import CheckpointStore, training_key
from storage.database import Database
from storage.eviction import features_in_use
from storage.results import ResultStore
from storage.settings import current_settings

_NAME_CHARACTERS = 100
_TRIES = 3
# Finds the answer to a statement that was asked then, the answer so far on a board, and says what was done for it.
Find: TypeAlias = Callable[[str, Database, Board, float | None], Awaitable[tuple[Answer, dict[str, Any]]]]


def run_name() -> str:
    """What a run is called in Prefect: the question, on one line."""
    question, _ = read_script(str(flow_run.parameters["statement"]))
    return " ".join(to_text(question).split())[:_NAME_CHARACTERS]


@flow(name="search", flow_run_name=run_name)
async def search(statement: str, asked_at: float | None = None) -> dict[str, Any]:
    """Evaluate what a question asks for, and leave its answer as an artifact.

    Declarations may stand before the question. WITHIN counts from `asked_at` (seconds since 1970), or from now. Returns
    what was done: `computed` (fingerprints of the evaluations computed here), `embedded_rows`, `reused_rows`,
    `embed_seconds` by model, `download_seconds`, `flow_run_id`, and `partial`, whether a limit ended it. The results
    themselves are in the stores.
    """
    return await leave_answer(answer_question, statement, asked_at)


async def leave_answer(find: Find, statement: str, asked_at: float | None) -> dict[str, Any]:
    """Find the answer to the statement that a run is about, and leave it as its artifact; what was done."""
    settings = current_settings()
    with features_in_use(settings), told_run(statement):
        board = Board(statement)
        found, done = await find(statement, Database(settings), board, asked_at)
        await board.put(found)
        return done


async def answer_question(
    statement: str, database: Database, board: Board, asked_at: float | None = None
) -> tuple[Answer, dict[str, Any]]:
    """Evaluate what a question asks for, the answer so far on the board; its answer and what was done, see `search`."""
    bound, attempted, done = await evaluate(statement, database, board, asked_at)
    plan = prepare(bound, database, attempted)
    found = answer(bound, plan, database, done, partial=done["partial"])
    tell_answer(found)
    CheckpointStore(current_settings()).demote(_losers(plan, found))
    return found, done


async def evaluate(
    statement: str, database: Database, board: Board, asked_at: float | None = None
) -> tuple[Question, set[str], dict[str, Any]]:
    """Evaluate what a question asks for; the question as it is bound at last, what was attempted, what was done.

    The answer so far is on the board meanwhile.
    """
    question, declared = read_script(statement)
    work = Work()
    attempted: set[str] = set()
    tries: Counter[str] = Counter()
    downloads = Downloads(database)
    within = question.within if isinstance(question, ast.Select | ast.Finetune) else None
    limits = Limits(time.time() if asked_at is None else asked_at, within)
    results = ResultStore(database)
    while True:
        bound = bind(question, database, statement, declared, look_up(database, attempted))
        found = _first_to_compute(bound, database, attempted)
        if found is None:
            break
        step, pending = found
        if limits.ended(step.text):
            # It is known as far as it got.
            attempted |= {evaluation.fingerprint for evaluation in pending.new_evaluations}
            continue
        attempting = {evaluation.fingerprint for evaluation in pending.new_evaluations}
        async with limits.of(step.text, pending, results, work.computed):
            if await downloads.fetch(pending):
                continue
            pending, failed = downloads.give_up(pending)
            work.computed += failed
            progress.get().begin(len(pending.new_evaluations))
            showing: contextlib.AbstractAsyncContextManager[None] = contextlib.nullcontext()
            if step is bound:
                so_far = partial(_so_far, bound, database, frozenset(attempted))
                showing = board.kept_up(so_far, work.computed, len(pending.new_evaluations))
            async with showing:
                await compute(pending, database, work)
        # What somebody purged since it was recorded is computed again, though not for ever.
        tries.update(attempting)
        recorded = results.outcomes(attempting)
        attempted |= {each for each in attempting if each in recorded or tries[each] == _TRIES}
        work.computed = [each for each in work.computed if each not in attempting - attempted]
    work.download_seconds = downloads.seconds
    work.partial = limits.were_reached
    return bound, attempted, {**asdict(work), "flow_run_id": str(flow_run.id)}


def _losers(plan: PlanNode, found: Answer) -> set[str]:
    """The trainings of all models but the best: nobody is likely to go on with them."""
    if not isinstance(plan, Rank) or not isinstance(found, RankingAnswer) or plan.descending:
        return set()
    best = {ranking[0]["model"] for ranking in found.rankings.values() if ranking}
    keys: dict[bool, set[str]] = {True: set(), False: set()}
    for evaluate in plan.evaluates:
        for planned in evaluate.evaluations:
            if planned.evaluation.method == FULL:
                keys[planned.evaluation.model.name in best].add(training_key(planned.evaluation))
    return keys[False] - keys[True]


def _so_far(question: Question, database: Database, attempted: frozenset[str]) -> Answer:
    return answer(question, prepare(question, database, attempted), database, {}, partial=True)


def _first_to_compute(question: Question, database: Database, attempted: set[str]) -> tuple[Question, Step] | None:
    """The first step of a question with evaluations that were not tried yet; those it rests on come first."""
    for step in steps_in((question,)):
        plan = prepare(step, database, attempted)
        if any(evaluation.fingerprint not in attempted for evaluation in plan.new_evaluations):
            assert isinstance(plan, Step)
            return step, _without(plan, attempted)
    return None


def _without(plan: Step, attempted: set[str]) -> Step:
    """The plan without what was tried in vain: a round of a strategy does not try what the one before did."""
    evaluates = tuple(
        replace(
            evaluate,
            evaluations=tuple(
                each for each in evaluate.evaluations if each.known or each.evaluation.fingerprint not in attempted
            ),
        )
        for evaluate in plan.evaluates
    )
    return replace(plan, evaluates=evaluates)
