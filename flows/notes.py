"""Notes of a run that nobody waits for at a terminal: lines of its log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging import get_logger

from shiftql.progress import Progress, progress

# Below the logger whose lines reach the server, as those of the run that they are written in.
NOTES = "flow_runs.notes"


class LoggedNotes(Progress):
    """Notes as lines of the run's log."""

    def note(self, message: str) -> None:
        get_logger(NOTES).info(message)


@contextmanager
def logged_notes() -> Iterator[None]:
    """Within it notes are lines of the run's log, unless somebody is shown them anyway."""
    if type(progress.get()) is not Progress:
        yield
        return
    token = progress.set(LoggedNotes())
    try:
        yield
    finally:
        progress.reset(token)
