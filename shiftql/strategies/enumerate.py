"""Enumeration: every model is evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storage.evaluations import Evaluation, Measurement


class Enumerate:
    """Asks for every evaluation once, in the given order, and ranks by all of them."""

    def __init__(self, evaluations: Sequence[Evaluation]) -> None:
        self._waiting = {evaluation.fingerprint: evaluation for evaluation in evaluations}
        self._ranked = frozenset(self._waiting)
        self._results: dict[str, Measurement] = {}

    def ask(self, count: int) -> Sequence[Evaluation]:
        wanted = list(self._waiting.values())[:count]
        for evaluation in wanted:
            del self._waiting[evaluation.fingerprint]
        return wanted

    def tell(self, results: Mapping[str, Measurement]) -> None:
        for fingerprint, measurement in results.items():
            if fingerprint in self._ranked:
                self._results[fingerprint] = measurement
                self._waiting.pop(fingerprint, None)

    def answer(self) -> Mapping[str, Measurement]:
        return dict(self._results)
