"""A search that goes on in a process of its own after whoever asked has gone."""

from __future__ import annotations

import os
import subprocess
import sys
from uuid import uuid4

from storage.settings import Settings

# Tells a detached process the name of its run.
RUN_VARIABLE = "SHIFT_RUN"


def compute_detached(script: str, settings: Settings) -> str:
    """Start answering a script in the background; the name of the run, a tag in Prefect and its log's name at home."""
    run = f"run-{uuid4().hex[:12]}"
    log = settings.home / "logs" / f"{run}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "shiftql", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, RUN_VARIABLE: run},
            start_new_session=True,
        )
    return run
