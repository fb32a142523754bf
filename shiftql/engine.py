"""The engine: runs statements, from the stores where everything is known and as a Prefect flow where not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from shiftql import ast
from shiftql.answers import Answer, ErrorAnswer, ExplainAnswer, FinetuneAnswer, MatrixAnswer, RowsAnswer, TextAnswer
from shiftql.parser import parse
from shiftql.progress import progress
from storage.errors import BindingError, PlanError, ShiftError, StoreError
from storage.settings import current_settings
from storage.uncollected import uncollected

if TYPE_CHECKING:
    from deployments.stack import Part
    from flows.registration import Outcome
    from shiftql.benchmark import Grid
    from shiftql.bound import Declaration, Question
    from shiftql.plan import PlanNode
    from shiftql.remote import Remote
    from shiftql.simulated_pool import Pool
    from storage.catalog import Catalog, DatasetRecord, ModelRecord
    from storage.database import Database
    from storage.watches import Recorded
    from tasks.playground.build import Manifest


# How what is new of a plan is computed, given its script and when it was asked; returns what flows.search.search does.
Compute = Callable[[str, "PlanNode", float], Mapping[str, Any]]


class Ran(NamedTuple):
    """The answer to a question, what was done for it, and its plan before and at the end.

    It is not complete where the rest goes on without it, or was interrupted.
    """

    answer: Answer
    work: Mapping[str, Any]
    planned: PlanNode
    followed: PlanNode
    is_complete: bool = True


class Session:
    """One user's session on one home: its catalog and the names declared in it.

    Opening it costs nothing; the catalog is opened when first needed. Without `wait` a question with new work is
    answered by what is known, and the work goes on in a process of its own, as with NOWAIT. `no_rules` names rules of
    the optimizer (shiftql.rules) to be left out; raises BindingError where there is none of a name. With `compute` new
    work is done by it, and always waited for; else by a flow of this process. With `server`, and after USE, statements
    are sent to the Prefect server at that address, and answered by the deployment `search` there.
    """

    def __init__(
        self,
        *,
        wait: bool = True,
        no_rules: Iterable[str] = (),
        compute: Compute | None = None,
        server: str | None = None,
    ) -> None:
        self._wait = wait
        self._compute_by = compute
        self._no_rules = tuple(no_rules)
        if self._no_rules:
            from shiftql.rules import rule_names

            self._no_rules = tuple(sorted(rule_names(self._no_rules)))
        self._remote: Remote | None = None
        if server is not None:
            self.use(server)
        self.declared: dict[str, Declaration] = {}
        # Of the question that was answered last.
        self.plan: PlanNode | None = None
        self._new_paths: list[str] = []
        # When the statement was asked that is being answered, in seconds since 1970.
        self._asked_at = 0.0

    @cached_property
    def _database(self) -> Database:
        from storage.database import Database

        return Database(current_settings())

    @cached_property
    def catalog(self) -> Catalog:
        """The models and datasets of this home."""
        from storage.catalog import Catalog

        return Catalog(self._database)

    @property
    def server(self) -> str | None:
        """The address of the server that statements are sent to; None where they are answered here."""
        return None if self._remote is None else self._remote.ui_url

    def use(self, server: str) -> None:
        """Send the statements that follow to a server. Raises BindingError where it is no address of one."""
        from shiftql.remote import Remote

        self._remote = Remote(server)

    def trigger(self, deployment: str, parameters: Mapping[str, Any], *, wait: bool) -> Answer:
        """Start a deployment of the server, or of the one that is configured; its answer, or where it goes on."""
        from shiftql.distant import followed, started
        from shiftql.remote import Remote

        remote = self._remote or Remote(configured_api())
        run = remote.start(deployment, parameters)
        if not wait:
            return started(run)
        progress.get().note(f"run {run.url}")
        return followed(remote, run)

    def run(self, text: str) -> Iterator[Answer]:
        """The answer to each statement of `text`, as it is found; ends after the first that fails."""
        if not isinstance(text, str):
            raise TypeError(f"a query is text, not {type(text).__name__}")
        started = time.perf_counter()
        try:
            with uncollected():
                statements = parse(text)
        except ShiftError as error:
            yield ErrorAnswer(statement=text, seconds=time.perf_counter() - started, error=error)
            return
        for statement in statements:
            started, self._asked_at = time.perf_counter(), time.time()
            written = text[statement.position.start : statement.position.end]
            self._new_paths, self.plan = [], None
            try:
                with self._without_rules():
                    answer = self._answer(statement, text)
            except Exception as error:
                self._forget_paths()
                problem = error if isinstance(error, ShiftError) else _explained(error)
                if problem is None:
                    raise
                yield ErrorAnswer(statement=written, seconds=time.perf_counter() - started, error=problem)
                return
            if isinstance(statement, ast.Explain | ast.Declare):
                self._forget_paths()
            yield replace(answer, statement=written, seconds=time.perf_counter() - started)

    def add_model(
        self, name: str, location: str, *, source: str | None = None, columns: Mapping[str, Any] | None = None
    ) -> ModelRecord:
        """Register or update a model from a directory, a hub id or a hub handle."""
        from flows.registration import register_model

        return register_model(self.catalog, name, location, source, columns)

    def add_models(
        self,
        location: str,
        *,
        prefix: str = "",
        source: str | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> RowsAnswer:
        """Register or update the models of a hub's listing, a directory tree or a CSV file; what became of each."""
        from flows.registration import register_models

        return _told_of(register_models(self.catalog, location, prefix, source, columns))

    def add_starters(self, modality: str) -> RowsAnswer:
        """Register or update well-known models of one kind of input, by what is told of them; see tasks.pools."""
        from flows.registration import register_starters

        return _told_of(register_starters(self.catalog, modality))

    def add_dataset(
        self, name: str, path: str, *, reader: str | None = None, options: Mapping[str, str] | None = None
    ) -> DatasetRecord:
        """Register or update a dataset split from a file or folder."""
        from flows.registration import register_dataset

        dataset = register_dataset(self.catalog, name, path, reader, options)
        if dataset.num_classes > dataset.num_rows / 2:
            progress.get().note(
                f"{name} has {dataset.num_classes} classes in {dataset.num_rows} rows: is that the label? "
                "label_column names another"
            )
        return dataset

    def predict(self, name: str, data: str) -> RowsAnswer:
        """What a model predicts for every row of a registered dataset, or of a file or folder, labelled or not.

        Raises ShiftError when there is no such model, it predicts nothing, or does not fit the rows.
        """
        from flows.predicting import predict

        started = time.perf_counter()
        found = predict(self.catalog, name, data)
        if found["unread"]:
            rows = "row" if found["unread"] == 1 else "rows"
            progress.get().note(f"{found['unread']} {rows} of {data} could not be read: first {found['first']}")
        return RowsAnswer(
            statement=f"predict {name} {data}",
            seconds=time.perf_counter() - started,
            columns=("row", "input", "prediction", "probability"),
            rows=tuple(found["rows"]),
        )

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

    def purge(
        self, what: str, *, model: str | None = None, older_than: float | None = None, dry_run: bool = False
    ) -> Mapping[str, int]:
        """Delete `results`, `features` or `all` of it, of one model or older than some seconds; how much that is.

        With `dry_run` nothing is deleted.
        """
        from flows.upkeep import purge_stores

        return purge_stores(what, model=model, older_than=older_than, dry_run=dry_run)

    def examine(self, *, fix: bool = False, rebuild: bool = False) -> Mapping[str, Any]:
        """What is wrong in catalog and stores (`findings`), and with `fix` what was put right.

        With `rebuild` results that only MLflow has are brought back first; `restored` says how many.
        """
        from flows.upkeep import examine

        return examine(self.catalog, fix=fix, rebuild=rebuild)

    def benchmark(self, models: str = "*", datasets: str = "*", by: str = "FineTune") -> MatrixAnswer:
        """The performance matrix as far as it is known, of models and datasets named as `name,pattern,…`."""
        from shiftql.benchmark import known_matrix

        return known_matrix(self._open_grid(models, datasets, by))

    def benchmark_clusters(self, models: str = "*", datasets: str = "*", by: str = "FineTune") -> RowsAnswer:
        """The clusters of models that did alike in the performance matrix, each with its best, the representative."""
        from shiftql.pool_clusters import clusters_of, listed
        from storage.kept_clusters import ClusterStore

        started = time.perf_counter()
        grid = self._open_grid(models, datasets, by)
        answer = listed(clusters_of(grid, models, datasets, ClusterStore(current_settings().clusters)))
        if answer.rows and all(row["models"] == 1 for row in answer.rows):
            progress.get().note("no two models did alike on at least 6 datasets that both are measured on")
        return replace(answer, seconds=time.perf_counter() - started)

    def plan_benchmark(
        self, models: str = "*", datasets: str = "*", by: str = "FineTune", *, budget: float | None = None
    ) -> MatrixAnswer:
        """What `build_benchmark` would measure, in which order, and what that is predicted to cost."""
        from shiftql.benchmark import expected_matrix

        self._register_benchmarks(datasets)
        try:
            return expected_matrix(self._open_grid(models, datasets, by), budget)
        finally:
            self._forget_paths()

    def build_benchmark(
        self, models: str = "*", datasets: str = "*", by: str = "FineTune", *, budget: float | None = None
    ) -> MatrixAnswer:
        """Measure the unknown cells of the performance matrix, within a budget of evaluation seconds if there is one.

        Cells that tell most for their price come first. What is interrupted goes on when it is asked for again.
        """
        from shiftql.benchmark import known_matrix
        from shiftql.pool_clusters import clusters_of
        from storage.kept_clusters import ClusterStore

        self._register_benchmarks(datasets)
        try:
            grid = self._open_grid(models, datasets, by)
        except ShiftError:
            self._forget_paths()
            raise
        work: Mapping[str, Any] = {}
        is_interrupted = False
        if any(cell.outcome is None for cell in grid.cells.values()):
            parameters = {"models": models, "datasets": datasets, "by": by, "budget_seconds": budget}
            work, is_interrupted = self._measure(grid, parameters)
            grid = self._open_grid(models, datasets, by)
        clusters_of(grid, models, datasets, ClusterStore(current_settings().clusters))
        return known_matrix(
            grid,
            computed=work.get("computed", ()),
            spent=work.get("spent_seconds", 0.0),
            attempted=work.get("failed"),
            interrupted=is_interrupted,
        )

    def pool_costs(self, models: str = "*", trained_on: str | None = None, by: str = "Linear") -> Pool:
        """What each of the models, named as `name,pattern,…`, is expected to take, for a simulation.

        With a dataset, those that take its rows, and how many rows it has.
        """
        from flows.registration import refresh_datasets, refresh_models
        from shiftql.benchmark import choose_benchmarks
        from shiftql.preparation import cost_model
        from shiftql.simulated_pool import open_pool

        refresh_models(self.catalog)
        if trained_on is not None:
            found = choose_benchmarks(trained_on, self.catalog.datasets())
            refresh_datasets(self.catalog, {split for benchmark in found for split in benchmark.splits})
        return open_pool(self.catalog, cost_model(self._database, self.catalog.models()), models, trained_on, by)

    def deploy(self, tell: Callable[[str], None]) -> int:
        """Make pools, queues, deployments and automations on the server, or on the one that is configured, telling each
        change as it is made; how many there were.

        Raises StoreError when there is no server.
        """
        from deployments.deploy import deploy

        return deploy(self._remote.api_url if self._remote is not None else configured_api(), tell)

    def refresh_watches(self, names: Iterable[str] = (), *, budget: float) -> RowsAnswer:
        """Ask standing questions again now, those of these names or all; what came of each.

        So many seconds may be spent on the rows that new models have in the performance matrix.
        """
        from flows.watching import ask_what_is_known
        from shiftql.watching import chosen_watches

        started = time.perf_counter()
        chosen = chosen_watches(names, self._database)
        known = ask_what_is_known(chosen, self._database, "refreshed")
        rows = self._ask_again(chosen, budget) if known is None else [asdict(outcome) for outcome in known]
        columns = ("watch", "first", "before", "evaluated", "reused", "failure")
        seconds = time.perf_counter() - started
        return RowsAnswer(statement="", seconds=seconds, columns=columns, rows=tuple(rows))

    def _ask_again(self, watches: Sequence[str], budget: float) -> Sequence[Mapping[str, Any]]:
        from flows.run import run_reevaluation

        parameters = {"watches": watches, "reason": "refreshed", "budget_seconds": budget}
        try:
            done: Sequence[Mapping[str, Any]] = run_reevaluation(parameters, current_settings())["watches"]
            return done
        finally:
            progress.get().end()

    def watch_history(self, name: str) -> Sequence[Recorded]:
        """What a standing question answered, oldest first. Raises BindingError where there is none of that name."""
        from shiftql.watching import chosen_watches
        from storage.watches import WatchStore

        (chosen,) = chosen_watches([name], self._database)
        return WatchStore(self._database).history(chosen)

    def start_stack(self, workers: int | None, mlflow: bool | None, port: int | None) -> Iterator[Part]:
        """Start what is missing of the home's stack; each part as it is up. None leaves a choice as it was."""
        from deployments.stack import up

        return up(current_settings(), workers, mlflow, port)

    def stop_stack(self) -> list[str]:
        """Stop all that runs in the background for the home but queries; the names of what did."""
        from deployments.stack import down

        return down(current_settings())

    def stack(self) -> list[Part]:
        """What runs in the background for the home, and what should and does not."""
        from deployments.stack import parts

        return parts(current_settings())

    def _without_rules(self) -> AbstractContextManager[None]:
        if not self._no_rules:
            return nullcontext()
        from shiftql.rules import without

        return without(self._no_rules)

    def _answer(self, statement: ast.Query | ast.Statement, text: str) -> Answer:
        match statement:
            case ast.Use(url=url) if self._compute_by is None:
                return self._use(url, statement, text)
            case ast.Help():
                return _help(statement, text)
            case ast.Declare():
                return self._declare(statement, text)
            case _ if self._remote is not None:
                return self._ask_elsewhere(self._remote, statement, text)
            case ast.Explain():
                return self._explain(statement, text)
            case ast.Register():
                return self._register(statement, text)
            case ast.Show():
                return self._show(statement, text)
            case ast.Print(query=query):
                return self._ask(query, text)
            case ast.Select() | ast.SetOperation() | ast.DeclaredName() | ast.Finetune():
                answer = self._ask(statement, text)
                _say_what_is_not_kept(statement, answer)
                return answer
            case ast.Purge(what=what):
                from shiftql.upkeep import worded_purge
                from shiftql.vocabulary import PURGED

                chosen = "all" if what is None else _one_of(PURGED, what, statement, text)
                return _said(f"deleted {worded_purge(self.purge(chosen))}")
            case ast.Watch():
                return self._watch(statement, text)
            case ast.Unwatch():
                return self._unwatch(statement, text)
            case _:
                raise _not_executable(type(statement).__name__.upper(), statement, text)

    def _ask_elsewhere(self, remote: Remote, statement: ast.Query | ast.Statement, text: str) -> Answer:
        from shiftql.distant import ask_at
        from shiftql.script import question_of

        question = question_of(statement)
        return ask_at(remote, statement, text, self.declared, wait=question is None or self._waits_for(question))

    # --- questions ------------------------------------------------------------------------------------------------

    def _ask(self, question: ast.Query | ast.Finetune, text: str) -> Answer:
        return self._run(question, text).answer

    def _run(self, question: ast.Query | ast.Finetune, text: str) -> Ran:
        """Run a question, and again where the connection to the database is lost meanwhile: what is recorded stays."""
        from storage.outages import again

        ran = again(lambda: self._run_once(question, text))
        self.plan = ran.followed
        return ran

    def _run_once(self, question: ast.Query | ast.Finetune, text: str) -> Ran:
        from shiftql.answering import answer

        started = time.perf_counter()
        self._refresh(question)
        bound, planned = self._prepare(question, text)
        _say_what_is_held_out(planned)
        _say_what_is_shared(planned)
        if not planned.new_evaluations and not self._is_left_to_keep(bound, planned):
            _say_what_is_left_out(planned)
            return Ran(answer(bound, planned, self._database, {}), {}, planned, planned)
        if not self._waits_for(question):
            return Ran(self._go_on_without(question, text, bound, planned), {}, planned, planned, is_complete=False)
        work, partial = self._compute(question, planned)
        is_complete = bool(work)
        # What rested on rankings, rounds or fingerprints that were not known yet is another question now.
        bound, plan = self._prepare(question, text, final=True)
        if partial:
            # Some of it may have been recorded by somebody who was cancelled before telling so.
            work = {**work, "computed": sorted(_known_in(plan) - _known_in(planned))}
        _say_what_is_left_out(plan)
        found = answer(bound, plan, self._database, work, partial=partial)
        if not partial:
            from shiftql.learning import learn_run

            learn_run(planned, work, time.perf_counter() - started, self._database)
        return Ran(found, work, planned, plan, is_complete)

    def _is_left_to_keep(self, bound: Question, plan: PlanNode) -> bool:
        """Whether all is trained, and the best of it is not kept yet."""
        from shiftql.bound import BoundFinetune
        from shiftql.keeping import to_be_kept
        from shiftql.plan import Finetune

        if not isinstance(bound, BoundFinetune) or not isinstance(plan, Finetune):
            return False
        return to_be_kept(bound, plan, self._database) is not None

    def _bind(self, question: ast.Query | ast.Finetune, text: str, *, final: bool = False) -> Question:
        from shiftql.answering import look_up
        from shiftql.binder import bind

        lookup = look_up(self._database, None if final else frozenset())
        return bind(question, self._database, text, self.declared, lookup)

    def _prepare(
        self, question: ast.Query | ast.Finetune, text: str, *, final: bool = False
    ) -> tuple[Question, PlanNode]:
        from shiftql.preparation import prepare

        with uncollected():
            bound = self._bind(question, text, final=final)
            return bound, prepare(bound, self._database, None if final else frozenset(), _to_start)

    def _refresh(self, question: ast.Query | ast.Finetune) -> None:
        """Take note of changed files, and of paths that stand for datasets, before names are bound to fingerprints.

        Whoever asks for results finds the published ones among them.
        """
        from shiftql.script import dataset_names, relation_names

        if "benchmark_results" in relation_names(question, self.declared):
            from shiftql.published import keep_published

            keep_published(self._database)
        names = dataset_names(question, self.declared)
        if names:
            from flows.registration import refresh_datasets, refresh_models, register_paths
            from storage.locations import full_name

            self._new_paths += register_paths(self.catalog, names)
            refresh_models(self.catalog)
            for name in refresh_datasets(self.catalog, names | {full_name(name) for name in names}):
                progress.get().note(f"the files of {name} changed and were read again")

    def _forget_paths(self) -> None:
        """Take the paths that a statement made datasets of out of the catalog again."""
        for path in self._new_paths:
            self.catalog.remove_dataset(path)

    def _compute(self, question: ast.Query | ast.Finetune, plan: PlanNode) -> tuple[Mapping[str, Any], bool]:
        """Run what is new as a flow; what it did (nothing, when interrupted), and whether it ended before its end."""
        from flows.run import run_finetuning, run_search
        from shiftql.script import write_script

        script = write_script(question, self.declared)
        try:
            if self._compute_by is not None:
                work = self._compute_by(script, plan, self._asked_at)
            elif isinstance(question, ast.Finetune):
                work = run_finetuning(script, plan, current_settings())
            else:
                work = run_search(script, plan, current_settings(), self._asked_at)
            return work, work["partial"]
        except KeyboardInterrupt:
            progress.get().note("interrupted: this is the answer so far; asking again goes on from here")
            return {}, True
        finally:
            progress.get().end()

    # --- the performance matrix -----------------------------------------------------------------------------------

    def _register_benchmarks(self, written: str) -> None:
        """Register the paths among datasets that are written as `name,pattern,…`."""
        from flows.registration import register_paths
        from storage.locations import is_remote, looks_like_path

        parts = map(str.strip, written.split(","))
        self._new_paths = register_paths(
            self.catalog, {each for each in parts if is_remote(each) or looks_like_path(each)}
        )

    def _open_grid(self, models: str, datasets: str, by: str) -> Grid:
        from flows.registration import refresh_datasets, refresh_models
        from shiftql.benchmark import choose_benchmarks, open_grid

        refresh_models(self.catalog)
        found = choose_benchmarks(datasets, self.catalog.datasets())
        for name in refresh_datasets(self.catalog, {split for benchmark in found for split in benchmark.splits}):
            progress.get().note(f"the files of {name} changed and were read again")
        with uncollected():
            return open_grid(self._database, models, datasets, by)

    def _measure(self, grid: Grid, parameters: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
        """Run a build as a flow; what it did, and whether it was interrupted before its end."""
        from flows.run import run_benchmark
        from storage.results import ResultStore

        try:
            return run_benchmark(parameters, current_settings()), False
        except KeyboardInterrupt:
            progress.get().note("interrupted: what is measured is kept, and the same command goes on from here")
            unknown = [cell.fingerprint for cell in grid.cells.values() if cell.outcome is None]
            known = ResultStore(self._database).known(unknown)
            spent = sum(outcome.cost_seconds for outcome in known.values())
            return {"computed": list(known), "spent_seconds": spent}, True
        except Exception as error:
            problem = _explained(error)
            if problem is None:
                raise
            raise problem from error
        finally:
            progress.get().end()

    def _waits_for(self, question: ast.Query | ast.Finetune) -> bool:
        written = getattr(question, "wait", None)
        return self._compute_by is not None or (self._wait if written is None else written)

    def _go_on_without(self, question: ast.Query | ast.Finetune, text: str, bound: Question, plan: PlanNode) -> Answer:
        """The answer by what is known; the rest goes on in a process of its own."""
        from flows.detached import compute_detached
        from shiftql.answering import answer
        from shiftql.answers import RankingAnswer
        from shiftql.script import write_script
        from storage.baselines import MAJORITY, RAW

        waiting = replace(question, wait=None) if isinstance(question, ast.Select | ast.Finetune) else question
        run = compute_detached(write_script(waiting, self.declared), current_settings(), self._no_rules)
        progress.get().note(f"the rest goes on as {run}; asking again attaches to it")
        if bound.inputs:
            bound, plan = self._prepare(question, text, final=True)
        known = answer(bound, plan, self._database, {}, partial=True)
        if not isinstance(known, RankingAnswer):
            return known
        running = sorted({each.model.name for each in plan.new_evaluations} - {MAJORITY.name, RAW})
        return replace(known, running=tuple(running), work={**known.work, "run": run})

    # --- other statements -----------------------------------------------------------------------------------------

    def _explain(self, statement: ast.Explain, text: str) -> Answer:
        from shiftql.explain import plan_as_json, plan_as_tree, rules_as_json, rules_as_text, total_as_json

        question = statement.statement
        actual = None
        if statement.analyze:
            from shiftql.actuals import measure_plan

            started = time.perf_counter()
            ran = self._run(question, text)
            seconds = time.perf_counter() - started
            plan = ran.planned
            actual = measure_plan(plan, ran.followed, ran.answer, ran.work, self._database, seconds)
        else:
            self._refresh(question)
            _, plan = self._prepare(question, text)
        return ExplainAnswer(
            statement=statement.text,
            seconds=0.0,
            text="\n\n".join(filter(None, (plan_as_tree(plan, actual), rules_as_text(plan)))),
            plan={**plan_as_json(plan, actual), "total": total_as_json(plan, actual), "rules": rules_as_json(plan)},
            as_json=statement.json,
        )

    def _declare(self, statement: ast.Declare, text: str) -> Answer:
        from shiftql.places import Places
        from shiftql.relations import relation_named
        from shiftql.script import declare

        if relation_named(statement.name) is not None:
            places = Places(text)
            places.fail(
                places.part(statement, statement.name),
                f"{statement.name!r} is a relation's name already",
                fix="declare the query under another name",
            )
        if self._remote is None:
            self._refresh(statement.query)
            self._bind(statement.query, text)
        self.declared = declare(self.declared, statement, text)
        return _said(f"{statement.name} is declared; PRINT {statement.name} answers it")

    def _watch(self, statement: ast.Watch, text: str) -> Answer:
        """Ask a question once, and keep it to be asked again; the same one under the same name changes nothing."""
        from shiftql.watching import asked, worded_watch, write_watch
        from storage.watches import WatchStore

        store, name, every = WatchStore(self._database), statement.name, statement.every
        self._refresh(statement.query)
        self._bind(statement.query, text)
        script = write_watch(statement.query, self.declared)
        before = store.find(name)
        if before is not None and (before.script, before.every_seconds) == (script, every):
            return _said(f"{name} is watched already; SHOW WATCHES tells when it was last asked")
        started = time.perf_counter()
        ran = None if before is not None and before.script == script else self._run(statement.query, text)
        store.save(name, script, every)
        if ran is not None and ran.is_complete:
            store.record(name, script, asked(ran.answer, "created", time.perf_counter() - started))
        elif ran is not None:
            from flows.announcing import announce

            announce("watch", "created", [name])
        kept = store.find(name)
        assert kept is not None
        latest = store.latest([name]).get(name)
        again = "" if ran is None or before is None else ", in place of the earlier question"
        return _said(worded_watch(kept, None if latest is None else latest.ranked, again))

    def _unwatch(self, statement: ast.Unwatch, text: str) -> Answer:
        from shiftql.places import Places
        from storage.watches import WatchStore

        store, name = WatchStore(self._database), statement.name
        if store.find(name) is None:
            places, names = Places(text), [watch.name for watch in store.all()]
            places.fail(
                places.part(statement, name),
                f"there is no watch {name!r}",
                name,
                names,
                fix=None if names else "WATCH best AS SELECT … makes one",
            )
        store.remove(name)
        return _said(f"{name} is watched no longer; its history is deleted")

    def _use(self, url: str, statement: ast.Use, text: str) -> Answer:
        from shiftql.places import Places

        try:
            self.use(url)
        except BindingError as error:
            places = Places(text)
            raise places.placed(error, places.part(statement, url)) from None
        return _said(f"what follows is sent to {self.server}")

    def _show(self, statement: ast.Show, text: str) -> Answer:
        from shiftql.showing import rows_of
        from shiftql.vocabulary import SHOWN

        columns, rows = rows_of(_one_of(SHOWN, statement.what, statement, text), self._database)
        return RowsAnswer(statement=statement.text, seconds=0.0, columns=columns, rows=tuple(rows))

    def _register(self, statement: ast.Register, text: str) -> Answer:
        from shiftql.registering import registration

        wanted = registration(statement, text)
        if statement.kind == "models":
            return self.add_models(wanted.location, prefix=wanted.name, source=wanted.format, columns=wanted.columns)
        known = (self.catalog.models if statement.kind == "model" else self.catalog.datasets)()
        again = ", in place of the earlier one" if wanted.name in {record.name for record in known} else ""
        if statement.kind == "model":
            model = self.add_model(wanted.name, wanted.location, source=wanted.format, columns=wanted.columns)
            return _said(f"model {model.name} is registered: {model.modality}, from {model.source}{again}")
        dataset = self.add_dataset(wanted.name, wanted.location, reader=wanted.format, options=wanted.options)
        classes = f", {dataset.num_classes} classes" if dataset.num_classes else ""
        skipped = f", {dataset.num_skipped} skipped" if dataset.num_skipped else ""
        return _said(
            f"dataset {dataset.name} is registered: {dataset.num_rows} rows for {dataset.task}{classes}{skipped}{again}"
        )


def configured_api() -> str:
    """The API of the Prefect server that PREFECT_API_URL names, or that runs in this home.

    Raises StoreError where there is neither.
    """
    from flows.server import running_server

    if url := os.environ.get("PREFECT_API_URL"):
        return url
    server = running_server(current_settings())
    if server is None:
        raise StoreError(
            "there is no Prefect server: PREFECT_API_URL is not set, and none runs in this home",
            subject="PREFECT_API_URL",
            fix="start one with 'shiftql up', or set PREFECT_API_URL, such as http://host:4200/api",
        )
    return server.api_url


def query(text: str, server: str | None = None) -> Answer:
    """Run `text`, here or at a server, and return the answer to its last statement.

    Raises the ShiftError of one that fails.
    """
    answer: Answer | None = None
    for answer in Session(server=server).run(text):
        if isinstance(answer, ErrorAnswer):
            raise answer.error
    assert answer is not None
    return answer


def _told_of(outcomes: Iterable[Outcome]) -> RowsAnswer:
    rows = [
        {
            "name": outcome.name,
            "status": outcome.status,
            "modality": outcome.model and outcome.model.modality,
            "num_params": outcome.model and outcome.model.num_params,
            "size_bytes": outcome.model and outcome.model.size_bytes,
            "is_local": outcome.model and outcome.model.is_local,
            "reason": outcome.reason,
        }
        for outcome in outcomes
    ]
    return RowsAnswer(statement="", seconds=0.0, columns=tuple(rows[0]), rows=tuple(rows))


def _say_what_is_held_out(plan: PlanNode) -> None:
    from shiftql.plan import Rank

    tests = {node.test.subject: node.test for node in plan.walk() if isinstance(node, Rank) and node.test}
    for test in tests.values():
        if test.is_held_out:
            which = f"{test.num_rows} rows of {test.subject.name}"
            progress.get().note(f"tested on {which}, a fifth (of each class where rows have one), seed 0")


def _say_what_is_left_out(plan: PlanNode) -> None:
    from shiftql.plan import Evaluate

    left_out = sum(node.left_out for node in plan.walk() if isinstance(node, Evaluate))
    if left_out:
        count = "1 evaluation" if left_out == 1 else f"{left_out} evaluations"
        progress.get().note(f"the budget leaves out {count}; a larger one goes on from here")


def _say_what_is_shared(plan: PlanNode) -> None:
    from shiftql.plan import Rank

    ranks = [node for node in plan.walk() if isinstance(node, Rank)]
    splits = {(node.train.subject, node.test.subject) for node in ranks if node.train and node.test}
    if not splits:
        return
    from storage.manifests import load_manifest
    from storage.splits import count_shared

    root = current_settings().manifests
    for train, test in sorted(splits, key=lambda pair: (pair[0].name, pair[1].name)):
        tested = load_manifest(root, test.fingerprint)
        if shared := count_shared(load_manifest(root, train.fingerprint), tested):
            progress.get().note(
                f"{shared} of {tested.num_rows} test rows of {test.name} are also in the training split {train.name}"
            )


def _say_what_is_not_kept(statement: ast.Query | ast.Statement, answer: Answer) -> None:
    is_nameless = isinstance(statement, ast.Finetune) and statement.name is None
    if is_nameless and isinstance(answer, FinetuneAnswer) and answer.ranking:
        progress.get().note(f"nothing is kept: AS 'name' keeps the best, {answer.ranking[0]['model']}")


def _to_start(plan: PlanNode) -> set[str]:
    """What has to be started for a plan; what runs already is looked for only where there is work for it."""
    from flows.starting import to_start

    return to_start(plan)


def _one_of(words: Iterable[str], written: str, statement: ast.Statement, text: str) -> str:
    """The word that is written, in any spelling. Raises BindingError naming the near ones."""
    from shiftql.places import Places
    from storage.names import fold

    for word in words:
        if fold(word) == fold(written):
            return word
    phrase = type(statement).__name__.upper()
    places = Places(text)
    places.fail(places.part(statement, written), f"{phrase} does not know {written!r}", written, words)


def _help(statement: ast.Help, text: str) -> TextAnswer:
    from shiftql.places import Places
    from shiftql.reference import help_text

    try:
        return _said(help_text(statement.topic))
    except BindingError as error:
        places = Places(text)
        raise places.placed(error, places.part(statement, statement.topic or "")) from None


def _explained(error: Exception) -> StoreError | None:
    """What to tell of an error that the disk or the database caused; None for any other."""
    from storage.outages import explain

    return explain(error, current_settings())


def _said(text: str) -> TextAnswer:
    return TextAnswer(statement="", seconds=0.0, text=text)


def _known_in(plan: PlanNode) -> set[str]:
    """The fingerprints of what is known of a plan."""
    from shiftql.plan import Evaluate

    nodes = [node for node in plan.walk() if isinstance(node, Evaluate)]
    return {each.evaluation.fingerprint for node in nodes for each in node.evaluations if each.known}


def _not_executable(what: str, node: ast.Node, text: str) -> PlanError:
    place = node.position
    return PlanError(
        f"{what} is not executable yet",
        text=text,
        line=place.line,
        column=place.column,
        length=place.length,
        subject=what,
    )
