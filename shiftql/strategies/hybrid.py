"""The best by upstream accuracy and the best by a proxy (SHiFT's Q4, arXiv 2204.01457)."""

from __future__ import annotations

from shiftql.strategies.base import Problem
from shiftql.strategies.proxy import Proxy
from shiftql.strategies.upstream import by_upstream
from storage.evaluations import Evaluation


class Hybrid(Proxy):
    """Evaluates the best `upstream` models by upstream accuracy beside the `k` best by the `proxy`."""

    def __init__(self, problem: Problem, proxy: str, k: int = 1, upstream: int = 1) -> None:
        self._upstream = [arm.final for arm in by_upstream(problem)[:upstream]]
        super().__init__(problem, proxy, k)

    def _besides(self) -> list[Evaluation]:
        return self._upstream
