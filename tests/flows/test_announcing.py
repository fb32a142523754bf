"""What a Prefect server is told of registrations, and that nobody waits for it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows import announcing, server
from flows.registration import register_dataset, register_model, register_models
from shiftql.progress import Progress, progress
from storage.catalog import Catalog
from storage.database import Database
from storage.settings import current_settings


class Listener:
    """A server that keeps the events it is sent, with their authorization."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.authorized: list[str | None] = []
        self.status = 204
        self.answers = threading.Event()
        self.answers.set()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/api/events"
                listener.events += body
                listener.authorized.append(self.headers["Authorization"])
                listener.answers.wait(5)
                self.send_response(listener.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api"

    @property
    def told(self) -> list[tuple[str, list[str]]]:
        return [(event["event"], event["payload"]["names"]) for event in self.events]


@pytest.fixture(autouse=True)
def _forgetful(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of before is remembered, and each event stands alone."""
    monkeypatch.setattr(announcing, "_left_alone_until", 0.0)
    monkeypatch.setattr(announcing, "_is_slow", False)
    monkeypatch.setattr(announcing, "_SHARED_SECONDS", 0.0)
    monkeypatch.setattr(announcing, "_SECONDS", 60.0)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """The Prefect server that is configured."""
    found = Listener()
    thread = threading.Thread(target=found.server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("PREFECT_API_URL", found.url)
    yield found
    found.answers.set()
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def empty(home: Path) -> Catalog:
    return Catalog(Database(current_settings()))


@pytest.fixture
def notes() -> Iterator[list[str]]:
    heard: list[str] = []

    class Heard(Progress):
        def note(self, message: str) -> None:
            heard.append(message)

    token = progress.set(Heard())
    yield heard
    progress.reset(token)


def test_each_command_that_registers_something_tells_it_once(listener: Listener, empty: Catalog, pool: Any) -> None:
    register_model(empty, "mine", str(pool.models["bert"]))
    register_dataset(empty, "nature", str(pool.datasets["nature-train"]))
    list(register_models(empty, str(pool.models["bert"].parent), "all"))
    assert listener.told == [
        ("shift.model.registered", ["mine"]),
        ("shift.dataset.registered", ["nature"]),
        ("shift.model.registered", [f"all/{name}" for name in sorted(pool.models)]),
    ]
    assert listener.events[2]["payload"]["count"] == len(pool.models)


def test_what_changes_nothing_is_not_told(listener: Listener, empty: Catalog, pool: Any) -> None:
    for _ in range(2):
        register_model(empty, "mine", str(pool.models["bert"]))
        register_dataset(empty, "nature", str(pool.datasets["nature-train"]))
        list(register_models(empty, str(pool.models["bert"].parent), "all"))
    assert len(listener.events) == 3
    register_model(empty, "mine", str(pool.models["bert"]), columns={"licence": "mit"})
    assert listener.told[3:] == [("shift.model.registered", ["mine"])]


def test_commands_that_follow_each_other_at_once_share_an_event(
    listener: Listener, empty: Catalog, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "_SHARED_SECONDS", 60.0)
    for number in range(10):
        register_model(empty, f"copy-{number}", str(pool.models["bert"]))
    register_dataset(empty, "nature", str(pool.datasets["nature-train"]))
    assert listener.told == [
        ("shift.model.registered", ["copy-0"]),
        ("shift.dataset.registered", ["nature"]),
    ]


def test_a_secret_of_the_server_is_sent_along(
    listener: Listener, empty: Catalog, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:secret")
    register_model(empty, "mine", str(pool.models["bert"]))
    assert listener.authorized == ["Basic YWRtaW46c2VjcmV0"]


def test_without_a_server_none_is_started_and_nothing_is_said(
    empty: Catalog, pool: Any, notes: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "is_api_configured", lambda: False)
    monkeypatch.setattr(announcing, "_post", lambda *_: pytest.fail("somebody was told"))
    register_model(empty, "mine", str(pool.models["bert"]))
    assert notes == []
    assert not (home / "server.json").exists()


def test_a_registration_does_not_fail_for_want_of_a_server(
    empty: Catalog, pool: Any, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{probe.getsockname()[1]}/api")
    for number in range(3):
        register_model(empty, f"copy-{number}", str(pool.models["bert"]))
    assert len(empty.models()) == 3
    assert len(notes) == 1
    assert "does not take it" in notes[0]


def test_a_registration_waits_for_a_slow_server_once_and_never_long(
    listener: Listener, empty: Catalog, pool: Any, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "_SECONDS", 0.05)
    listener.answers.clear()
    register_model(empty, "first", str(pool.models["bert"]))
    monkeypatch.setattr(announcing, "_SECONDS", 60.0)
    started = time.monotonic()
    register_model(empty, "second", str(pool.models["bert"]))
    assert time.monotonic() - started < 30.0
    assert len(empty.models()) == 2
    assert len(notes) == 1


def test_of_hundreds_the_first_names_are_told_and_all_are_counted(
    listener: Listener, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "_NAMES", 3)
    announcing.announce("model", "registered", [f"m{number}" for number in range(5)])
    assert listener.events[0]["payload"] == {"names": ["m0", "m1", "m2"], "count": 5}
