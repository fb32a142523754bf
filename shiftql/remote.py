"""A Prefect server at a distance: runs of its deployments are started, followed and given up over its REST API."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from shiftql.progress import progress
from storage.errors import BindingError, StoreError

if TYPE_CHECKING:
    import httpx

AUTHENTICATION = "PREFECT_API_AUTH_STRING"
_ENDED = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
_WAITING = {"SCHEDULED", "PENDING"}
_REQUEST_SECONDS, _CONNECT_SECONDS = 60.0, 10.0
# What a server answers that cannot do it now, such as one whose database is locked; and for how long it is left alone.
_BUSY = {429, 502, 503, 504}
_BUSY_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)
_FIRST_POLL_SECONDS, _POLL_SECONDS = 0.2, 1.0
# How long a run may wait before it is said what for, and how long a server may be away before that is given up on.
_PATIENCE_SECONDS, _AWAY_SECONDS = 5.0, 60.0
# How long a run that is cancelled may take to end by itself.
_LAST_WORDS_SECONDS = 15.0
# Below what Prefect itself logs, by the flow of `flows.statements`.
_NOTES = "flow_runs.notes"


@dataclass(frozen=True)
class Run:
    """A flow run: its id, its page in Prefect's interface, and the pool whose workers take it."""

    identity: str
    url: str
    pool: str | None


@dataclass(frozen=True)
class Ended:
    """How a run ended: its state's type, what the state says, and the lines of its artifact `answer`."""

    state: str
    message: str
    answers: tuple[str, ...]


