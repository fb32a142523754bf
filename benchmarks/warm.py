"""Processes that are forked off this one with everything imported, to ask questions in, and to kill."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_IMPORTED = (
    "prefect.client.orchestration",
    "prefect.flow_engine",
    "prefect.task_engine",
    "flows.search",
    "mlflow.store.tracking.sqlalchemy_store",
    "storage.tracking",
    "tasks.classification",
    "tasks.embedding",
    "tasks.rankers.linear",
    "tasks.rankers.logme",
    "tasks.rankers.nearest_neighbour",
    "tasks.readers.numpy_arrays",
    "tasks.sources.pca",
    "tasks.sources.raw",
    "sklearn.decomposition",
)


def import_everything() -> None:
    """Import what a question needs, so that a process forked off this one begins with its work."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    for module in _IMPORTED:
        import_module(module)


class Worker:
    """A forked process that answers questions over one home, one after the other.

    `environment` is set in it. With `records` MLflow is written in the process itself, without one not at all;
    None leaves it to a process of its own, as everywhere else.
    """

    def __init__(self, environment: Mapping[str, str], *, records: bool | None = None, api_url: str | None = None):
        context = get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, environment, records, api_url), daemon=False)
        self._process.start()
        theirs.close()

    def ask(self, text: str, within: float | None = None) -> tuple[float, dict[str, Any]] | None:
        """Seconds and answer to the last statement of a text; None when there is no answer within some seconds."""
        self.begin(text)
        return self.answer(within)

    def begin(self, text: str) -> None:
        self._connection.send(text)

    def answer(self, within: float | None = None) -> tuple[float, dict[str, Any]] | None:
        """The answer to what was begun; None when there is none within some seconds."""
        try:
            return self._connection.recv() if self._connection.poll(within) else None
        except EOFError:
            raise SystemExit("a process ended in the middle of a question") from None

    def bump(self, ranker: str) -> None:
        """Have a ranker be of another implementation version."""
        self._connection.send(("bump", ranker))

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()
        self.wait()

    def close(self) -> None:
        """Let it end by itself."""
        self._connection.send(None)
        self.wait()

    def wait(self) -> None:
        self._process.join()
        self._connection.close()


def ask_afresh(text: str, datasets: list[str], api_url: str, bumped: str | None = None) -> dict[str, Any]:
    """The oracle: the answer of a home in which the same models and datasets are registered and nothing is known.

    Files are read anew. `api_url` is of a Prefect server, which remembers nothing of an answer; `bumped` is a ranker
    of another version.
    """
    from storage.catalog import Catalog
    from storage.database import Database
    from storage.settings import current_settings

    settings = current_settings()
    home = settings.home.with_name(f"oracle-{time.time_ns()}")
    home.mkdir()
    fresh = replace(settings, home=home, database_url=f"sqlite:///{home / 'shift.db'}")
    known, catalog = Catalog(Database(settings)), Catalog(Database(fresh))
    for model in known.models():
        catalog.save_model(model.name, model.model_dump(exclude={"model_id", "name"}))
    worker = Worker({"SHIFT_HOME": str(home)}, records=False, api_url=api_url)
    try:
        for name in datasets:
            record = known.dataset(name)
            options = "".join(f", {key}='{value}'" for key, value in record.reader_options.items())
            worker.ask(f"REGISTER DATASET '{name}' FROM '{record.path}' WITH (reader={record.type}{options})")
        if bumped is not None:
            worker.bump(bumped)
        asked = worker.ask(text)
        assert asked is not None
        return asked[1]
    finally:
        worker.close()
        shutil.rmtree(home)


def difference(answer: Mapping[str, Any], truth: Mapping[str, Any]) -> float:
    """The largest difference of two scores of a model; infinite where the order or what failed is another."""
    if answer["kind"] != "ranking" or answer["failed"] != truth["failed"]:
        return float("inf")
    found, right = (each.get("rankings", {"": each["ranking"]}) for each in (answer, truth))
    if found.keys() != right.keys():
        return float("inf")
    largest = 0.0
    for label, ranking in right.items():
        if [row["model"] for row in found[label]] != [row["model"] for row in ranking]:
            return float("inf")
        pairs = zip(found[label], ranking, strict=True)
        largest = max([largest, *(abs(ours["score"] - theirs["score"]) for ours, theirs in pairs)])
    return largest


def _serve(connection: Connection, environment: Mapping[str, str], records: bool | None, api_url: str | None) -> None:
    os.environ.update(environment)
    from shiftql.engine import Session
    from tasks.host import stop_hosts

    if records is not None:
        _keep_tracking_here(records)
    session = Session()
    with _prefect_at(api_url):
        while (asked := connection.recv()) is not None:
            if isinstance(asked, tuple):
                _bump(asked[1])
                continue
            started = time.perf_counter()
            *_, answer = session.run(asked)
            connection.send((time.perf_counter() - started, answer.to_json()))
    # A forked process runs no exit handlers; those of the next question's own would have to share the cores.
    stop_hosts()


def _prefect_at(api_url: str | None) -> contextlib.AbstractContextManager[object]:
    if api_url is None:
        return contextlib.nullcontext()
    from prefect.settings import PREFECT_API_URL, PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    storage = Path(os.environ["SHIFT_HOME"]) / "prefect-results"
    return temporary_settings({PREFECT_API_URL: api_url, PREFECT_LOCAL_STORAGE_PATH: storage})


def _keep_tracking_here(records: bool) -> None:
    from storage.tracking import export_pending
    from tasks.host import Host

    call = Host.call

    def call_here(host: Host, function: str, **arguments: Any) -> Any:
        if host.name == "tracking":
            return export_pending() if records else 0
        return call(host, function, **arguments)

    Host.call = call_here  # type: ignore[method-assign]


def _bump(name: str) -> None:
    from tasks.rankers.specs import RANKERS

    RANKERS[name] = replace(RANKERS[name], version=f"{RANKERS[name].version}-bumped")
