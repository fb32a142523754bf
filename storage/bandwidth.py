"""How fast files come from model hubs, by the downloads of this home so far."""

from __future__ import annotations

import contextlib
from pathlib import Path

from storage.settings import Settings

# Before anything was measured.
DEFAULT_BYTES_PER_SECOND = 10e6
# What is smaller measures how long a hub takes to answer.
_LEAST_BYTES = 1_000_000
# Of the mean, what the latest download makes up.
_WEIGHT = 0.5


def bytes_per_second(settings: Settings) -> float:
    """A running mean of what was measured, else 10 MB a second."""
    return _measured(settings) or DEFAULT_BYTES_PER_SECOND


def note_download(settings: Settings, size_bytes: int, seconds: float) -> None:
    """Take a download into the mean."""
    if size_bytes < _LEAST_BYTES or seconds <= 0:
        return
    latest = size_bytes / seconds
    mean = latest + (1 - _WEIGHT) * ((_measured(settings) or latest) - latest)
    # A hint for the next plan, not worth a failure.
    with contextlib.suppress(OSError):
        _file(settings).write_text(f"{mean:.0f}\n")


def _measured(settings: Settings) -> float | None:
    try:
        return float(_file(settings).read_text())
    except (OSError, ValueError):
        return None


def _file(settings: Settings) -> Path:
    return settings.home / "bytes-per-second"
