"""Two stages: what is asked for first decides what is asked for then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shiftql.strategies.base import Answer, Strategy
from shiftql.strategies.batch import Batch
from storage.evaluations import Evaluation, Measurement


class Staged:
    """Asks for the `first` evaluations, and once all are known goes on with the strategy that they lead to.

    Subclasses say which that is, and set what it needs before they call this constructor.
    """

    def __init__(self, first: Iterable[Evaluation]) -> None:
        evaluations = list(first)
        self._needed = {evaluation.fingerprint for evaluation in evaluations}
        self._first = Batch(evaluations)
        self._second: Strategy | None = None
        self._told: dict[str, Measurement] = {}
        self.tell({})

    def ask(self, count: int) -> Sequence[Evaluation]:
        return (self._second or self._first).ask(count)

    def tell(self, results: Mapping[str, Measurement]) -> None:
        self._told |= results
        self._first.tell(results)
        if self._second is None and self._told.keys() >= self._needed:
            self._second = self._then()
        if self._second is not None:
            self._second.tell(self._told)

    def answer(self) -> Answer:
        """By the second stage; until then, by what the first brought."""
        return (self._second or self._first).answer()

    def _then(self) -> Strategy:
        """The second stage."""
        raise NotImplementedError
