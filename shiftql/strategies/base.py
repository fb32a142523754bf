"""The contract of a strategy: which evaluation is run next, and when it is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from storage.evaluations import Evaluation, Measurement


class Strategy(Protocol):
    """Ask and tell, without any input or output of its own, so that live runs and replays drive the same object."""

    def ask(self, count: int) -> Sequence[Evaluation]:
        """Up to `count` evaluations wanted now, none of them asked for before; empty when it waits or is done."""
        ...

    def tell(self, results: Mapping[str, Measurement]) -> None:
        """Results by fingerprint, asked for or known from before."""
        ...

    def answer(self) -> Mapping[str, Measurement]:
        """Everything told of the evaluations it ranks, by fingerprint."""
        ...
