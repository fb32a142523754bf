"""The whole way of a statement to a server and back: a worker's part is played by a thread of the test."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL

from deployments.deploy import deploy
from flows import computing
from flows.statements import search
from shiftql import remote
from shiftql.cli import main
from shiftql.engine import query
from storage.catalog import Catalog

QUESTION = "SELECT name FROM image_models ORDER BY Linear TRAINED ON 'colours-train' TESTED ON 'colours-test'"


@pytest.fixture
def url(here: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server with its deployments, and somebody who runs what is asked of `search`."""
    url = str(PREFECT_API_URL.value())
    deploy(url, lambda change: None)
    monkeypatch.setattr(remote, "_POLL_SECONDS", 0.1)
    # What a run hands out to others is a matter of test_worker.py.
    monkeypatch.setattr(computing, "is_deployed", lambda: False)
    ended = threading.Event()

    def work() -> None:
        with get_client(sync_client=True) as client:
            while not ended.wait(0.1):
                for each in client.get_scheduled_flow_runs_for_work_pool("cpu"):
                    given = each.flow_run.parameters
                    if "statement" in given:
                        asyncio.run(run_flow(search, flow_run=each.flow_run, parameters=given, return_type="state"))

    # Which server it is stands in the context.
    worker = threading.Thread(target=contextvars.copy_context().run, args=(work,))
    worker.start()
    yield url
    ended.set()
    worker.join()


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--server", url, *arguments])


def test_a_ranking_is_the_same_from_a_distance(url: str) -> None:
    ran = run(url, "-c", f"DECLARE mine AS {QUESTION}; PRINT mine", "--format", "json")
    assert ran.exit_code == 0, ran.stderr
    answer = json.loads(ran.stdout.splitlines()[-1])
    assert (answer["kind"], answer["evaluated"]) == ("ranking", 2)
    local = query(QUESTION).to_json()
    assert answer["ranking"] == local["ranking"]
    assert local["reused"] == 2


def test_a_statement_that_fails_there_fails_here(url: str) -> None:
    ran = run(url, "-c", f"SHOW MODELS;\n{QUESTION.replace('colours-train', './nowhere')}")
    assert ran.exit_code == 2, ran.stderr
    assert "line 2, column 59: there is no dataset './nowhere'" in ran.stderr
    assert "where the worker runs, not here" in ran.stderr


def test_a_path_is_read_where_the_worker_runs(url: str, catalog: Catalog) -> None:
    path = catalog.dataset("photos-train").path
    ran = run(url, "-c", f"SELECT name FROM image_models ORDER BY Linear TRAINED ON '{path}'", "--format", "json")
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout)["evaluated"] == 2
