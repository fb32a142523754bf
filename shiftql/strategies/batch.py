"""A batch: each of some evaluations is wanted once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shiftql.strategies.base import Answer, rank
from storage.evaluations import Evaluation, Measurement


class Batch:
    """Asks for each of some evaluations once, in the given order, and ranks by all of them; of equal ones the first."""

    def __init__(self, evaluations: Iterable[Evaluation]) -> None:
        self._wanted: dict[str, Evaluation] = {}
        for evaluation in evaluations:
            self._wanted.setdefault(evaluation.fingerprint, evaluation)
        self._waiting = dict(self._wanted)
        self._results: dict[str, Measurement] = {}

    def ask(self, count: int) -> Sequence[Evaluation]:
        wanted = list(self._waiting.values())[:count]
        for evaluation in wanted:
            del self._waiting[evaluation.fingerprint]
        return wanted

    def tell(self, results: Mapping[str, Measurement]) -> None:
        for fingerprint, measurement in results.items():
            if fingerprint in self._wanted:
                self._results[fingerprint] = measurement
                self._waiting.pop(fingerprint, None)

    def answer(self) -> Answer:
        return Answer(rank(self._wanted.values(), self._results))
