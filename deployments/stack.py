"""The local stack of a home: a Prefect server, an MLflow server, and workers for this machine's devices.

What runs is written down in `stack.json`, so that it is found again, mended and ended by whoever comes later. Servers
that the environment names are used as they are.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
from filelock import FileLock

from deployments.components import Component, Running, end, start, wait_until_up
from deployments.deploy import deploy
from flows.pools import EVALUATIONS, QUERIES
from flows.server import STACK_FILE, choose_port, ensure_server, running_server, server_at, stop_server
from storage.errors import StoreError
from storage.in_place import put_in_place
from storage.settings import Settings
from tasks.host import host

_PREFECT_PORT, _MLFLOW_PORT = 4200, 5000
_START_SECONDS = 120.0
_ANSWERS_WITHIN_SECONDS = 2.0
_HOME_CHARACTERS = 4
# A worker first finishes, or gives back, what it is at.
_WORKER_ENDS_WITHIN_SECONDS = 20.0
_WORKER_ENVIRONMENT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class Choices:
    """What a stack is made of: how many workers share the cores, and whether MLflow is served."""

    workers: int = 1
    mlflow: bool = True


@dataclass(frozen=True)
class Part:
    """A part of the stack: what it is called, how it is, and where it is looked at and read about."""

    name: str
    state: Literal["running", "started", "up to date", "dead", "elsewhere"]
    url: str | None
    log: str | None


def up(settings: Settings, workers: int | None, mlflow: bool | None, port: int | None) -> Iterator[Part]:
    """Start what is missing, dead or other than chosen of a home's stack; each part as it is up.

    What is not chosen stays as it was chosen before. Raises StoreError when something does not come up; what did
    goes on running.
    """
    _require_shared(settings, port)
    with FileLock(settings.home / "stack.lock"):
        before = _read(settings)
        chosen = Choices(
            before.choices.workers if workers is None else workers,
            before.choices.mlflow if mlflow is None else mlflow,
        )
        running = {each.name: each for each in before.running}
        _write(settings, chosen, running)
        api_url = os.environ.get("PREFECT_API_URL")
        if api_url:
            yield Part("prefect", "elsewhere", api_url, None)
        else:
            server, is_new = ensure_server(settings, _port(settings, port))
            api_url = server.api_url
            state: Literal["started", "running"] = "started" if is_new else "running"
            yield Part("prefect", state, server.ui_url, str(settings.home / "logs" / "server.log"))
            if is_new or not before.running:
                # A team's server is one person's to change.
                deploy(api_url, lambda _: None)
                yield Part("deployments", "up to date", None, None)
        wanted = _components(settings, chosen, api_url, running)
        names = {component.name for component in wanted}
        end(each for each in running.values() if each.name not in names)
        running = {name: each for name, each in running.items() if name in names}
        new: set[str] = set()
        for component in wanted:
            now = running.get(component.name)
            if now is None or not now.is_alive or now.recipe != component.recipe:
                end([now] if now else [])
                running[component.name] = start(component)
                new.add(component.name)
                _write(settings, chosen, running)
        for component in wanted:
            now = running[component.name]
            wait_until_up(component, now, _START_SECONDS)
            yield Part(component.name, "started" if component.name in new else "running", component.url, now.log)


def down(settings: Settings) -> list[str]:
    """End everything that runs for a home, workers first; the names of what did."""
    with FileLock(settings.home / "stack.lock"):
        running = _read(settings).running
        ended = end(each for each in running if each.name != "mlflow")
        ended += end(each for each in running if each.name == "mlflow")
        (settings.home / STACK_FILE).unlink(missing_ok=True)
        return [each.name for each in ended] + (["prefect"] if stop_server(settings) else [])


def parts(settings: Settings) -> list[Part]:
    """What runs for a home, and what should and does not."""
    server = server_at(settings)
    found: list[Part] = []
    is_wanted = (settings.home / STACK_FILE).exists() and not os.environ.get("PREFECT_API_URL")
    if server is not None or is_wanted:
        state: Literal["running", "dead"] = "running" if running_server(settings) else "dead"
        found.append(
            Part("prefect", state, server.ui_url if server else None, str(settings.home / "logs" / "server.log"))
        )
    for each in _read(settings).running:
        found.append(Part(each.name, "running" if each.is_alive else "dead", each.url, each.log))
    return found


@dataclass(frozen=True)
class _State:
    choices: Choices
    running: tuple[Running, ...]


def _read(settings: Settings) -> _State:
    try:
        told = json.loads((settings.home / STACK_FILE).read_text())
        return _State(Choices(**told["choices"]), tuple(Running(**each) for each in told["running"]))
    except (OSError, ValueError, TypeError, KeyError):
        return _State(Choices(), ())


def _write(settings: Settings, chosen: Choices, running: Mapping[str, Running]) -> None:
    with put_in_place(settings.home / STACK_FILE) as temporary:
        told = {"choices": asdict(chosen), "running": [asdict(each) for each in running.values()]}
        temporary.write_text(json.dumps(told, indent=1))


def _port(settings: Settings, wanted: int | None) -> int | None:
    """The port to start Prefect's server at, where it does not run already. Raises StoreError if it cannot be had."""
    server = running_server(settings)
    if wanted is None:
        # Where one was before, it is started there again.
        return None if (settings.home / "server.json").exists() else choose_port(_PREFECT_PORT)
    if server is not None and server.port != wanted:
        raise StoreError(
            f"the Prefect server of this home runs at port {server.port}, not {wanted}",
            subject="--port",
            fix="run 'shiftql down' first, or leave --port out",
        )
    if server is None and choose_port(wanted) != wanted:
        raise StoreError(f"port {wanted} is taken", subject="--port", fix="name another, or leave --port out")
    return wanted


