"""A search that goes on in a process of its own after whoever asked has gone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import psutil
from filelock import FileLock

from flows.processes import is_alive
from storage.settings import Settings

# Tells a detached process the name of its run.
RUN_VARIABLE = "SHIFT_RUN"


def compute_detached(script: str, settings: Settings, no_rules: Sequence[str] = ()) -> str:
    """Start answering a script in the background, unless it is being answered there; the name of the run.

    It is a tag of the flow run in Prefect and the name of its log in the home. `no_rules` are left out of its plan.
    """
    left_out = [word for name in no_rules for word in ("--no-rule", name)]
    run = f"run-{sha256(' '.join((*no_rules, script)).encode()).hexdigest()[:12]}"
    log = settings.home / "logs" / f"{run}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    owner = log.with_suffix(".pid")
    with FileLock(log.with_suffix(".lock")), log.open("ab") as file:
        if _is_running(owner):
            return run
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "shiftql", *left_out, "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, RUN_VARIABLE: run},
            start_new_session=True,
        )
        owner.write_text(f"{process.pid} {psutil.Process(process.pid).create_time()}")
    return run


def _is_running(owner: Path) -> bool:
    """Whether the process noted in a file still runs."""
    try:
        pid, started = owner.read_text().split()
        return is_alive(int(pid), float(started))
    except (OSError, ValueError):
        return False
