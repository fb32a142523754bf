"""The engine: one user's session, which answers statements and does what commands ask; it alone reaches the flows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shiftql import ast
from shiftql.answers import Answer, ErrorAnswer, MatrixAnswer, RowsAnswer, TextAnswer, said
from shiftql.interrupts import interrupts
from shiftql.parser import parse
from shiftql.progress import progress
from storage.errors import BindingError, PlanError, ShiftError, StoreError
from storage.settings import current_settings
from storage.uncollected import uncollected

if TYPE_CHECKING:
    from deployments.stack import Part
    from shiftql.benchmark import Grid
    from shiftql.bound import Declaration
    from shiftql.plan import PlanNode
    from shiftql.questions import Compute, Inquiry, Questions, Ran
    from shiftql.remote import Remote
    from shiftql.simulated_pool import Pool
    from storage.catalog import Catalog, DatasetRecord, ModelRecord
    from storage.database import Database
    from storage.watches import Recorded
    from tasks.playground.build import Manifest


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

    @cached_property
    def _questions(self) -> Questions:
        from shiftql.questions import Questions, Reach

        return Questions(self._database, Reach(self._refresh, self._compute, self._detach, _to_start))

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

        remote = self._remote or Remote(_api_at_hand())
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
            interrupts.begin()
            started, self._asked_at = time.perf_counter(), time.time()
            written = text[statement.position.start : statement.position.end]
            self._new_paths, self.plan = [], None
            try:
                with self._without_rules():
                    answer = self._answer(statement, text)
            except Exception as error:
                from storage.outages import explain

                self._forget_paths()
                problem = error if isinstance(error, ShiftError) else explain(error, current_settings())
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
        from shiftql.registering import told_of

        return told_of(register_models(self.catalog, location, prefix, source, columns))

    def add_starters(self, modality: str) -> RowsAnswer:
        """Register or update well-known models of one kind of input, by what is told of them; see tasks.pools."""
        from flows.registration import register_starters
        from shiftql.registering import told_of

        return told_of(register_starters(self.catalog, modality))

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
        from flows.run import run_benchmark
        from shiftql.benchmark import known_matrix
        from shiftql.building import build
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
            work, is_interrupted = build(grid, self._database, lambda: run_benchmark(parameters, current_settings()))
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
        from shiftql.preparation import cost_model
        from shiftql.simulated_pool import open_pool

        self._read_again(set() if trained_on is None else self._splits_of(trained_on))
        return open_pool(self.catalog, cost_model(self._database, self.catalog.models()), models, trained_on, by)

    def deploy(self, tell: Callable[[str], None]) -> int:
        """Make pools, queues, deployments and automations on the server, or on the one that is configured, telling each
        change as it is made; how many there were.

        Raises StoreError when there is no server.
        """
        from deployments.deploy import deploy

        return deploy(self._remote.api_url if self._remote is not None else _api_at_hand(), tell)

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
                from shiftql.showing import show

                return show(statement, text, self._database)
            case ast.Print(query=query):
                return self._ask(query, text).answer
            case ast.Select() | ast.SetOperation() | ast.DeclaredName() | ast.Finetune():
                answer = self._ask(statement, text).answer
                if isinstance(statement, ast.Finetune):
                    from shiftql.remarks import say_what_is_not_kept

                    say_what_is_not_kept(answer, statement.name)
                return answer
            case ast.Purge(what=what):
                from shiftql.places import Places
                from shiftql.upkeep import worded_purge
                from shiftql.vocabulary import PURGED

                chosen = "all" if what is None else Places(text).one_of(PURGED, what, statement)
                return said(f"deleted {worded_purge(self.purge(chosen))}")
            case ast.Watch():
                return self._watch(statement, text)
            case ast.Unwatch():
                from shiftql.watching import unwatch

                return said(unwatch(statement, text, self._database))
            case _:
                place, what = statement.position, type(statement).__name__.upper()
                raise PlanError(
                    f"{what} is not executable yet",
                    text=text,
                    line=place.line,
                    column=place.column,
                    length=place.length,
                    subject=what,
                )

    def _ask_elsewhere(self, remote: Remote, statement: ast.Query | ast.Statement, text: str) -> Answer:
        from shiftql.distant import ask_at
        from shiftql.script import question_of

        question = question_of(statement)
        return ask_at(remote, statement, text, self.declared, wait=question is None or self._waits_for(question))

    def _ask(self, question: ast.Query | ast.Finetune, text: str) -> Ran:
        ran = self._questions.run(self._inquiry(question, text), wait=self._waits_for(question))
        self.plan = ran.followed
        return ran

    def _inquiry(self, question: ast.Query | ast.Finetune, text: str) -> Inquiry:
        from shiftql.questions import Inquiry

        return Inquiry(question, text, self.declared, self._asked_at)

    def _waits_for(self, question: ast.Query | ast.Finetune) -> bool:
        written = getattr(question, "wait", None)
        return self._compute_by is not None or (self._wait if written is None else written)

    def _explain(self, statement: ast.Explain, text: str) -> Answer:
        from shiftql.explain import explained
        from shiftql.remarks import say_what_is_too_short

        question = statement.statement
        if not statement.analyze:
            inquiry = self._inquiry(question, text)
            self._questions.refresh(inquiry)
            _, plan = self._questions.prepare(inquiry)
            say_what_is_too_short(plan)
            return explained(statement, plan, None)
        from shiftql.actuals import measure_plan

        started = time.perf_counter()
        ran = self._ask(question, text)
        seconds = time.perf_counter() - started
        actual = measure_plan(ran.planned, ran.followed, ran.answer, ran.work, self._database, seconds)
        return explained(statement, ran.planned, actual)

    def _declare(self, statement: ast.Declare, text: str) -> Answer:
        from shiftql.script import declare

        declared = declare(self.declared, statement, text)
        if self._remote is None:
            inquiry = self._inquiry(statement.query, text)
            self._questions.refresh(inquiry)
            self._questions.bind(inquiry)
        self.declared = declared
        return said(f"{statement.name} is declared; PRINT {statement.name} answers it")

    def _watch(self, statement: ast.Watch, text: str) -> Answer:
        """Ask a question once, and keep it to be asked again; the same one under the same name changes nothing."""
        from shiftql.watching import asked, worded_watch, write_watch
        from storage.watches import WatchStore

        store, name, every = WatchStore(self._database), statement.name, statement.every
        inquiry = self._inquiry(statement.query, text)
        self._questions.refresh(inquiry)
        self._questions.bind(inquiry)
        script = write_watch(statement.query, self.declared)
        before = store.find(name)
        if before is not None and (before.script, before.every_seconds) == (script, every):
            return said(f"{name} is watched already; SHOW WATCHES tells when it was last asked")
        started = time.perf_counter()
        ran = None if before is not None and before.script == script else self._ask(statement.query, text)
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
        return said(worded_watch(kept, None if latest is None else latest.ranked, again))

    def _use(self, url: str, statement: ast.Use, text: str) -> Answer:
        from shiftql.places import Places

        try:
            self.use(url)
        except BindingError as error:
            places = Places(text)
            raise places.placed(error, places.part(statement, url)) from None
        return said(f"what follows is sent to {self.server}")

    def _register(self, statement: ast.Register, text: str) -> Answer:
        from shiftql.registering import registration

        wanted = registration(statement, text)
        if statement.kind == "models":
            return self.add_models(wanted.location, prefix=wanted.name, source=wanted.format, columns=wanted.columns)
        known = (self.catalog.models if statement.kind == "model" else self.catalog.datasets)()
        again = ", in place of the earlier one" if wanted.name in {record.name for record in known} else ""
        if statement.kind == "model":
            model = self.add_model(wanted.name, wanted.location, source=wanted.format, columns=wanted.columns)
            return said(f"model {model.name} is registered: {model.modality}, from {model.source}{again}")
        dataset = self.add_dataset(wanted.name, wanted.location, reader=wanted.format, options=wanted.options)
        classes = f", {dataset.num_classes} classes" if dataset.num_classes else ""
        skipped = f", {dataset.num_skipped} skipped" if dataset.num_skipped else ""
        return said(
            f"dataset {dataset.name} is registered: {dataset.num_rows} rows for {dataset.task}{classes}{skipped}{again}"
        )

    # --- what flows do ------------------------------------------------------------------------------------------------

    def _compute(self, script: str, plan: PlanNode, asked_at: float) -> Mapping[str, Any]:
        """Have what is new of a plan computed by who was given for it, or else by a flow of this process."""
        if self._compute_by is not None:
            return self._compute_by(script, plan, asked_at)
        from flows.run import run_finetuning, run_search
        from shiftql.plan import Finetune

        if isinstance(plan, Finetune):
            return run_finetuning(script, plan, current_settings(), asked_at)
        return run_search(script, plan, current_settings(), asked_at)

    def _detach(self, script: str) -> str:
        from flows.detached import compute_detached

        return compute_detached(script, current_settings(), self._no_rules)

    def _refresh(self, names: set[str]) -> None:
        """Take note of changed files, and of paths that stand for datasets."""
        from flows.registration import register_paths
        from storage.locations import full_name

        self._new_paths += register_paths(self.catalog, names)
        self._read_again(names | {full_name(name) for name in names})

    def _forget_paths(self) -> None:
        """Take the paths that a statement made datasets of out of the catalog again."""
        for path in self._new_paths:
            self.catalog.remove_dataset(path)

    def _register_benchmarks(self, written: str) -> None:
        """Register the paths among datasets that are written as `name,pattern,…`."""
        from flows.registration import register_paths
        from storage.locations import is_remote, looks_like_path

        parts = map(str.strip, written.split(","))
        self._new_paths = register_paths(
            self.catalog, {each for each in parts if is_remote(each) or looks_like_path(each)}
        )

    def _open_grid(self, models: str, datasets: str, by: str) -> Grid:
        from shiftql.benchmark import open_grid

        self._read_again(self._splits_of(datasets))
        with uncollected():
            return open_grid(self._database, models, datasets, by)

    def _splits_of(self, written: str) -> set[str]:
        """The splits of datasets that are written as `name,pattern,…`."""
        from shiftql.benchmark import choose_benchmarks

        return {split for each in choose_benchmarks(written, self.catalog.datasets()) for split in each.splits}

    def _read_again(self, datasets: set[str]) -> None:
        """Take note of changed files of models, and of these datasets."""
        from flows.registration import refresh_datasets, refresh_models

        refresh_models(self.catalog)
        for name in refresh_datasets(self.catalog, datasets):
            progress.get().note(f"the files of {name} changed and were read again")


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


def _help(statement: ast.Help, text: str) -> TextAnswer:
    from shiftql.places import Places
    from shiftql.reference import help_text

    try:
        return said(help_text(statement.topic))
    except BindingError as error:
        places = Places(text)
        raise places.placed(error, places.part(statement, statement.topic or "")) from None


def _to_start(plan: PlanNode) -> set[str]:
    """What has to be started for a plan; what runs already is looked for only where there is work for it."""
    from flows.starting import to_start

    return to_start(plan)


def _api_at_hand() -> str:
    """The API of the Prefect server that is configured, or that runs in this home. Raises StoreError where none is."""
    from flows.server import api_at_hand

    api_url = api_at_hand(current_settings())
    if api_url is None:
        raise StoreError(
            "there is no Prefect server: PREFECT_API_URL is not set, and none runs in this home",
            subject="PREFECT_API_URL",
            fix="start one with 'shiftql up', or set PREFECT_API_URL, such as http://host:4200/api",
        )
    return api_url