def _components(settings: Settings, chosen: Choices, api_url: str, running: Mapping[str, Running]) -> list[Component]:
    environment = {"SHIFT_HOME": str(settings.home), "PREFECT_API_URL": api_url, **_WORKER_ENVIRONMENT}
    if not os.environ.get("PREFECT_API_URL"):
        home = settings.home / "prefect"
        environment |= {"PREFECT_HOME": str(home), "PREFECT_LOCAL_STORAGE_PATH": str(home / "storage")}
    found: list[Component] = []
    if chosen.mlflow and not os.environ.get("MLFLOW_TRACKING_URI"):
        was = running.get("mlflow")
        found.append(_mlflow(settings, was))
        environment["MLFLOW_TRACKING_URI"] = str(found[0].url)
    machine = f"{socket.gethostname()}-{sha256(str(settings.home).encode()).hexdigest()[:_HOME_CHARACTERS]}"
    ports = _metrics_ports()

    def worker(pool: str, queue: str, name: str, more: Mapping[str, str], cores: Sequence[int] = ()) -> Component:
        full = f"{machine}-{name}" if name else machine
        at = next(ports, None)
        metrics = {} if at is None else {"SHIFT_METRICS_PORT": str(at)}
        return Component(
            f"worker {name or queue}",
            _worker_command(pool, queue, full),
            settings.home / "logs" / f"worker-{name or queue}.log",
            lambda started: _is_worker_online(api_url, pool, f"{full}-{queue}-", started),
            {**environment, **more, **metrics},
            cores,
            ends_within=_WORKER_ENDS_WITHIN_SECONDS,
            url=None if at is None else f"http://{os.environ.get('SHIFT_METRICS_HOST') or '127.0.0.1'}:{at}/metrics",
        )

    gpus = _gpus()
    # Where there are GPUs, what is sent to the cores leaves those alone.
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if gpus else {}
    found.append(worker("cpu", QUERIES, "", hidden))
    for number, cores in enumerate(_shares(chosen.workers), start=1):
        share = cores if chosen.workers > 1 else ()
        threads = {"OMP_NUM_THREADS": str(len(cores))} if share else {}
        found.append(worker("cpu", EVALUATIONS, f"cpu-{number}", threads | hidden, share))
    found += [worker("gpu", EVALUATIONS, f"gpu-{gpu}", {"CUDA_VISIBLE_DEVICES": gpu}) for gpu in gpus]
    return found


