from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deployments import stack
from deployments.components import Component, Running, end
from deployments.stack import Choices, Part, down, parts, up
from flows.server import Server
from storage.errors import StoreError
from storage.settings import current_settings

SLEEPS = "import time; time.sleep(60)"
NAMES = ["prefect", "mlflow", "worker queries", "worker cpu-1"]


@pytest.fixture
def small(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[str]]]:
    """A stack of small processes, whose names and arguments are what is given; a server that always runs."""
    wanted: dict[str, list[str]] = {"mlflow": [], "worker queries": [], "worker cpu-1": []}
    server = Server(os.getpid(), psutil.Process().create_time(), 4200, "0")

    def components(settings: object, chosen: Choices, api_url: str, running: object) -> list[Component]:
        more = [f"worker cpu-{number}" for number in range(2, chosen.workers + 1)]
        log = home / "logs" / "small.log"
        return [
            Component(name, [sys.executable, "-c", SLEEPS, *wanted.get(name, [])], log, lambda _: True)
            for name in [*wanted, *more]
            if chosen.mlflow or name != "mlflow"
        ]

    monkeypatch.setattr(stack, "_components", components)
    monkeypatch.setattr(stack, "ensure_server", lambda settings, port: (server, False))
    monkeypatch.setattr(stack, "running_server", lambda settings: server)
    monkeypatch.setattr(stack, "server_at", lambda settings: server)
    monkeypatch.setattr(stack, "stop_server", lambda settings: True)
    monkeypatch.setattr(stack, "deploy", lambda api_url, tell: 0)
    yield wanted
    end(replace(each, ends_within=0.0) for each in _running())


def _running() -> list[Running]:
    return list(stack._read(current_settings()).running)


def _pids() -> dict[str, int]:
    return {each.name: each.pid for each in _running() if each.is_alive}


def _up(workers: int | None = None, mlflow: bool | None = None, port: int | None = None) -> list[Part]:
    return list(up(current_settings(), workers, mlflow, port))


def test_a_second_up_starts_nothing(small: object) -> None:
    assert [(part.name, part.state) for part in _up()] == [
        ("prefect", "running"),
        ("deployments", "up to date"),
        *((name, "started") for name in NAMES[1:]),
    ]
    pids = _pids()
    assert {part.name for part in _up() if part.state == "running"} == set(NAMES)
    assert _pids() == pids


def test_what_died_is_started_again_and_nothing_else(small: object) -> None:
    _up()
    before = _pids()
    os.kill(before["worker cpu-1"], signal.SIGKILL)
    os.waitpid(before["worker cpu-1"], 0)
    assert [part.name for part in parts(current_settings()) if part.state == "dead"] == ["worker cpu-1"]
    assert [part.name for part in _up() if part.state == "started"] == ["worker cpu-1"]
    after = _pids()
    assert {name for name in after if after[name] != before[name]} == {"worker cpu-1"}


def test_what_is_chosen_differently_is_started_anew(small: dict[str, list[str]]) -> None:
    _up()
    before = _pids()
    small["mlflow"].append("--port")
    _up()
    after = _pids()
    assert {name for name in after if after[name] != before[name]} == {"mlflow"}
    assert not psutil.pid_exists(before["mlflow"])


def test_what_is_not_wanted_any_more_is_ended_and_choices_are_remembered(small: object) -> None:
    _up(workers=2)
    assert "worker cpu-2" in _pids()
    _up(mlflow=False)
    assert _pids().keys() == {"worker queries", "worker cpu-1", "worker cpu-2"}
    _up(workers=1)
    assert _pids().keys() == {"worker queries", "worker cpu-1"}


def test_down_leaves_no_process_and_forgets(small: object, home: Path) -> None:
    _up()
    pids = _pids().values()
    assert sorted(down(current_settings())) == sorted(NAMES)
    assert not any(map(psutil.pid_exists, pids))
    assert not (home / "stack.json").exists()
    assert _running() == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"choices": {}, "running": [{"pid": 1}]}', "null"])
def test_a_torn_state_file_is_as_none(small: object, home: Path, content: str) -> None:
    home.mkdir()
    (home / "stack.json").write_text(content)
    assert len(_up()) == 5