class Remote:
    """The Prefect server at a URL, which may be written as host:4200, with or without http:// and /api.

    PREFECT_API_AUTH_STRING is sent to it where that is set. Raises StoreError where no Prefect server answers.
    """

    def __init__(self, url: str) -> None:
        self.api_url = api_url_of(url)

    @property
    def ui_url(self) -> str:
        """Where people look at it."""
        return self.api_url.removesuffix("/api")

    def start(self, deployment: str, parameters: Mapping[str, Any]) -> Run:
        """Start a run of a deployment, written as its name or flow/name.

        Raises BindingError when there is no such deployment, or its parameters are others.
        """
        found = self._deployment(deployment)
        known = (found.get("parameter_openapi_schema") or {}).get("properties", {})
        if unknown := [name for name in parameters if name not in known]:
            raise BindingError(
                f"the deployment {deployment} has no parameter {unknown[0]!r}", subject=unknown[0], allowed=list(known)
            )
        path = f"/deployments/{found['id']}/create_flow_run"
        # Sent again, it is the same run.
        asked = {"parameters": dict(parameters), "state": {"type": "SCHEDULED"}, "idempotency_key": uuid4().hex}
        run = self._json("POST", path, asked)
        return Run(run["id"], f"{self.ui_url}/runs/flow-run/{run['id']}", found.get("work_pool_name"))

    def follow(self, run: Run, show: Callable[[str], None]) -> Ended:
        """Wait for a run to end; what is said of it meanwhile is passed on, the answer so far to `show`.

        An interrupt cancels the run; another one no longer waits for its end.
        """
        watched = _Watched(self, run, show)
        try:
            return watched.until_it_ends()
        except KeyboardInterrupt:
            progress.get().note("interrupted: the run is cancelled")
            self.cancel(run)
            return watched.until_it_ends(time.monotonic() + _LAST_WORDS_SECONDS)
        finally:
            progress.get().end()

    def cancel(self, run: Run) -> None:
        """Ask that a run end; one that no worker has taken yet ends at once."""
        waiting = self.state_of(run)["type"] in _WAITING
        state = {"type": "CANCELLED" if waiting else "CANCELLING"}
        self._json("POST", f"/flow_runs/{run.identity}/set_state", {"state": state})

    def state_of(self, run: Run) -> dict[str, Any]:
        """The state of a run: its `type`, `name` and `message`."""
        found = self._json("GET", f"/flow_runs/{run.identity}")
        state: dict[str, Any] = found["state"] or {}
        return state

    def artifacts_of(self, run: Run) -> dict[str, Any]:
        """What a run has left of its answer and its progress, by key."""
        wanted = {"flow_run_id": {"any_": [run.identity]}, "key": {"any_": ["answer", "progress"]}}
        return {each["key"]: each["data"] for each in self._json("POST", "/artifacts/filter", {"artifacts": wanted})}

    def notes_of(self, run: Run, after: int) -> Sequence[Mapping[str, Any]]:
        """The lines of a run's log after the first so many."""
        wanted = {"logs": {"flow_run_id": {"any_": [run.identity]}}, "offset": after, "sort": "TIMESTAMP_ASC"}
        lines: list[Mapping[str, Any]] = self._json("POST", "/logs/filter", wanted)
        return lines

    def workers_of(self, pool: str) -> int:
        """How many workers of a pool are online."""
        wanted = {"workers": {"status": {"any_": ["ONLINE"]}}}
        return len(self._json("POST", f"/work_pools/{pool}/workers/filter", wanted))

    def _deployment(self, written: str) -> dict[str, Any]:
        flow, _, name = written.rpartition("/")
        found = self._json("POST", "/deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        # The deployments of flows that people do not start are named after pools.
        matching = [each for each in found if not flow or self._flow_name(each["flow_id"]) == flow]
        if matching:
            first: dict[str, Any] = matching[0]
            return first
        there = self._json("POST", "/deployments/filter", {})
        names = sorted(each["name"] for each in there if "internal" not in each["tags"])
        raise BindingError(
            f"there is no deployment {written!r} at {self.ui_url}",
            subject=written,
            allowed=names,
            fix=None if names else "'shiftql deploy' makes them, with PREFECT_API_URL set to that server",
        )

    def _flow_name(self, identity: str) -> str:
        return str(self._json("GET", f"/flows/{identity}")["name"])

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx

        # Loading certificates takes longer than all else, and plain HTTP needs none.
        verify = self.api_url.startswith("https:")
        return httpx.Client(
            headers=authorization(), timeout=httpx.Timeout(_REQUEST_SECONDS, connect=_CONNECT_SECONDS), verify=verify
        )

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        """What the server answers to a request. Raises StoreError where there is no answer, or a refusal."""
        response = self._answered(method, path, body)
        if response.status_code >= 500:
            raise Unreachable(self.ui_url, f"HTTP {response.status_code}")
        if response.status_code in {401, 403}:
            raise StoreError(
                f"the server at {self.ui_url} does not let this client in",
                subject=self.ui_url,
                fix=f"set {AUTHENTICATION} to what the server was started with",
            )
        if response.status_code in {400, 409, 422}:
            raise BindingError(f"the server at {self.ui_url} refused it: {_detail_of(response)}", subject=path)
        with _json_expected(self.ui_url):
            response.raise_for_status()
            return response.json() if response.content else None

    def _answered(self, method: str, path: str, body: Any) -> httpx.Response:
        """The response to a request, which is made again where the server is too busy for it."""
        import httpx

        for pause in (*_BUSY_PAUSES, None):
            try:
                response = self._client.request(method, f"{self.api_url}{path}", json=body)
            except httpx.TransportError as error:
                raise Unreachable(self.ui_url, type(error).__name__) from error
            if response.status_code not in _BUSY or pause is None:
                return response
            time.sleep(pause)
        raise AssertionError


class Unreachable(StoreError):
    """No server answers at a URL, now at least."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"no Prefect server answers at {url} ({reason})",
            subject=url,
            fix="check the address, and that the server runs: 'shiftql up' starts one",
        )


def api_url_of(url: str) -> str:
    """The address of a server's API, however it is written. Raises BindingError where it is no address of a server.

    >>> [api_url_of(each) for each in ("host:4200", "http://host:4200/", "https://host/api")]
    ['http://host:4200/api', 'http://host:4200/api', 'https://host/api']
    """
    written = url.strip()
    parts = urlsplit(written if "://" in written else f"http://{written}")
    if "@" in parts.netloc:
        raise BindingError(
            "a server's address holds no user and password", fix=f"set {AUTHENTICATION} to user:password instead"
        )
    if parts.scheme not in {"http", "https"} or not parts.netloc or " " in written:
        raise BindingError(f"{url!r} is no address of a server", subject=url, fix="write for example http://host:4200")
    path = parts.path.rstrip("/").removesuffix("/api")
    return f"{parts.scheme}://{parts.netloc}{path}/api"


def authorization() -> dict[str, str]:
    """The header that lets this client in: none where PREFECT_API_AUTH_STRING is not set."""
    secret = os.environ.get(AUTHENTICATION)
    return {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"} if secret else {}


class _Watched:
    """A run as it is seen from here: what was told of it already."""

    def __init__(self, remote: Remote, run: Run, show: Callable[[str], None]) -> None:
        self._remote = remote
        self._run = run
        self._show = show
        self._lines = 0
        self._done: float | None = None
        self._answer = ""
        self._since = time.monotonic()
        self._told = ""

    def until_it_ends(self, deadline: float | None = None) -> Ended:
        pause, away_since = _FIRST_POLL_SECONDS, None
        while True:
            try:
                state = self._remote.state_of(self._run)
                self._look(state["type"])
                away_since = None
            except Unreachable:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > _AWAY_SECONDS:
                    raise
                self._tell("the server does not answer; the run may go on, and is looked for again")
            else:
                if state["type"] in _ENDED or (deadline is not None and time.monotonic() > deadline):
                    return Ended(state["type"], state.get("message") or "", tuple(self._answer.splitlines()))
            time.sleep(pause)
            pause = min(_POLL_SECONDS, pause * 1.5)

    def _look(self, state: str) -> None:
        if state in _WAITING:
            self._say_what_it_waits_for()
            return
        for line in self._remote.notes_of(self._run, self._lines):
            self._lines += 1
            if str(line["name"]).endswith(_NOTES):
                progress.get().note(line["message"])
        left = self._remote.artifacts_of(self._run)
        if "progress" in left:
            self._advance(float(left["progress"]))
        if left.get("answer") and left["answer"] != self._answer:
            self._answer = left["answer"]
            self._show(self._answer)

    def _advance(self, per_cent: float) -> None:
        if self._done is None:
            progress.get().begin(100)
            self._done = 0.0
        if per_cent > self._done:
            progress.get().advance("% done", per_cent - self._done)
            self._done = per_cent

    def _say_what_it_waits_for(self) -> None:
        if self._run.pool is None or time.monotonic() - self._since < _PATIENCE_SECONDS:
            return
        # Looked at again every now and then.
        self._since = time.monotonic()
        online = self._remote.workers_of(self._run.pool)
        if not online:
            self._tell(
                f"no worker of the work pool {self._run.pool} is online: the run waits until one is started, as by "
                f"'shiftql up' or 'python -m deployments.worker --pool {self._run.pool}'"
            )
        else:
            workers = "1 worker is" if online == 1 else f"{online} workers are"
            self._tell(f"the run waits to be taken: {workers} online in the work pool {self._run.pool}")

    def _tell(self, what: str) -> None:
        if what != self._told:
            self._told = what
            progress.get().note(what)


def _detail_of(response: httpx.Response) -> str:
    try:
        found = response.json()
    except ValueError:
        return response.text
    detail = found.get("detail") or found.get("exception_detail") or found
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, each.get('loc', ())))}: {each.get('msg')}" for each in detail)
    return str(detail)


@contextmanager
def _json_expected(url: str) -> Iterator[None]:
    import httpx

    try:
        yield
    except (httpx.HTTPStatusError, ValueError) as error:
        raise StoreError(
            f"what answers at {url} is no Prefect server", subject=url, fix="write the address of a Prefect server"
        ) from error
