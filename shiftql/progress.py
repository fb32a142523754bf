"""What a person is told while a query runs. The default says nothing."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shiftql.answers import Answer


class Progress:
    """Receives what happens; each surface (terminal, notebook, flow run) shows it in its own way."""

    def note(self, message: str) -> None:
        """A sentence worth knowing, such as a server being started."""

    def begin(self, total: float) -> None:
        """`total` evaluations are about to be computed, or megabytes to be downloaded."""

    def advance(self, done: str, amount: float = 1) -> None:
        """One evaluation is computed; `done` says which, for example "linear resnet-letters"."""

    def show(self, answer: Answer) -> None:
        """This is the answer so far."""

    def end(self) -> None:
        """All of it is done, or the query was given up."""


# The surface of the query that is running.
progress: ContextVar[Progress] = ContextVar("progress", default=Progress())  # noqa: B039
