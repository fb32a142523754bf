"""Ctrl-C ends a statement's work once; pressed again, it takes nothing from the answer."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from flows.run import _run
from shiftql.interrupts import interrupts


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    interrupts.hear()
    interrupts.begin()
    yield
    interrupts.begin()
    signal.signal(signal.SIGINT, before)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_the_first_is_raised_and_the_second_changes_nothing() -> None:
    with pytest.raises(KeyboardInterrupt):
        press()
    press()


def test_the_next_statement_is_interrupted_again() -> None:
    for _ in range(2):
        interrupts.begin()
        with pytest.raises(KeyboardInterrupt):
            press()


def test_the_third_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with pytest.raises(KeyboardInterrupt):
        press()
    press()
    assert ended == []
    press()
    assert ended == [130]


@pytest.mark.parametrize("again", [lambda: None, press])
def test_work_is_ended_to_its_last_word(again: Callable[[], None]) -> None:
    said: list[str] = []

    async def work() -> None:
        try:
            press()
            await asyncio.Event().wait()
        finally:
            again()
            await asyncio.sleep(0)
            said.append("ended")

    with pytest.raises(KeyboardInterrupt):
        _run(work)
    assert said == ["ended"]
