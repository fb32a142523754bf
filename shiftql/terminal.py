"""Progress for whoever typed the command: notes as lines and a bar, both on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from shiftql.progress import Progress, progress

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as Bar

    from shiftql.answers import Answer

# Of a ranking so far, and of the terminal below it for the bar and a line to type in.
_SHOWN_ROWS, _LINES_BELOW = 10, 3


class NotedProgress(Progress):
    """Notes only, for logs and pipes."""

    def note(self, message: str) -> None:
        click.echo(message, err=True)


class BarProgress(Progress):
    """Notes and, while evaluations are computed, the ranking so far and a bar below it, which vanish at the end."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._so_far = ""

    def note(self, message: str) -> None:
        if self._bar is None:
            click.echo(message, err=True)
        else:
            self._bar.console.print(message, markup=False, highlight=False)

    def begin(self, total: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar
        from rich.text import Text

        surface = self

        class RankingAndBar(Bar):
            def get_renderables(self) -> Iterable[RenderableType]:
                if surface._so_far:
                    yield Text(surface._so_far)
                yield from super().get_renderables()

        if self._bar is not None:
            self._bar.stop()
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self._bar = RankingAndBar(*columns, console=Console(stderr=True), transient=True)
        self._bar.add_task("", total=total)
        self._bar.start()

    def advance(self, done: str, amount: float = 1) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=amount, description=done)

    def show(self, answer: Answer) -> None:
        from shiftql.answers import RankingAnswer
        from shiftql.drawing import draw
        from shiftql.tables import tabulate_ranking

        if self._bar is not None and isinstance(answer, RankingAnswer):
            lines = draw(tabulate_ranking(answer.ranking[:_SHOWN_ROWS]), width=self._bar.console.width).splitlines()
            self._so_far = "\n".join(lines[: max(0, self._bar.console.height - _LINES_BELOW)])

    def end(self) -> None:
        if self._bar is not None:
            self._so_far = ""
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
