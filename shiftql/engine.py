"""The engine: runs statements, from the stores where everything is known and as a Prefect flow where not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shiftql.answers import Answer, ErrorAnswer, ExplainAnswer
from shiftql.ast import Explain, Select, Statement
from shiftql.parser import parse
from shiftql.progress import progress
from storage.errors import ShiftError
from storage.settings import current_settings

if TYPE_CHECKING:
    from shiftql.binder import BoundRanking
    from shiftql.plan import Rank
    from storage.catalog import Catalog, DatasetRecord, ModelRecord
    from storage.database import Database
    from tasks.playground.build import Manifest


class Session:
    """One user's session on one home. Opening it costs nothing; the catalog is opened when first needed."""

    @cached_property
    def _database(self) -> Database:
        from storage.database import Database

        return Database(current_settings())

    @cached_property
    def catalog(self) -> Catalog:
        """The models and datasets of this home."""
        from storage.catalog import Catalog

        return Catalog(self._database)

    def run(self, text: str) -> Iterator[Answer]:
        """The answer to each statement of `text`, as it is found; ends after the first that fails."""
        started = time.perf_counter()
        try:
            statements = parse(text)
        except ShiftError as error:
            yield ErrorAnswer(statement=text, seconds=time.perf_counter() - started, error=error)
            return
        for statement in statements:
            started = time.perf_counter()
            try:
                answer = self._answer(statement, text)
            except ShiftError as error:
                yield ErrorAnswer(statement=statement.text, seconds=time.perf_counter() - started, error=error)
                return
            yield replace(answer, seconds=time.perf_counter() - started)

    def add_model(
        self, name: str, location: str, *, source: str | None = None, columns: Mapping[str, Any] | None = None
    ) -> ModelRecord:
        """Register or update a model from a directory, a hub id or a hub handle."""
        from flows.registration import register_model

        return register_model(self.catalog, name, location, source, columns)

    def add_dataset(
        self, name: str, path: str, *, reader: str | None = None, options: Mapping[str, str] | None = None
    ) -> DatasetRecord:
        """Register or update a dataset split from a file or folder."""
        from flows.registration import register_dataset

        return register_dataset(self.catalog, name, path, reader, options)

    def make_playground(self, directory: Path, size: Literal["small", "full"], seed: int) -> Manifest:
        """Build and register the offline pool of models and datasets."""
        from flows.registration import make_playground

        begun = False

        def report(step: str, done: int, total: int) -> None:
            nonlocal begun
            if not begun:
                progress.get().begin(total - done + 1)
                begun = True
            progress.get().advance(step)

        try:
            return make_playground(self.catalog, directory, size, seed, report)
        finally:
            progress.get().end()

    def stop_server(self) -> bool:
        """Stop the home's background Prefect server; False when none runs."""
        from flows.server import stop_server

        return stop_server(current_settings())

    def _answer(self, statement: Statement, text: str) -> Answer:
        from shiftql.answering import answer_ranking, answer_rows
        from shiftql.binder import BoundExplain, BoundRows, bind
        from shiftql.explain import plan_as_json, plan_as_tree
        from shiftql.plan import Rank
        from shiftql.preparation import prepare

        select = statement.statement if isinstance(statement, Explain) else statement
        self._refresh(select)
        bound = bind(statement, self._database, text)
        question = bound.question if isinstance(bound, BoundExplain) else bound
        plan = prepare(question, self._database)
        if isinstance(bound, BoundExplain):
            return ExplainAnswer(statement=bound.text, seconds=0.0, text=plan_as_tree(plan), plan=plan_as_json(plan))
        if isinstance(question, BoundRows):
            return answer_rows(question, self._database)
        assert isinstance(plan, Rank)
        work, partial = self._compute(question, plan) if plan.new_evaluations else ({}, False)
        return answer_ranking(question, plan, self._database, work, partial=partial)

    def _refresh(self, select: Select) -> None:
        """Take note of changed files before names are bound to fingerprints."""
        if select.trained_on or select.tested_on:
            from flows.registration import refresh_datasets, refresh_models

            refresh_models(self.catalog)
            names = {dataset.name for dataset in (*select.trained_on, *select.tested_on)}
            for name in refresh_datasets(self.catalog, names):
                progress.get().note(f"the files of {name} changed and were read again")

    def _compute(self, question: BoundRanking, plan: Rank) -> tuple[Mapping[str, Any], bool]:
        """Run what is new as a flow; what it did, and whether it was interrupted before its end."""
        from flows.run import run_search
        from storage.results import ResultStore

        try:
            return run_search(question.text, plan, current_settings()), False
        except KeyboardInterrupt:
            progress.get().note("interrupted: this is the answer so far; asking again goes on from here")
            known = ResultStore(self._database).known(e.fingerprint for e in plan.new_evaluations)
            return {"computed": list(known)}, True
        finally:
            progress.get().end()


def query(text: str) -> Answer:
    """Run `text` and return the answer to its last statement. Raises the ShiftError of one that fails."""
    answer: Answer | None = None
    for answer in Session().run(text):
        if isinstance(answer, ErrorAnswer):
            raise answer.error
    assert answer is not None
    return answer
