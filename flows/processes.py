"""Processes that outlive whoever started them."""

from __future__ import annotations

import psutil


def is_alive(pid: int, started: float) -> bool:
    """Whether a process still runs; its start time, in seconds, tells it from a later one of the same number.

    One that has ended and that nobody has waited for is not alive.
    """
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - started) < 1
    except psutil.NoSuchProcess:
        return False
