"""A proxy for all models, and a full evaluation of those that do best by it (SHiFT's Q2 and Q3, arXiv 2204.01457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shiftql.strategies.base import Answer, Problem, rank
from shiftql.strategies.batch import Batch
from storage.errors import PlanError
from storage.evaluations import Evaluation, Measurement


class Proxy:
    """Asks for the proxy `by` of every model that has it, then for the full evaluation of the `k` best by it.

    Raises PlanError when no model has such a proxy.
    """

    def __init__(self, problem: Problem, by: str, k: int = 1) -> None:
        self._final = {arm.model: arm.final for arm in problem.arms}
        self._proxies = [offer.evaluation for arm in problem.arms for offer in arm.hints if offer.kind == by]
        if problem.arms and not self._proxies:
            kinds = sorted({offer.kind for arm in problem.arms for offer in arm.hints})
            fix = "name one of those" if kinds else "have proxies measured first, or name a table of cheap runs"
            raise PlanError(f"no model has the proxy {by}", subject=by, allowed=kinds, fix=fix)
        self._k = k
        self._first = Batch(self._proxies)
        self._second: Batch | None = None
        self._told: dict[str, Measurement] = {}

    def ask(self, count: int) -> Sequence[Evaluation]:
        return (self._second or self._first).ask(count)

    def tell(self, results: Mapping[str, Measurement]) -> None:
        self._told |= results
        self._first.tell(results)
        if self._second is None and all(each.fingerprint in self._told for each in self._proxies):
            best = rank(self._proxies, self._told)[: self._k]
            self._second = Batch([*self._besides(), *(self._final[each.model] for each in best)])
        if self._second is not None:
            self._second.tell(self._told)

    def answer(self) -> Answer:
        """The models that were fully evaluated; until then, what their proxies say."""
        return (self._second or self._first).answer()

    def _besides(self) -> list[Evaluation]:
        """What is fully evaluated whatever the proxy says."""
        return []