def _mlflow(settings: Settings, was: Running | None) -> Component:
    """MLflow's server on the home's own store, where it was before if it can be."""
    if not (settings.home / "mlflow.db").exists():
        # Its server would make it too, and so may a query at the same time.
        host("tracking").call("storage.tracking:export_pending")
        host("tracking").stop()
    port = (was and urlsplit(was.url or "").port) or _MLFLOW_PORT
    if was is None or not was.is_alive:
        end([was] if was else [])
        port = choose_port(port)
    url = f"http://127.0.0.1:{port}"
    options = {
        "--backend-store-uri": settings.tracking_uri,
        "--artifacts-destination": (settings.home / "mlartifacts").as_uri(),
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
    }
    return Component(
        "mlflow",
        [sys.executable, "-P", "-m", "mlflow", "server", *(word for option in options.items() for word in option)],
        settings.home / "logs" / "mlflow.log",
        lambda _: _is_answered(f"{url}/health"),
        {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"},
        url=url,
    )


def _worker_command(pool: str, queue: str, name: str) -> list[str]:
    options = ["--pool", pool, "--queue", queue, "--name", name]
    return [sys.executable, "-P", "-m", "deployments.worker", *options]


def _shares(workers: int) -> list[tuple[int, ...]]:
    """This process's cores, shared out; with more workers than cores some have the same one."""
    cores = sorted(os.sched_getaffinity(0))
    if workers > len(cores):
        return [(cores[number % len(cores)],) for number in range(workers)]
    return [tuple(cores[number::workers]) for number in range(workers)]


def _gpus() -> list[str]:
    """The GPUs of this machine that may be used."""
    there = sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return there if visible is None else [each.strip() for each in visible.split(",") if there and each.strip()]


def _metrics_ports() -> Iterator[int]:
    """A port for each worker, from SHIFT_METRICS_PORT on; none where it is not set."""
    written = os.environ.get("SHIFT_METRICS_PORT")
    if not written:
        return
    if not written.isdecimal():
        raise StoreError(
            f"SHIFT_METRICS_PORT is {written!r}, and must be a port",
            subject="SHIFT_METRICS_PORT",
            fix="write for example SHIFT_METRICS_PORT=9500: workers take that one and those after it",
        )
    first = int(written)
    yield from range(first, 65_536)


def _is_worker_online(api_url: str, pool: str, prefix: str, since: float) -> bool:
    """Whether a worker, whose processes have names of their own, has told Prefect's server of itself since a time."""
    try:
        answer = httpx.post(f"{api_url}/work_pools/{pool}/workers/filter", json={}, **_client_options())
        workers: list[dict[str, Any]] = answer.json() if answer.is_success else []
    except httpx.HTTPError:
        return False
    told = [worker["last_heartbeat_time"] for worker in workers if worker["name"].startswith(prefix)]
    return any(at and datetime.fromisoformat(at).timestamp() >= since - 1 for at in told)


def _is_answered(url: str) -> bool:
    try:
        return httpx.get(url, timeout=_ANSWERS_WITHIN_SECONDS, trust_env=False, verify=False).is_success
    except httpx.HTTPError:
        return False


def _client_options() -> dict[str, Any]:
    name_and_password = os.environ.get("PREFECT_API_AUTH_STRING")
    auth = tuple(name_and_password.split(":", 1)) if name_and_password else None
    return {"auth": auth, "timeout": _ANSWERS_WITHIN_SECONDS}


def _require_shared(settings: Settings, port: int | None) -> None:
    """Refuse to join a server elsewhere while results would stay here."""
    api_url = os.environ.get("PREFECT_API_URL")
    if not api_url:
        return
    if port is not None:
        raise StoreError(
            f"PREFECT_API_URL names a server, {api_url}, and --port is of one that is started here",
            subject="--port",
            fix="leave --port out, or unset PREFECT_API_URL",
        )
    is_here = urlsplit(api_url).hostname in {"127.0.0.1", "localhost", "::1"}
    needed = ("SHIFT_DATABASE_URL", "MLFLOW_TRACKING_URI")
    if not is_here and (missing := [name for name in needed if not os.environ.get(name)]):
        raise StoreError(
            f"PREFECT_API_URL names a server elsewhere, and {' and '.join(missing)} "
            f"{'are' if len(missing) > 1 else 'is'} not set: results of this machine's workers would stay here",
            subject=missing[0],
            fix=f"set {' and '.join(missing)} to what the team uses",
        )
