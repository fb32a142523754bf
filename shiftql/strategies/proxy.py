"""A proxy for all models, and a full evaluation of those that do best by it (SHiFT's Q2 and Q3, arXiv 2204.01457)."""

from __future__ import annotations

from shiftql.strategies.base import Problem, rank
from shiftql.strategies.batch import Batch
from shiftql.strategies.staged import Staged
from storage.errors import PlanError
from storage.evaluations import Evaluation


class Proxy(Staged):
    """Asks for the `proxy` of every model that has it, then for the full evaluation of the `k` best by it.

    Raises PlanError when no model has such a proxy.
    """

    def __init__(self, problem: Problem, proxy: str, k: int = 1) -> None:
        self._final = {arm.model: arm.final for arm in problem.arms}
        self._proxies = list(proxies_of(problem, proxy).values())
        self._k = k
        super().__init__(self._proxies)

    def _then(self) -> Batch:
        best = rank(self._proxies, self._told)[: self._k]
        return Batch([*self._besides(), *(self._final[each.model] for each in best)])

    def _besides(self) -> list[Evaluation]:
        """What is fully evaluated whatever the proxy says."""
        return []


def proxies_of(problem: Problem, proxy: str) -> dict[int, Evaluation]:
    """The evaluations by a proxy of the models that have it, by the number of the arm.

    Raises PlanError when no model has such a proxy.
    """
    found = {
        number: offer.evaluation
        for number, arm in enumerate(problem.arms)
        for offer in arm.hints
        if offer.kind == proxy
    }
    if problem.arms and not found:
        kinds = sorted({offer.kind for arm in problem.arms for offer in arm.hints})
        fix = "name one of those" if kinds else "have proxies measured first, or name a table of cheap runs"
        raise PlanError(f"no model has the proxy {proxy}", subject=proxy, allowed=kinds, fix=fix)
    return found
