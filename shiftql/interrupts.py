"""Ctrl-C at a command: the first ends the work of a statement, and a second changes nothing while the answer is made.

A third ends the process at once, with status 130.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERRUPTED = 130
_PATIENCE = 3


class Interrupts:
    """Those that one process hears; none are counted before `hear`."""

    def __init__(self) -> None:
        self._count = 0
        self._end: Callable[[], object] | None = None

    @property
    def were_heard(self) -> bool:
        """Whether the statement was interrupted."""
        return self._count > 0

    def hear(self) -> None:
        """From now on the first of a statement raises KeyboardInterrupt, unless something else ends its work."""
        signal.signal(signal.SIGINT, self._take)

    def begin(self) -> None:
        """A statement begins, which none was meant for yet."""
        self._count = 0

    @contextmanager
    def ending(self, end: Callable[[], object]) -> Iterator[None]:
        """Meanwhile `end` is called in place of raising anything."""
        self._end = end
        try:
            yield
        finally:
            self._end = None

    def _take(self, *_: object) -> None:
        self._count += 1
        if self._count >= _PATIENCE:
            os._exit(INTERRUPTED)
        if self._count > 1:
            return
        if self._end is None:
            raise KeyboardInterrupt
        self._end()


interrupts = Interrupts()
