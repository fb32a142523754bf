from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from deployments import components
from deployments.components import Component, Running, end, start, wait_until_up
from storage.errors import StoreError

READS = "import sys, time; print('here', flush=True); time.sleep(60)"
IGNORES = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READS}"
HAS_CHILD = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {READS!r}]); {READS}"

Make = Callable[..., Component]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "_ALONE_SECONDS", 0.1)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Components that run a program, and answer once it has said something."""

    def component(program: str = READS, lines: int = 1, **more: object) -> Component:
        log = tmp_path / "logs" / "one.log"
        command = [sys.executable, "-c", program]
        told: dict[str, object] = {"answers": lambda _: len(log.read_text().splitlines()) >= lines, **more}
        return Component("one", command, log, **told)  # type: ignore[arg-type]

    return component


@pytest.fixture
def begin() -> Iterator[Callable[[Component], Running]]:
    """Starts components and waits for them; ends them after the test."""
    begun: list[Running] = []

    def one(component: Component) -> Running:
        begun.append(start(component))
        wait_until_up(component, begun[-1], 30.0)
        return begun[-1]

    yield one
    end(replace(running, ends_within=0.0) for running in begun)


def _members(running: Running) -> list[int]:
    return [each for each in psutil.pids() if _sid(each) == running.pid and _is_running(each)]


def _sid(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _is_running(pid: int) -> bool:
    return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_component_has_a_session_and_a_log_of_its_own(make: Make, begin: Callable[[Component], Running]) -> None:
    component = make(environment={"SHIFT_COLOUR": "blue"})
    running = begin(component)
    assert running.is_alive
    assert os.getsid(running.pid) == running.pid != os.getsid(0)
    assert psutil.Process(running.pid).environ()["SHIFT_COLOUR"] == "blue"
    assert component.log.read_text() == "here\n"


def test_a_component_uses_the_cores_it_was_given(make: Make, begin: Callable[[Component], Running]) -> None:
    core = max(os.sched_getaffinity(0))
    assert os.sched_getaffinity(begin(make(cores=(core,))).pid) == {core}


def test_recipes_differ_by_all_that_makes_a_process(make: Make) -> None:
    made = [make(), make(IGNORES), make(environment={"a": "b"}), make(cores=(0,))]
    assert len({component.recipe for component in made}) == 4
    assert make().recipe == made[0].recipe


def test_ending_leaves_no_process(make: Make, begin: Callable[[Component], Running]) -> None:
    running = begin(make(HAS_CHILD, lines=2))
    assert len(_members(running)) == 2
    assert end([running]) == [running]
    assert _members(running) == []
    assert end([running]) == []


def test_what_does_not_end_when_asked_is_killed(make: Make, begin: Callable[[Component], Running]) -> None:
    running = begin(make(IGNORES, ends_within=0.2))
    began = time.monotonic()
    assert end([running]) == [running]
    assert time.monotonic() - began >= 0.2
    assert _members(running) == []


def test_what_a_killed_component_left_behind_is_ended(make: Make, begin: Callable[[Component], Running]) -> None:
    running = begin(make(HAS_CHILD, lines=2))
    os.kill(running.pid, signal.SIGKILL)
    os.waitpid(running.pid, 0)
    assert not running.is_alive
    assert len(_members(running)) == 1
    assert end([running]) == []
    assert _members(running) == []


def test_a_later_process_of_the_same_number_is_let_live(make: Make, begin: Callable[[Component], Running]) -> None:
    running = begin(make())
    earlier = replace(running, started=running.started - 100)
    assert not earlier.is_alive
    assert end([earlier]) == []
    assert running.is_alive


def test_one_that_ends_at_once_is_an_error_with_its_log_and_last_words(make: Make) -> None:
    component = make("raise SystemExit('no space left')", answers=lambda _: False)
    with pytest.raises(StoreError, match="one ended; it said last: no space left") as caught:
        wait_until_up(component, start(component), 30.0)
    assert caught.value.subject == str(component.log)
    assert "shiftql up" in (caught.value.fix or "")


def test_one_that_never_answers_is_an_error_and_ended(make: Make) -> None:
    component = make(answers=lambda _: False)
    running = start(component)
    with pytest.raises(StoreError, match=r"did not come up within 0\.1 s"):
        wait_until_up(component, running, 0.1)
    assert _members(running) == []
