"""The background Prefect server of one home: started by the first query with new work, found by the next.

`server.json` in the home says which process serves at which port. Starting is done under a lock, a server
that does not answer is replaced, and one that nobody asked anything for long ends itself.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from flows.processes import is_alive
from storage.errors import StoreError
from storage.in_place import put_in_place
from storage.outages import disk_full
from storage.settings import Settings, current_settings
from storage.uncollected import kept_for_good

_START_SECONDS = 90.0
_POLL_SECONDS = 0.05
_IDLE_SECONDS = 3600.0
# A server that nobody can find, because whoever started it died before it was written down or because another took
# its place, only ends what it is busy with.
_UNKNOWN_SECONDS = 60.0
# While it is there, the server is part of a stack, which runs until it is told to end.
STACK_FILE = "stack.json"
# How long the health of a server may take to tell: soon where it is only looked for, and on a machine that is busy or
# was suspended before it is taken for dead.
_SOON_SECONDS = 2.0
_AT_LAST_SECONDS = 30.0
_LOOK_AGAIN_SECONDS = 30.0
_ENVIRONMENT = {
    # Task runs and events are recorded in batches: one by one they cost four times as much.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class Server:
    """A running server. `started` is its process's start time, which tells it from a later one of the same pid."""

    pid: int
    started: float
    port: int
    version: str

    @property
    def ui_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api_url(self) -> str:
        return f"{self.ui_url}/api"


def is_api_configured() -> bool:
    """Whether the environment, or code around this call, names a Prefect API; a profile does not count."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    if "prefect" not in sys.modules:
        return False
    from prefect.settings import PREFECT_API_URL, load_current_profile

    return PREFECT_API_URL.value() not in {None, load_current_profile().settings.get(PREFECT_API_URL)}


def api_at_hand(settings: Settings) -> str | None:
    """The API of the server that is configured, or else of the home's where it is up; whether it answers is not
    waited for."""
    if not is_api_configured():
        server = server_at(settings)
        return None if server is None else server.api_url
    if url := os.environ.get("PREFECT_API_URL"):
        return url.rstrip("/")
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value()


def running_server(settings: Settings, within: float = _SOON_SECONDS) -> Server | None:
    """The home's server if it is alive, of this version, and answers within some seconds."""
    server = server_at(settings)
    return server if server is not None and _answers(server, within) else None


def server_at(settings: Settings) -> Server | None:
    """The home's server if it is alive, and of this version; whether it answers is not waited for."""
    server = _read(settings)
    if server is None or server.version != _version() or not is_alive(server.pid, server.started):
        return None
    return server


def ensure_server(settings: Settings, port: int | None = None) -> tuple[Server, bool]:
    """The home's server, started if there is none that answers, and whether it was started now.

    It is started at a port, or else where it was before, which workers know, or at any that is free. Raises
    StoreError with the log's place when it does not come up.
    """
    if (server := running_server(settings)) is not None:
        return server, False
    with FileLock(settings.home / "server.lock"):
        if (server := running_server(settings, _AT_LAST_SECONDS)) is not None:
            return server, False
        before = _read(settings)
        _end(before)
        return _start(settings, port or choose_port(before.port if before else 0)), True


def stop_server(settings: Settings) -> bool:
    """End the home's server; False when none was running."""
    with FileLock(settings.home / "server.lock"):
        server = _read(settings)
        stopped = _end(server)
        _state_file(settings).unlink(missing_ok=True)
        return stopped


def _start(settings: Settings, port: int) -> Server:
    home = settings.home / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    log_path = settings.home / "logs" / "server.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= _ENVIRONMENT | {
        "SHIFT_HOME": str(settings.home),
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect.db'}",
    }
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.server", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    server = Server(process.pid, psutil.Process(process.pid).create_time(), port, _version())
    state = _state_file(settings)
    with put_in_place(state) as temporary:
        temporary.write_text(json.dumps(asdict(server)))
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(server, _SOON_SECONDS):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            state.unlink(missing_ok=True)
            raise disk_full(settings) or StoreError(
                "the background Prefect server did not start",
                subject=str(log_path),
                fix=f"read {log_path}, or set PREFECT_API_URL to a server that runs",
            )
        time.sleep(_POLL_SECONDS)
    return server


def _end(server: Server | None) -> bool:
    if server is None or not is_alive(server.pid, server.started):
        return False
    process = psutil.Process(server.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=10)
    except psutil.TimeoutExpired:
        process.kill()
    return True


def _read(settings: Settings) -> Server | None:
    try:
        return Server(**json.loads(_state_file(settings).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _state_file(settings: Settings) -> Path:
    return settings.home / "server.json"


def _answers(server: Server, within: float) -> bool:
    import httpx

    try:
        # It speaks plain HTTP, and loading certificates to verify takes longer than all else here.
        return httpx.get(f"{server.api_url}/health", timeout=within, trust_env=False, verify=False).is_success
    except httpx.HTTPError:
        return False


def choose_port(wanted: int) -> int:
    """A port of the loopback interface that is free: the wanted one, if it is."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            # What a server that has just ended leaves behind is in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise StoreError("no port is free", fix="end what listens at too many of them")


def _version() -> str:
    from importlib.metadata import version

    return version("prefect")


class _IdleWatch:
    """Wraps the server's application and ends the process when nobody used it for long, or can find it at all."""

    def __init__(self, application: Any, patience: Callable[[], float]) -> None:
        self._application = application
        self._patience = patience
        self._open = 0
        self._last = time.monotonic()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        self._open += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._open -= 1
            self._last = time.monotonic()

    def watch(self) -> None:
        """Return when the server has been idle for long enough."""
        while self._open or time.monotonic() - self._last < self._patience():
            time.sleep(_LOOK_AGAIN_SECONDS)


def _serve(port: int) -> None:
    with kept_for_good():
        import uvicorn
        from prefect.server.api.server import create_app

        from flows.server_database import let_writers_take_turns

        let_writers_take_turns()
        application = create_app()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            with kept_for_good():
                await super().startup(sockets)

    settings = current_settings()

    def patience() -> float:
        server = _read(settings)
        if server is None or server.pid != os.getpid():
            return _UNKNOWN_SECONDS
        return math.inf if (settings.home / STACK_FILE).exists() else _IDLE_SECONDS

    watch = _IdleWatch(application, patience)
    server = Server(uvicorn.Config(watch, host="127.0.0.1", port=port, log_level="warning"))

    def end_when_idle() -> None:
        watch.watch()
        server.should_exit = True

    threading.Thread(target=end_when_idle, daemon=True).start()
    server.run()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
