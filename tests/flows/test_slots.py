"""Slots under cancellation."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from flows import slots as slots_module
from flows.slots import Slots


def test_who_is_cancelled_while_waiting_keeps_nobody_from_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "_LOOK_AGAIN_SECONDS", 0.0005)

    async def waiting(slots: Slots) -> None:
        async with slots.take("torch", all_cores=True):
            pass

    async def cancel_many() -> None:
        slots = Slots(())
        for number in range(300):
            async with slots.take("torch", all_cores=True):
                waiters = [asyncio.create_task(waiting(slots)) for _ in range(3)]
                await asyncio.sleep(0.0001 * (number % 12))
                for waiter in waiters:
                    waiter.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*waiters, return_exceptions=True)

    asyncio.run(asyncio.wait_for(cancel_many(), 20))
