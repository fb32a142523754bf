"""How much memory the device has that models are opened on: the first GPU, or this machine."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

_GPU = Path("/dev/nvidia0")
_LIMIT = Path("/sys/fs/cgroup/memory.max")
_MEBIBYTE = 1 << 20
_ANSWERS_WITHIN_SECONDS = 10.0


@cache
def device_memory() -> int | None:
    """Its bytes in all, whatever is in use now: a plan is the same whatever else runs. None where nobody tells."""
    return _memory_of_gpu() if _GPU.exists() else _memory_here()


def _memory_here() -> int:
    """What the machine has, or the container may use of it."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(installed, int(_LIMIT.read_text()))
    except (OSError, ValueError):
        return installed


def _memory_of_gpu() -> int | None:
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWERS_WITHIN_SECONDS, check=True)
        return int(told.stdout.split()[0]) * _MEBIBYTE
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
