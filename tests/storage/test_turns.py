from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from storage.database import Database
from storage.settings import Settings, current_settings
from storage.turns import Turns


@pytest.fixture
def turns(database: Database) -> Turns:
    return Turns(database, expires_seconds=30.0)


@pytest.fixture
def impatient(database: Database) -> Turns:
    """Every turn has expired as soon as it is taken."""
    return Turns(database, expires_seconds=-1.0)


def test_a_model_is_one_askers_until_it_is_given_back(turns: Turns) -> None:
    owner = turns.take("bert")
    assert owner is not None
    assert turns.take("bert") is None
    assert turns.take("vit") is not None
    turns.give_back(owner)
    assert turns.take("bert") is not None


def test_one_of_many_gets_the_turn(database: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: Turns(database, 30.0).take("bert"), range(8)))
    assert sum(owner is not None for owner in taken) == 1


def test_one_of_many_takes_over_from_the_dead(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("storage.turns.time.time", lambda: now)
    assert turns.take("bert") is not None
    now = 1029.0
    assert turns.take("bert") is None
    now = 1031.0
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: turns.take("bert"), range(8)))
    assert sum(owner is not None for owner in taken) == 1


def test_a_heartbeat_keeps_the_turns_it_is_for(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("storage.turns.time.time", lambda: now)
    kept, lost = turns.take("bert"), turns.take("vit")
    assert kept is not None
    assert lost is not None
    now = 1029.0
    turns.heartbeat([kept])
    turns.heartbeat([])
    now = 1031.0
    assert turns.take("bert") is None
    assert turns.take("vit") is not None


def test_a_former_owner_gives_nothing_back(impatient: Turns, turns: Turns) -> None:
    former, current = impatient.take("bert"), impatient.take("bert")
    assert former is not None
    assert current is not None
    impatient.give_back(former)
    assert turns.take("bert") is None
    impatient.give_back(current)
    assert turns.take("bert") is not None


def _add_up(settings: Settings, ledger: Path, times: int) -> None:
    """Reads a number and writes the next, which goes wrong unless one does so at a time."""
    turns = Turns(Database(settings), expires_seconds=30.0)
    for _ in range(times):
        while (owner := turns.take("bert")) is None:
            pass
        ledger.write_text(str(int(ledger.read_text()) + 1))
        turns.give_back(owner)


def test_processes_take_turns(database: Database, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.write_text("0")
    context = get_context("forkserver")
    context.set_forkserver_preload(["storage.turns"])
    processes = [context.Process(target=_add_up, args=(current_settings(), ledger, 5)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert ledger.read_text() == "20"


def _take_and_die(settings: Settings) -> None:
    assert Turns(Database(settings), 30.0).take("bert") is not None
    os._exit(9)


def test_the_turn_of_a_process_that_died_is_taken_over_after_the_limit(database: Database) -> None:
    process = get_context("spawn").Process(target=_take_and_die, args=(current_settings(),))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert Turns(database, expires_seconds=30.0).take("bert") is None
    assert Turns(database, expires_seconds=0.0).take("bert") is not None
