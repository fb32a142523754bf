"""Two-phase model selection: coarse recall, then fine selection (arXiv 2404.00069)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from shiftql.strategies.base import Answer, Arm, Problem
from shiftql.strategies.clusters import COMPARED, THRESHOLD, Clusters, Mode, cluster, recall
from shiftql.strategies.known import known_of_arms
from shiftql.strategies.staged import Staged
from shiftql.strategies.successive_halving import Halving, halved_rungs

if TYPE_CHECKING:
    import numpy as np


class TwoPhase(Staged):
    """Recalls the `k` most promising models, and trains on, rung by rung, those that may still become the best.

    Models that are no farther apart than `threshold` elsewhere are one cluster. The `proxy` is asked of every model
    that has it (`mode` own) or of the clusters' representatives alone (representative); where nobody has it, averages
    decide. A model is dropped once another validates better and, as runs that looked like theirs at this rung ended
    elsewhere (one of `trends` kinds), will end better by more than `tolerance`, relative; at least half are dropped.
    """

    def __init__(
        self,
        problem: Problem,
        k: int = 10,
        threshold: float = THRESHOLD,
        mode: str = "representative",
        proxy: str = "leep",
        trends: int = 3,
        tolerance: float = 0.1,
    ) -> None:
        self._arms = list(problem.arms)
        self._known = known_of_arms(problem)
        self._clusters = _clusters_of(self._known, threshold)
        self._mode: Mode = "own" if mode == "own" else "representative"
        self._k = k
        asked = range(len(self._arms)) if self._mode == "own" else self._clusters.representatives
        self._proxies = {
            number: offer.evaluation for number in asked for offer in self._arms[number].hints if offer.kind == proxy
        }
        self._trends = Trends(problem, trends)
        self._tolerance = tolerance
        super().__init__(self._proxies.values())

    def _then(self) -> Halving:
        return _FineSelection(self._recalled(), self._trends, self._tolerance)

    def answer(self) -> Answer:
        """Nothing before some model is trained: LEEP alone ranks nobody."""
        return Answer(()) if self._second is None else self._second.answer()

    def _recalled(self) -> list[Arm]:
        """The models to train, most promising first."""
        import numpy as np

        measured = [self._leep(number) for number in range(len(self._arms))]
        scores = recall(self._known, self._clusters, measured, self._mode)
        return [self._arms[number] for number in np.argsort(-scores, kind="stable")[: self._k]]

    def _leep(self, number: int) -> float:
        proxy = self._proxies.get(number)
        if proxy is None:
            return 0.0
        measured = self._told[proxy.fingerprint]
        return measured.utility if measured.status == "completed" else float("-inf")


def _clusters_of(known: np.ndarray, threshold: float) -> Clusters:
    """The clusters of accuracies (models, datasets); those of many models are remembered, which take long to find."""
    if len(known) <= COMPARED:
        return cluster(known, threshold)
    return _large_clusters(known.tobytes(), known.shape, threshold)


# A live question makes its strategy anew after each round, about the same models and history.
@lru_cache(maxsize=1)
def _large_clusters(known: bytes, shape: tuple[int, int], threshold: float) -> Clusters:
    import numpy as np

    return cluster(np.frombuffer(known).reshape(shape), threshold)


class _FineSelection(Halving):
    """Halving that also drops whom another leaves behind for good."""

    def __init__(self, arms: Sequence[Arm], trends: Trends, tolerance: float) -> None:
        self._trends = trends
        self._tolerance = tolerance
        super().__init__(*halved_rungs(arms, 2))

    def _drop_the_worse(self) -> None:
        number = len(self.rounds) - 1
        super()._drop_the_worse()
        ends = []
        for arm in self._in_race:
            seen = self._results[arm[number].fingerprint].utility
            ends.append((seen, self._trends.end(arm[number].model.name, number, seen)))
        self._in_race = [
            arm
            for arm, (seen, end) in zip(self._in_race, ends, strict=True)
            if not any(other > seen and final - end > self._tolerance * abs(final) for other, final in ends)
        ]


class Trends:
    """How runs of each model went on elsewhere, grouped by how alike they were."""

    def __init__(self, problem: Problem, groups: int) -> None:
        history = problem.history
        self._groups = groups
        self._kinds = [offer.kind for offer in problem.arms[0].rungs] if problem.arms else []
        self._rows = {name: row for row, name in enumerate(history.models)}
        self._seen = [history.seen.get(kind) for kind in self._kinds]
        self._reached = history.reached

    def end(self, model: str, rung: int, seen: float) -> float:
        """What a run of a model that shows `seen` at a rung will reach: what the trend nearest to it there reached.

        What it shows now, where nothing is known of the model.
        """
        trends = self._of(model)
        return min(((abs(curve[rung] - seen), reached) for curve, reached in trends), default=(0.0, seen))[1]

    def _of(self, model: str) -> list[tuple[np.ndarray, float]]:
        """The mean curve and end of each group of a model's runs elsewhere."""
        import numpy as np
        from scipy.cluster.hierarchy import fcluster, linkage

        row = self._rows.get(model)
        if row is None or any(seen is None for seen in self._seen):
            return []
        curves = np.stack([seen[row] for seen in self._seen if seen is not None], axis=1)
        known = ~np.isnan(curves).any(axis=1) & ~np.isnan(self._reached[row])
        curves, reached = curves[known], self._reached[row][known]
        if len(curves) < 2:
            return [(curve, float(end)) for curve, end in zip(curves, reached, strict=True)]
        labels = fcluster(linkage(curves, "average"), self._groups, "maxclust")
        return [(curves[labels == label].mean(axis=0), float(reached[labels == label].mean())) for label in set(labels)]
