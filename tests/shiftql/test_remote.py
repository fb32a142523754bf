"""Statements that are answered at a distance, by a server that says what it is told to."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from shiftql import remote as remote_module
from shiftql.answers import Answer, ErrorAnswer, FinetuneAnswer, RankingAnswer, RowsAnswer
from shiftql.cli import main
from shiftql.engine import Session, query
from shiftql.received import read_answer
from shiftql.remote import Remote, api_url_of
from shiftql.render import render
from storage.errors import BindingError, StoreError

URL = "http://far:4200"
QUESTION = "SELECT name FROM models ORDER BY Linear TRAINED ON 'a' TESTED ON 'b'"


@dataclass
class Far:
    """A Prefect server with the deployment `search`: every run goes through `states` and leaves `answer`."""

    answer: str = ""
    states: list[str] = field(default_factory=lambda: ["COMPLETED"])
    message: str = ""
    workers: int = 1
    asked: list[str] = field(default_factory=list)
    authorized: list[str | None] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    deployments: list[str] = field(default_factory=lambda: ["search"])
    secret: str | None = None
    when: Callable[[str], None] = lambda state: None
    busy: int = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.authorized.append(request.headers.get("authorization"))
        if self.secret is not None and request.headers.get("authorization") != self.secret:
            return httpx.Response(401, json={"exception_message": "Unauthorized"})
        if self.busy:
            self.busy -= 1
            return httpx.Response(503)
        path, body = request.url.path, json.loads(request.content or b"null")
        assert path.startswith("/api/")
        if path == "/api/deployments/filter":
            wanted = body.get("deployments", {}).get("name", {}).get("any_", self.deployments)
            return httpx.Response(200, json=[self._deployment(name) for name in self.deployments if name in wanted])
        if path == "/api/flows/f":
            return httpx.Response(200, json={"name": "search"})
        if path == "/api/deployments/d/create_flow_run":
            self.asked.append(body["parameters"].get("statement", ""))
            return httpx.Response(201, json={"id": "r1", "name": "odd-name"})
        if path == "/api/flow_runs/r1":
            state = self.states[0] if len(self.states) == 1 else self.states.pop(0)
            self.when(state)
            return httpx.Response(200, json={"state": {"type": state, "name": state, "message": self.message}})
        if path == "/api/flow_runs/r1/set_state":
            self.cancelled.append(body["state"]["type"])
            self.states = ["CANCELLED"]
            return httpx.Response(201, json={})
        if path == "/api/artifacts/filter":
            left = [{"key": "progress", "data": 40.0}, {"key": "answer", "data": self.answer}]
            return httpx.Response(200, json=left if self.answer else [])
        if path == "/api/logs/filter":
            notes = [("prefect.flow_runs", "Beginning"), ("prefect.flow_runs.notes", "tested on 5 rows")]
            return httpx.Response(200, json=[{"name": n, "message": m} for n, m in notes][body["offset"] :])
        if path == "/api/work_pools/cpu/workers/filter":
            return httpx.Response(200, json=[{}] * self.workers)
        return httpx.Response(404, json={"detail": "Not Found"})

    @staticmethod
    def _deployment(name: str) -> dict[str, Any]:
        fields = {"statement": {}, "asked_at": {}}
        schema = {"parameter_openapi_schema": {"properties": fields}, "work_pool_name": "cpu"}
        return {"id": "d", "flow_id": "f", "name": name, "tags": [], **schema}


@pytest.fixture
def far(home: Any, monkeypatch: pytest.MonkeyPatch) -> Far:
    server = Far()
    made = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **given: made(transport=httpx.MockTransport(server), **given))
    monkeypatch.setattr(remote_module, "_FIRST_POLL_SECONDS", 0.0)
    monkeypatch.setattr(remote_module, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(remote_module, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(remote_module, "_BUSY_PAUSES", (0.0, 0.0))
    return server


def run(*arguments: str, server: str = "far:4200") -> Result:
    return CliRunner().invoke(main, ["--server", server, *arguments])


def told(*answers: Answer) -> str:
    return "\n".join(render(answer, "json") for answer in answers)


@pytest.mark.parametrize(
    "name", ["ranking", "two_rankings", "all_failed", "no_model", "begun", "rows", "no_rows", "plan"]
)
@pytest.mark.parametrize("format", ["table", "json", "csv", "markdown"])
def test_an_answer_reads_the_same_from_a_distance(name: str, format: str, request: pytest.FixtureRequest) -> None:
    answer = request.getfixturevalue(name)
    assert render(read_answer(json.loads(render(answer, "json"))), format) == render(answer, format)


@pytest.mark.parametrize("name", ["misnamed", "unreadable"])
def test_an_error_reads_the_same_from_a_distance(name: str, request: pytest.FixtureRequest) -> None:
    answer = request.getfixturevalue(name)
    read = read_answer(json.loads(render(answer, "json")))
    assert isinstance(read, ErrorAnswer)
    assert (type(read.error), str(read.error)) == (type(answer.error), str(answer.error))


def test_what_was_kept_comes_along(ranking: RankingAnswer) -> None:
    fields = {name: getattr(ranking, name) for name in ("statement", "seconds", "rankings", "evaluated")}
    answer = FinetuneAnswer(**fields, kept={"name": "mine", "load": ["import x"]})
    assert read_answer(answer.to_json()).to_json() == answer.to_json()


@pytest.mark.parametrize("format", ["table", "json", "csv", "markdown"])
def test_a_server_answers_in_any_format(far: Far, ranking: RankingAnswer, format: str) -> None:
    far.answer = told(ranking)
    ran = run("-c", QUESTION, "--format", format)
    assert ran.exit_code == 0
    assert far.asked == [QUESTION]
    assert "resnet-letters" in ran.stdout
    assert "http://far:4200/runs/flow-run/r1" in ran.stderr
    assert "tested on 5 rows" in ran.stderr
    assert "Beginning" not in ran.output


def test_declared_names_travel_with_the_statement_that_needs_them(far: Far, rows: RowsAnswer) -> None:
    far.answer = told(rows, rows)
    assert run("-c", f"DECLARE q AS {QUESTION};\nDECLARE r AS SELECT name FROM models; PRINT q").exit_code == 0
    (sent,) = far.asked
    declared, asked = sent.split(";\n")
    assert declared.startswith("DECLARE q AS SELECT name")
    assert asked == "PRINT q"


def test_an_error_stands_where_it_was_written(far: Far) -> None:
    wrong = "SELECT nam FROM models"
    error = BindingError("models has no column 'nam'", text=wrong, line=1, column=8, length=3, fix="did you mean name?")
    far.states, far.answer = ["FAILED"], told(ErrorAnswer(statement=wrong, seconds=0.0, error=error))
    ran = run("-c", f"USE '{URL}';\n  {wrong}")
    assert ran.exit_code == 2
    assert "line 2, column 10: models has no column 'nam'" in ran.stderr
    assert re.search(r"\n +\^\^\^\n", ran.stderr)
    assert "did you mean name?" in ran.stderr


def test_a_file_that_is_only_here_is_said_to_be_looked_for_there(far: Far) -> None:
    error = BindingError("there is no dataset './x'", text=QUESTION, line=1, column=9, fix="nothing lies at that path")
    far.states, far.answer = ["FAILED"], told(ErrorAnswer(statement=QUESTION, seconds=0.0, error=error))
    assert "a path is looked for where the worker runs, not here" in run("-c", QUESTION).stderr


def test_use_sends_what_follows(far: Far, rows: RowsAnswer) -> None:
    far.answer = told(rows)
    session = Session()
    kinds = [answer.kind for answer in session.run(f"SHOW MODELS; USE '{URL}/api'; SHOW MODELS; HELP limit")]
    assert kinds == ["rows", "done", "rows", "done"]
    assert far.asked == ["SHOW MODELS"]
    assert session.server == URL


def test_python_asks_a_server_too(far: Far, rows: RowsAnswer) -> None:
    far.answer = told(rows)
    assert query("SHOW MODELS", server="far:4200").to_json()["rows"] == rows.to_json()["rows"]


@pytest.mark.parametrize("arguments", [("--no-wait", "-c", QUESTION), ("-c", f"{QUESTION} NOWAIT")])
def test_without_waiting_the_run_is_named_at_once(far: Far, arguments: tuple[str, ...]) -> None:
    far.states = []
    ran = run(*arguments, "--format", "json")
    assert ran.exit_code == 0
    answer = json.loads(ran.stdout)
    assert (answer["flow_run_id"], answer["url"]) == ("r1", f"{URL}/runs/flow-run/r1")


def test_that_no_worker_is_there_is_said_and_not_silently_waited_for(far: Far, rows: RowsAnswer) -> None:
    far.states, far.workers, far.answer = ["SCHEDULED", "SCHEDULED", "RUNNING", "COMPLETED"], 0, told(rows)
    ran = run("-c", "SHOW MODELS")
    assert ran.exit_code == 0
    assert ran.stderr.count("no worker of the work pool cpu is online") == 1


def test_an_interrupt_cancels_the_run_and_answers_with_what_is_known(far: Far, ranking: RankingAnswer) -> None:
    def interrupt(state: str) -> None:
        if state == "RUNNING" and not far.cancelled:
            far.when = lambda state: None
            raise KeyboardInterrupt

    far.states, far.when, far.answer = ["RUNNING", "RUNNING", "RUNNING"], interrupt, told(ranking)
    ran = run("-c", QUESTION)
    assert ran.exit_code == 0
    assert far.cancelled == ["CANCELLING"]
    assert "the best so far" in ran.stdout or "failed" in ran.stdout


def test_an_interrupt_before_any_model_is_known_is_told_by_the_status(far: Far, no_model: RankingAnswer) -> None:
    def interrupt(state: str) -> None:
        far.when = lambda state: None
        raise KeyboardInterrupt

    far.states, far.when, far.answer = ["RUNNING", "RUNNING"], interrupt, told(no_model)
    assert run("-c", QUESTION).exit_code == 130


def test_a_run_that_waits_is_given_up_at_once(far: Far) -> None:
    def interrupt(state: str) -> None:
        far.when = lambda state: None
        raise KeyboardInterrupt

    far.states, far.when = ["SCHEDULED", "SCHEDULED"], interrupt
    assert run("-c", QUESTION).exit_code == 130
    assert far.cancelled == ["CANCELLED"]


def test_a_run_that_ends_without_an_answer_says_why(far: Far) -> None:
    far.states, far.message = ["CRASHED"], "its worker is gone"
    ran = run("-c", QUESTION)
    assert ran.exit_code == 1
    assert "the run ended as crashed: its worker is gone" in ran.stderr
    assert f"see {URL}/runs/flow-run/r1" in ran.stderr


def test_without_the_deployment_it_is_said_how_to_make_it(far: Far) -> None:
    far.deployments = []
    ran = run("-c", QUESTION)
    assert "there is no deployment 'search/search' at http://far:4200" in ran.stderr
    assert "shiftql deploy" in ran.stderr


def test_the_secret_is_sent_and_never_shown(far: Far, rows: RowsAnswer, monkeypatch: pytest.MonkeyPatch) -> None:
    far.secret, far.answer = f"Basic {base64.b64encode(b'me:hidden').decode()}", told(rows)
    refused = run("-c", "SHOW MODELS")
    assert refused.exit_code == 1
    assert "set PREFECT_API_AUTH_STRING" in refused.stderr
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:hidden")
    ran = run("-c", "SHOW MODELS")
    assert ran.exit_code == 0
    assert "hidden" not in ran.output
    in_the_address = run("-c", "SHOW MODELS", server="http://me:hidden@far:4200")
    assert in_the_address.exit_code == 2
    assert "hidden" not in in_the_address.output


def test_a_server_that_is_busy_is_asked_again(far: Far, rows: RowsAnswer) -> None:
    far.busy, far.answer = 2, told(rows)
    assert run("-c", "SHOW MODELS").exit_code == 0
    far.busy = 3
    assert "no Prefect server answers at http://far:4200 (HTTP 503)" in run("-c", "SHOW MODELS").stderr


def test_no_server_is_no_answer(home: Any) -> None:
    ran = run("-c", "SHOW MODELS", server="127.0.0.1:1")
    assert ran.exit_code == 1
    assert "no Prefect server answers at http://127.0.0.1:1" in ran.stderr


@pytest.mark.parametrize(
    "url", ["far:4200", "http://far:4200", "http://far:4200/", "far:4200/api", "http://far:4200/api/"]
)
def test_a_server_is_named_in_any_way(url: str) -> None:
    assert api_url_of(url) == "http://far:4200/api"


@pytest.mark.parametrize("url", ["", "ftp://far", "http://", "two words"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BindingError, match="is no address of a server"):
        Remote(url)


def test_a_deployment_is_triggered_and_waited_for(far: Far, rows: RowsAnswer) -> None:
    far.answer = told(rows)
    ran = run("trigger", "search", "--query", "SHOW MODELS")
    assert (ran.exit_code, far.asked) == (0, ["SHOW MODELS"])
    assert "run r1 goes on: http://far:4200/runs/flow-run/r1" in ran.stdout
    waited = run("trigger", "search", "--query", "SHOW MODELS", "--wait", "--format", "csv")
    assert waited.stdout == render(rows, "csv") + "\n"


def test_a_deployment_that_answers_nothing_is_waited_for_all_the_same(far: Far) -> None:
    ran = run("trigger", "search", "--wait")
    assert (ran.exit_code, ran.stdout) == (0, f"run r1 is completed: {URL}/runs/flow-run/r1\n")


def test_a_misspelt_deployment_or_parameter_says_what_there_is(far: Far) -> None:
    assert "allowed: search" in run("trigger", "serach").stderr
    wrong = run("trigger", "search", "-p", "statment=x")
    assert "has no parameter 'statment'" in wrong.stderr
    assert "allowed: statement, asked_at" in wrong.stderr
    assert "write -p name=value" in run("trigger", "search", "-p", "x").stderr


def test_a_file_is_answered_there_and_what_is_only_here_is_not(far: Far, rows: RowsAnswer, tmp_path: Path) -> None:
    far.answer = told(rows)
    (tmp_path / "q.shiftql").write_text("SHOW MODELS;\nSHOW DATASETS")
    assert run(str(tmp_path / "q.shiftql")).exit_code == 0
    assert far.asked == ["SHOW MODELS", "SHOW DATASETS"]
    refused = run("models", "list")
    assert refused.exit_code == 2
    assert "--server is for queries, deploy and trigger, not for models" in refused.stderr


def test_what_answers_and_is_no_prefect_server_is_told_so(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Far, "__call__", lambda *_: httpx.Response(200, text="<html>"))
    with pytest.raises(StoreError, match="is no Prefect server"):
        Remote("far:4200").start("search", {})
