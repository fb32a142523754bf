from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

from flows import server as server_module
from flows.server import Server, ensure_server, running_server, stop_server
from storage.errors import StoreError
from storage.settings import current_settings


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    """Something that answers as a Prefect server does."""
    with HTTPServer(("127.0.0.1", 0), _Healthy) as answering:
        Thread(target=answering.serve_forever, daemon=True).start()
        yield answering.server_port
        answering.shutdown()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that may be ended."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Server]:
    """The servers that were started, which are not: only their being written down is under test."""
    servers: list[Server] = []

    def start(settings: object, at: int) -> Server:
        servers.append(Server(os.getpid(), psutil.Process().create_time(), 1, "0"))
        return servers[-1]

    monkeypatch.setattr(server_module, "_start", start)
    return servers


def _write(home: Path, server: Server) -> None:
    home.mkdir(exist_ok=True)
    (home / "server.json").write_text(json.dumps(asdict(server)))


def _server(process: subprocess.Popen[bytes], port: int) -> Server:
    return Server(process.pid, psutil.Process(process.pid).create_time(), port, "3.8.8")


def test_a_server_that_lives_and_answers_is_used_again(
    home: Path, port: int, process: subprocess.Popen[bytes], started: list[Server]
) -> None:
    server = _server(process, port)
    _write(home, server)
    assert running_server(current_settings()) == server
    assert ensure_server(current_settings()) == (server, False)
    assert started == []


def test_without_a_state_file_one_is_started(home: Path, started: list[Server]) -> None:
    assert running_server(current_settings()) is None
    assert ensure_server(current_settings()) == (started[0], True)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "null"])
def test_a_torn_state_file_is_as_none(home: Path, started: list[Server], content: str) -> None:
    home.mkdir()
    (home / "server.json").write_text(content)
    assert running_server(current_settings()) is None
    assert ensure_server(current_settings())[1]


def test_a_dead_server_is_replaced(
    home: Path, port: int, process: subprocess.Popen[bytes], started: list[Server]
) -> None:
    _write(home, _server(process, port))
    process.kill()
    process.wait()
    assert ensure_server(current_settings()) == (started[0], True)


def test_a_later_process_of_the_same_number_is_no_server_and_is_let_live(
    home: Path, port: int, process: subprocess.Popen[bytes], started: list[Server]
) -> None:
    server = _server(process, port)
    _write(home, replace(server, started=server.started - 100))
    assert ensure_server(current_settings()) == (started[0], True)
    assert process.poll() is None


def test_a_server_that_does_not_answer_is_ended_and_replaced(
    home: Path, process: subprocess.Popen[bytes], started: list[Server]
) -> None:
    _write(home, _server(process, port=1))
    assert ensure_server(current_settings()) == (started[0], True)
    assert process.poll() is not None


def test_stopping_ends_the_process_and_forgets_it(home: Path, port: int, process: subprocess.Popen[bytes]) -> None:
    _write(home, _server(process, port))
    assert stop_server(current_settings())
    assert process.poll() is not None
    assert not (home / "server.json").exists()
    assert not stop_server(current_settings())


def test_a_server_that_ends_at_once_is_an_error_that_names_its_log(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module.sys, "executable", "/bin/false")
    with pytest.raises(StoreError, match="did not start") as caught:
        ensure_server(current_settings())
    assert caught.value.subject == str(home / "logs" / "server.log")
    assert "PREFECT_API_URL" in (caught.value.fix or "")
    assert not (home / "server.json").exists()


def test_a_started_server_answers_is_found_again_and_stops(home: Path) -> None:
    try:
        server, is_new = ensure_server(current_settings())
        assert is_new
        assert ensure_server(current_settings()) == (server, False)
        assert running_server(current_settings()) == server
    finally:
        assert stop_server(current_settings())
    assert running_server(current_settings()) is None
    assert not psutil.pid_exists(server.pid)


def test_an_idle_server_ends_and_a_busy_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    now = 0.0
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(now)
        now += seconds
        if now == 90.0:
            asyncio.run(watch({"type": "http"}, None, None))

    async def application(scope: object, receive: object, send: object) -> None:
        pass

    monkeypatch.setattr(server_module.time, "monotonic", lambda: now)
    monkeypatch.setattr(server_module.time, "sleep", sleep)
    watch = server_module._IdleWatch(application, lambda: 120.0)
    watch.watch()
    assert now == 210.0


def test_a_server_that_nobody_can_find_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def application(scope: object, receive: object, send: object) -> None:
        pass

    monkeypatch.setattr(server_module.time, "monotonic", lambda: now)
    monkeypatch.setattr(server_module.time, "sleep", sleep)
    server_module._IdleWatch(application, lambda: 3600.0 if now < 90.0 else 60.0).watch()
    assert now == 90.0


def test_one_of_many_that_find_no_server_starts_one(
    home: Path, port: int, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Server] = []

    def start(settings: object, at: int) -> Server:
        started.append(_server(process, port))
        _write(home, started[-1])
        return started[-1]

    monkeypatch.setattr(server_module, "_start", start)
    monkeypatch.setattr(server_module, "_version", lambda: "3.8.8")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: ensure_server(current_settings()), range(8)))
    assert len(started) == 1
    assert sorted(is_new for _, is_new in found) == [False] * 7 + [True]
    assert {server for server, _ in found} == set(started)


def test_a_server_that_is_slow_to_answer_is_not_replaced(
    home: Path, process: subprocess.Popen[bytes], started: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = replace(_server(process, port=1), version=server_module._version())
    _write(home, server)
    monkeypatch.setattr(server_module, "_answers", lambda _, within: within > 10.0)
    assert running_server(current_settings()) is None
    assert ensure_server(current_settings()) == (server, False)
    assert started == []
    assert process.poll() is None
