"""Questions: answered from the stores of a home, after what is new of them was computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from shiftql import ast
from shiftql.answering import answer, look_up
from shiftql.answers import Answer, RankingAnswer
from shiftql.binder import bind
from shiftql.bound import BoundFinetune, Declaration, Question
from shiftql.keeping import to_be_kept
from shiftql.learning import learn_run
from shiftql.plan import Evaluate, Finetune, PlanNode
from shiftql.preparation import prepare
from shiftql.progress import progress
from shiftql.published import keep_published
from shiftql.remarks import (
    say_what_is_held_out,
    say_what_is_left_out,
    say_what_is_shared,
    say_what_is_too_short,
)
from shiftql.script import dataset_names, relation_names, write_script
from storage.baselines import MAJORITY, RAW
from storage.database import Database
from storage.outages import again
from storage.uncollected import uncollected

# How what is new of a plan is computed, given its script and when it was asked; returns what flows.search.search does.
Compute = Callable[[str, PlanNode, float], Mapping[str, Any]]


@dataclass(frozen=True)
class Reach:
    """What answering takes beyond the stores, which flows do.

    `refresh` takes note of changed files, and of paths that stand for datasets, among names; `compute` what is new;
    `detach` has a script answered in a process of its own, and says what its run is called; `to_start` says what has to
    be started for a plan.
    """

    refresh: Callable[[set[str]], None]
    compute: Compute
    detach: Callable[[str], str]
    to_start: Callable[[PlanNode], Collection[str]]


@dataclass(frozen=True)
class Inquiry:
    """A question as it stands in a text, with the names declared before it, and when it was asked (since 1970)."""

    question: ast.Query | ast.Finetune
    text: str
    declared: Mapping[str, Declaration]
    asked_at: float


class Ran(NamedTuple):
    """The answer to a question, what was done for it, and its plan before and at the end.

    It is not complete where the rest goes on without it, or was interrupted.
    """

    answer: Answer
    work: Mapping[str, Any]
    planned: PlanNode
    followed: PlanNode
    is_complete: bool = True


class Questions:
    """Answers inquiries over one home."""

    def __init__(self, database: Database, reach: Reach) -> None:
        self._database = database
        self._reach = reach

    def run(self, inquiry: Inquiry, *, wait: bool) -> Ran:
        """Answer by all that was asked for, or else, without `wait`, by what is known while the rest goes on.

        It is run again where the connection to the database is lost meanwhile: what is recorded stays.
        """
        return again(lambda: self._run(inquiry, wait))

    def refresh(self, inquiry: Inquiry) -> None:
        """Take note of what changed of the datasets that a question names, before these are bound to fingerprints.

        Whoever asks for results finds the published ones among them.
        """
        if "benchmark_results" in relation_names(inquiry.question, inquiry.declared):
            keep_published(self._database)
        if names := dataset_names(inquiry.question, inquiry.declared):
            self._reach.refresh(names)

    def bind(self, inquiry: Inquiry, *, final: bool = False) -> Question:
        """Find what a question names; in the `final` one, by what is known."""
        lookup = look_up(self._database, None if final else frozenset())
        return bind(inquiry.question, self._database, inquiry.text, inquiry.declared, lookup)

    def prepare(self, inquiry: Inquiry, *, final: bool = False) -> tuple[Question, PlanNode]:
        """The question as it is bound, and its plan."""
        with uncollected():
            bound = self.bind(inquiry, final=final)
            return bound, prepare(bound, self._database, None if final else frozenset(), self._reach.to_start)

    def _run(self, inquiry: Inquiry, wait: bool) -> Ran:
        started = time.perf_counter()
        self.refresh(inquiry)
        bound, planned = self.prepare(inquiry)
        say_what_is_held_out(planned)
        say_what_is_shared(planned)
        say_what_is_too_short(planned)
        if not planned.new_evaluations and not self._is_left_to_keep(bound, planned):
            say_what_is_left_out(planned)
            return Ran(answer(bound, planned, self._database, {}), {}, planned, planned)
        if not wait:
            return Ran(self._go_on_without(inquiry, bound, planned), {}, planned, planned, is_complete=False)
        work, partial = self._compute(inquiry, planned)
        is_complete = bool(work)
        # What rested on rankings, rounds or fingerprints that were not known yet is another question now.
        bound, plan = self.prepare(inquiry, final=True)
        if partial:
            # Some of it may have been recorded by somebody who was cancelled before telling so.
            work = {**work, "computed": sorted(_known_in(plan) - _known_in(planned))}
        say_what_is_left_out(plan)
        found = answer(bound, plan, self._database, work, partial=partial)
        if isinstance(found, RankingAnswer):
            found = replace(found, interrupted=not is_complete)
        if not partial:
            learn_run(planned, work, time.perf_counter() - started, self._database)
        return Ran(found, work, planned, plan, is_complete)

    def _is_left_to_keep(self, bound: Question, plan: PlanNode) -> bool:
        """Whether all is trained, and the best of it is not kept yet."""
        if not isinstance(bound, BoundFinetune) or not isinstance(plan, Finetune):
            return False
        return to_be_kept(bound, plan, self._database) is not None

    def _compute(self, inquiry: Inquiry, plan: PlanNode) -> tuple[Mapping[str, Any], bool]:
        """Have what is new computed; what was done (nothing, when interrupted), and whether it ended before its end."""
        try:
            work = self._reach.compute(write_script(inquiry.question, inquiry.declared), plan, inquiry.asked_at)
            return work, work["partial"]
        except KeyboardInterrupt:
            progress.get().note("interrupted: this is the answer so far; asking again goes on from here")
            return {}, True
        finally:
            progress.get().end()

    def _go_on_without(self, inquiry: Inquiry, bound: Question, plan: PlanNode) -> Answer:
        """The answer by what is known; the rest goes on in a process of its own."""
        question = inquiry.question
        waiting = replace(question, wait=None) if isinstance(question, ast.Select | ast.Finetune) else question
        run = self._reach.detach(write_script(waiting, inquiry.declared))
        progress.get().note(f"the rest goes on as {run}; asking again attaches to it")
        if bound.inputs:
            bound, plan = self.prepare(inquiry, final=True)
        known = answer(bound, plan, self._database, {}, partial=True)
        if not isinstance(known, RankingAnswer):
            return known
        running = sorted({each.model.name for each in plan.new_evaluations} - {MAJORITY.name, RAW})
        return replace(known, running=tuple(running), work={**known.work, "run": run})


def _known_in(plan: PlanNode) -> set[str]:
    """The fingerprints of what is known of a plan."""
    nodes = [node for node in plan.walk() if isinstance(node, Evaluate)]
    return {each.evaluation.fingerprint for node in nodes for each in node.evaluations if each.known}
