"""Processes that run in the background for a home: started in sessions of their own, found again, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flows.processes import is_alive
from storage.errors import StoreError
from storage.fingerprints import fingerprint_of

_LOOK_AGAIN_SECONDS = 0.2
_TOLD_LINES = 3
# How long processes are given that outlive the one they work for.
_ALONE_SECONDS = 2.0


@dataclass(frozen=True)
class Component:
    """What is to run: a command, what its environment has beyond this process's, and the cores it may use.

    `answers` says whether it does its work, given when its process began; `ends_within` are the seconds it is given
    to finish what it is at.
    """

    name: str
    command: Sequence[str]
    log: Path
    answers: Callable[[float], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    cores: Sequence[int] = ()
    url: str | None = None
    ends_within: float = 15.0

    @property
    def recipe(self) -> str:
        """Equal recipes make equal processes."""
        return fingerprint_of(list(self.command), dict(self.environment), list(self.cores))


@dataclass(frozen=True)
class Running:
    """A component's process. `started` is its start time, which tells it from a later one of the same pid."""

    name: str
    pid: int
    started: float
    recipe: str
    log: str
    url: str | None = None
    ends_within: float = 15.0

    @property
    def is_alive(self) -> bool:
        return is_alive(self.pid, self.started)


def start(component: Component) -> Running:
    """Start a component, which outlives this process and its terminal; whether it comes up is not waited for."""
    component.log.parent.mkdir(parents=True, exist_ok=True)
    with component.log.open("ab") as log:
        process = subprocess.Popen(
            component.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **component.environment},
            start_new_session=True,
        )
    if component.cores:
        os.sched_setaffinity(process.pid, component.cores)
    return Running(
        component.name,
        process.pid,
        psutil.Process(process.pid).create_time(),
        component.recipe,
        str(component.log),
        component.url,
        component.ends_within,
    )


def wait_until_up(component: Component, running: Running, within: float) -> None:
    """Wait until a component does its work. Raises StoreError, and ends it, when it does not within some seconds."""
    deadline = time.monotonic() + within
    while not component.answers(running.started):
        is_over = not running.is_alive
        if is_over or time.monotonic() > deadline:
            end([running])
            how = "ended" if is_over else f"did not come up within {within:g} s"
            said = " | ".join(_last_lines(component.log))
            raise StoreError(
                f"{component.name} {how}{f'; it said last: {said}' if said else ''}",
                subject=str(component.log),
                fix=f"read {component.log}, mend what it names, and run 'shiftql up' again: it starts what is missing",
            )
        time.sleep(_LOOK_AGAIN_SECONDS)


def end(components: Iterable[Running]) -> list[Running]:
    """End components with all their processes, at the same time: asked to first, killed where they do not in time.

    Those that were running.
    """
    given = list(components)
    # Before the first of each ends: afterwards its number may be another's.
    members = [_session(running) for running in given]
    ended = [running for running in given if running.is_alive]
    begun = time.monotonic()
    for running in ended:
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGTERM)
    for running, session in zip(given, members, strict=True):
        first = [process for process in session if process.pid == running.pid]
        psutil.wait_procs(first, max(0.0, begun + running.ends_within - time.monotonic()))
        # Those that it leaves behind notice, and end by themselves.
        _, left = psutil.wait_procs(session, 0.0 if any(each.is_running() for each in first) else _ALONE_SECONDS)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left)
    return ended


def _session(running: Running) -> list[psutil.Process]:
    """The processes of a component, those too that outlived its first one.

    As long as there is any, no other process gets the number of the first.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        if abs(psutil.Process(running.pid).create_time() - running.started) >= 1:
            return []
    return [each for each in psutil.process_iter() if _session_of(each.pid) == running.pid]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _last_lines(log: Path) -> list[str]:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line.strip() for line in lines if line.strip()][-_TOLD_LINES:]
