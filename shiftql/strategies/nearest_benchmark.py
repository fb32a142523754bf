"""The best models of the datasets that are most like the target, by how a few models do on both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shiftql.strategies.base import Problem
from shiftql.strategies.batch import Batch
from shiftql.strategies.best_average import by_average_rank
from shiftql.strategies.known import known_of_arms, of_arms
from shiftql.strategies.proxy import proxies_of
from shiftql.strategies.ranks import ranks_among_known
from shiftql.strategies.staged import Staged

if TYPE_CHECKING:
    import numpy as np


class NearestBenchmark(Staged):
    """Evaluates the `k` best models on the datasets that are nearest by their profiles.

    A dataset's profile is what a `proxy` says of each model there, or else what `probes` models of the best average
    rank reach, which are evaluated for it; how near two are says Spearman's correlation. Datasets take turns in naming
    their next best model, a nearer one sooner. Raises PlanError when no model has such a proxy.
    """

    def __init__(self, problem: Problem, k: int = 10, probes: int = 10, proxy: str | None = None) -> None:
        self._arms = list(problem.arms)
        self._known = known_of_arms(problem)
        self._k = k
        numbers = {arm.model: number for number, arm in enumerate(self._arms)}
        probed = [numbers[arm.model] for arm in by_average_rank(problem)[:probes]] if proxy is None else []
        self._probed = {number: self._arms[number].final for number in probed}
        self._profile = self._probed if proxy is None else proxies_of(problem, proxy)
        self._profiles = self._known if proxy is None else of_arms(problem, problem.history.seen.get(proxy))
        super().__init__(self._profile.values())

    def _then(self) -> Batch:
        return Batch([*self._probed.values(), *(self._arms[number].final for number in self._of_the_nearest())])

    def _of_the_nearest(self) -> list[int]:
        """The best models of the datasets, the nearer sooner, that are not evaluated yet."""
        import numpy as np

        here = np.array([self._told[each.fingerprint].utility for each in self._profile.values()])
        near = [_correlation(column[list(self._profile)], here) for column in self._profiles.T]
        chosen: dict[int, None] = {}
        # The n-th best of a dataset stands behind those of datasets that are n times as far.
        turns = []
        for column, nearness in zip(self._known.T, near, strict=True):
            best = [n for n in np.argsort(-column, kind="stable").tolist() if not np.isnan(column[n])]
            turns += [((place + 1) * (1.0 - nearness + 1e-6), place, number) for place, number in enumerate(best)]
        for _, _, number in sorted(turns):
            if number not in self._probed:
                chosen[number] = None
            if len(chosen) == self._k:
                break
        return list(chosen)


def _correlation(there: np.ndarray, here: np.ndarray) -> float:
    """Spearman's, of those that are known; 0 where they are too few or all alike."""
    import numpy as np

    known = ~np.isnan(there) & np.isfinite(here)
    if known.sum() < 3:
        return 0.0
    one, other = ranks_among_known(there[known]), ranks_among_known(here[known])
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
