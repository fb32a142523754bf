"""What of a step need not be computed any more while it runs; see the rule stop_at_limit."""

from __future__ import annotations

from collections.abc import Mapping

from shiftql.plan import Rank, Step
from shiftql.rules import rules_off
from shiftql.rules.knowledge import Knowledge, is_perfect
from shiftql.rules.stop_at_limit import stop_at_limit
from storage.evaluations import Measurement


class Needless:
    """The evaluations of a step that its LIMIT has no place left for, by what is told of the others.

    Of None, which is no step but some of one, nothing is needless.
    """

    def __init__(self, step: Step | None) -> None:
        self._step = step
        # Whether it is worth telling.
        self.may_be = isinstance(step, Rank) and step.limit is not None and stop_at_limit.__name__ not in rules_off()
        self._perfect: set[str] = set()
        self.fingerprints: frozenset[str] = frozenset()

    def tell(self, outcomes: Mapping[str, Measurement]) -> None:
        """Take note of what came of evaluations, by fingerprint."""
        perfect = {fingerprint for fingerprint, outcome in outcomes.items() if is_perfect(outcome)}
        if self._step is None or not self.may_be or not perfect:
            return
        self._perfect |= perfect
        left = stop_at_limit(self._step, Knowledge(perfect=frozenset(self._perfect))).new_evaluations
        wanted = {evaluation.fingerprint for evaluation in self._step.new_evaluations}
        self.fingerprints = frozenset(wanted - {evaluation.fingerprint for evaluation in left})
