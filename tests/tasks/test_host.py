from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from storage.errors import EvaluationError, StoreError
from tasks.host import Host, host, stop_hosts

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "in_child"), prepend=os.pathsep)


@pytest.fixture
def plain() -> Iterator[Host]:
    """A host that loads no framework."""
    plain = Host("plain")
    yield plain
    plain.stop()


def test_arguments_and_results_travel_as_json(plain: Host) -> None:
    arguments = {"text": "ä\n", "number": 1.5, "nothing": None, "many": [1, {"deep": True}]}
    assert plain.call("host_functions:echo", **arguments) == arguments


def test_a_home_that_cannot_be_written_is_told(plain: Host, home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "logs").write_text("in the way")
    with pytest.raises(StoreError, match=r"plain\.log cannot be written") as caught:
        plain.call("os:getpid")
    assert "SHIFT_HOME" in (caught.value.fix or "")


def test_calls_share_one_process(plain: Host) -> None:
    plain.start()
    pids = {plain.call("os:getpid") for _ in range(3)}
    assert len(pids) == 1
    assert os.getpid() not in pids


def test_calls_of_several_threads_get_their_own_answers(plain: Host) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda number: plain.call("host_functions:echo", number=number), range(32))
        assert [answer["number"] for answer in answers] == list(range(32))


def test_what_libraries_print_disturbs_nothing(plain: Host, home: Path) -> None:
    assert plain.call("host_functions:noisy", text="the answer") == "the answer"
    assert plain.call("host_functions:noisy", text="the next") == "the next"
    log = (home / "logs" / "plain.log").read_text()
    for line in ("printed", "written to the descriptor", "said by a child"):
        assert line in log


@pytest.mark.parametrize("transient", [True, False])
def test_an_error_travels_with_its_message_and_fix(plain: Host, transient: bool) -> None:
    with pytest.raises(EvaluationError) as caught:
        plain.call("host_functions:refuse", transient=transient)
    assert caught.value.message == "the weights are truncated"
    assert caught.value.fix == "download them again"
    assert caught.value.transient is transient


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("host_functions:miss", "features are missing"),
        ("host_functions:stumble", "KeyError: 'unforeseen'"),
        ("host_functions:no_such_function", "no_such_function"),
        ("no_such_module:function", "no_such_module"),
    ],
)
def test_what_is_not_the_models_fault_may_be_tried_again(plain: Host, function: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message) as caught:
        plain.call(function)
    assert caught.value.transient
    assert plain.call("host_functions:echo", still="alive") == {"still": "alive"}


def test_a_host_that_ends_is_a_transient_error_and_the_next_call_works(plain: Host, home: Path) -> None:
    first = plain.call("os:getpid")
    with pytest.raises(EvaluationError, match="plain process ended with status 3") as caught:
        plain.call("host_functions:end", status=3)
    assert caught.value.transient
    assert str(home / "logs" / "plain.log") in (caught.value.fix or "")
    assert plain.call("os:getpid") != first


def test_a_host_that_is_killed_says_by_what(plain: Host) -> None:
    with pytest.raises(EvaluationError, match="SIGSEGV"):
        plain.call("host_functions:kill", number=int(signal.SIGSEGV))
    with pytest.raises(EvaluationError, match=r"SIGKILL.*out of memory"):
        plain.call("host_functions:kill", number=int(signal.SIGKILL))


def test_a_host_lost_between_calls_is_started_anew(plain: Host) -> None:
    first = plain.call("os:getpid")
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert plain.call("os:getpid") != first


def test_an_interrupt_is_left_to_the_parent(plain: Host) -> None:
    first = plain.call("os:getpid")
    os.kill(first, signal.SIGINT)
    assert plain.call("os:getpid") == first


def test_a_host_ends_with_the_process_it_works_for_also_in_the_middle_of_a_call(home: Path) -> None:
    program = (
        "from tasks.host import Host\n"
        "plain = Host('plain')\n"
        "print(plain.call('os:getpid'), flush=True)\n"
        "plain.call('signal:pause')"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT) as working:
        assert working.stdout is not None
        serving = psutil.Process(int(working.stdout.readline()))
        working.kill()
    _, alive = psutil.wait_procs([serving], timeout=20)
    assert not alive or serving.status() == psutil.STATUS_ZOMBIE


def test_a_stopped_host_is_gone_and_starts_again(plain: Host) -> None:
    first = plain.call("os:getpid")
    plain.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    plain.stop()
    assert plain.call("os:getpid") != first


def test_a_name_has_one_host_in_a_process() -> None:
    try:
        assert host("plain") is host("plain")
        pid = host("plain").call("os:getpid")
        stop_hosts()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    finally:
        stop_hosts()