def test_one_that_does_not_come_up_is_told_and_the_others_go_on(
    small: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(component: Component, running: Running, within: float) -> None:
        if component.name == "worker queries":
            end([running])
            raise StoreError("it did not come up")

    monkeypatch.setattr(stack, "wait_until_up", refuse)
    with pytest.raises(StoreError):
        _up()
    assert _pids().keys() == {"mlflow", "worker cpu-1"}


def test_without_a_stack_nothing_is_told_to_run(home: Path) -> None:
    assert parts(current_settings()) == []
    assert down(current_settings()) == []


def test_a_machine_that_joins_a_team_starts_its_workers_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.team.example/api")
    monkeypatch.setenv("SHIFT_DATABASE_URL", "postgresql+psycopg://db/shift")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.team.example")
    made = stack._components(current_settings(), Choices(), "https://prefect.team.example/api", {})
    assert [component.name for component in made] == ["worker queries", "worker cpu-1"]
    assert all(each.environment["PREFECT_API_URL"] == "https://prefect.team.example/api" for each in made)


@pytest.mark.parametrize(
    ("set_ones", "missing"),
    [
        ([], "SHIFT_DATABASE_URL and MLFLOW_TRACKING_URI"),
        (["SHIFT_DATABASE_URL"], "MLFLOW_TRACKING_URI"),
        (["MLFLOW_TRACKING_URI"], "SHIFT_DATABASE_URL"),
    ],
)
def test_a_team_that_would_not_see_the_results_is_not_joined(
    home: Path, monkeypatch: pytest.MonkeyPatch, set_ones: list[str], missing: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.team.example/api")
    for name in set_ones:
        monkeypatch.setenv(name, "somewhere")
    with pytest.raises(StoreError, match=missing):
        _up()


def test_a_port_is_refused_where_no_server_is_started(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    with pytest.raises(StoreError, match="--port is of one that is started here"):
        _up(port=4300)


def test_another_port_than_the_server_runs_at_is_refused(small: object) -> None:
    with pytest.raises(StoreError, match="runs at port 4200, not 4300"):
        _up(port=4300)


def _workers(monkeypatch: pytest.MonkeyPatch, chosen: Choices, gpus: list[str]) -> dict[str, Component]:
    monkeypatch.setattr(stack, "_gpus", lambda: gpus)
    made = stack._components(current_settings(), chosen, "http://127.0.0.1:4200/api", {})
    return {component.name: component for component in made}


def test_every_gpu_has_a_worker_that_sees_it_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _workers(monkeypatch, Choices(mlflow=False), ["0", "3"])
    assert list(made) == ["worker queries", "worker cpu-1", "worker gpu-0", "worker gpu-3"]
    assert [made[name].environment["CUDA_VISIBLE_DEVICES"] for name in made] == ["", "", "0", "3"]
    assert [_option(made[name], "--pool") for name in made] == ["cpu", "cpu", "gpu", "gpu"]


def test_several_workers_share_the_cores(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4})
    made = _workers(monkeypatch, Choices(workers=2, mlflow=False), [])
    shares = [
        (made[name].cores, made[name].environment["OMP_NUM_THREADS"]) for name in ("worker cpu-1", "worker cpu-2")
    ]
    assert shares == [((0, 2, 4), "3"), ((1, 3), "2")]
    alone = _workers(monkeypatch, Choices(mlflow=False), [])["worker cpu-1"]
    assert alone.cores == ()
    assert "OMP_NUM_THREADS" not in alone.environment
    crowded = _workers(monkeypatch, Choices(workers=7, mlflow=False), [])
    assert all(len(crowded[f"worker cpu-{number}"].cores) == 1 for number in range(1, 8))


def test_each_worker_serves_its_metrics_at_a_port_of_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFT_METRICS_PORT", "9500")
    made = _workers(monkeypatch, Choices(mlflow=False), ["0"])
    assert [each.environment["SHIFT_METRICS_PORT"] for each in made.values()] == ["9500", "9501", "9502"]
    assert made["worker gpu-0"].url == "http://127.0.0.1:9502/metrics"
    monkeypatch.setenv("SHIFT_METRICS_PORT", "many")
    with pytest.raises(StoreError, match="'many'"):
        _workers(monkeypatch, Choices(mlflow=False), [])


def test_workers_of_two_homes_on_one_machine_have_different_names(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = _workers(monkeypatch, Choices(mlflow=False), [])
    monkeypatch.setenv("SHIFT_HOME", str(tmp_path / "other"))
    there = _workers(monkeypatch, Choices(mlflow=False), [])
    assert {_option(each, "--name") for each in here.values()}.isdisjoint(
        _option(each, "--name") for each in there.values()
    )


def _option(component: Component, name: str) -> str:
    return component.command[component.command.index(name) + 1]


@pytest.mark.parametrize(
    ("told", "is_online"),
    [
        ([{"name": "one-queries-a1b2c3", "last_heartbeat_time": "2026-01-01T00:00:10Z"}], True),
        ([{"name": "one-queries-a1b2c3", "last_heartbeat_time": "2026-01-01T00:00:00Z"}], False),
        ([{"name": "one-queries-a1b2c3", "last_heartbeat_time": None}], False),
        ([{"name": "two-queries-a1b2c3", "last_heartbeat_time": "2026-01-01T00:00:10Z"}], False),
        ([], False),
    ],
)
def test_a_worker_is_online_once_it_told_of_itself_and_not_its_predecessor(
    monkeypatch: pytest.MonkeyPatch, told: list[dict[str, Any]], is_online: bool
) -> None:
    asked: list[tuple[str, Any]] = []

    def post(url: str, *, auth: Any, **_: Any) -> httpx.Response:
        asked.append((url, auth))
        return httpx.Response(200, json=told)

    monkeypatch.setattr(httpx, "post", post)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "team:a:b")
    since = 1767225605.0
    assert stack._is_worker_online("http://here/api", "cpu", "one-queries-", since) is is_online
    assert asked == [("http://here/api/work_pools/cpu/workers/filter", ("team", "a:b"))]


def test_the_whole_stack_comes_up_is_found_again_and_ends(home: Path) -> None:
    try:
        states = {part.name: part.state for part in _up()}
        assert states == {**dict.fromkeys(NAMES, "started"), "deployments": "up to date"}
        urls = {part.name: part.url for part in _up() if part.url}
        assert {part.state for part in parts(current_settings())} == {"running"}
        assert httpx.get(f"{urls['prefect']}/api/health").is_success
        assert httpx.get(f"{urls['mlflow']}/health").is_success
        pids = list(_pids().values())
        told = json.loads((home / "stack.json").read_text())
        assert told["choices"] == {"workers": 1, "mlflow": True}
    finally:
        stopped = down(current_settings())
    assert sorted(stopped) == sorted(NAMES)
    assert not any(map(psutil.pid_exists, pids))
    assert parts(current_settings()) == []
