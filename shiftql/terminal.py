"""Progress for whoever typed the command: notes as lines and a bar, both on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from shiftql.progress import Progress, progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class NotedProgress(Progress):
    """Notes only, for logs and pipes."""

    def note(self, message: str) -> None:
        click.echo(message, err=True)


class BarProgress(Progress):
    """Notes and, while evaluations are computed, a bar below them that vanishes at the end."""

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def note(self, message: str) -> None:
        if self._bar is None:
            click.echo(message, err=True)
        else:
            self._bar.console.print(message, markup=False, highlight=False)

    def begin(self, total: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self.end()
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self._bar.add_task("", total=total)
        self._bar.start()

    def advance(self, done: str, amount: float = 1) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=amount, description=done)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextmanager
def shown_progress() -> Iterator[None]:
    """Within it, what is reported is shown: with a bar on a terminal, else as plain lines."""
    surface = BarProgress() if sys.stderr.isatty() else NotedProgress()
    token = progress.set(surface)
    try:
        yield
    finally:
        surface.end()
        progress.reset(token)
