"""Auto: one probabilistic model of everything known, which buys what promises most for its price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from shiftql.strategies.base import Answer, Offer, Problem, Ranked
from shiftql.strategies.known import of_arms
from storage.evaluations import Evaluation, Measurement

if TYPE_CHECKING:
    from shiftql.strategies.auto_confidence import Confidence
    from shiftql.strategies.auto_model import AutoModel


class Auto:
    """Buys evaluations of any kind by expected improvement over their price, until none is worth it.

    It ends when what it bought was predicted to cost `share` of evaluating every model fully, or when nothing within
    that is expected to gain `gain`, relative to the best accuracy so far, for every per cent of that cost. The most
    promising model is then trained to its end. See shiftql.strategies.auto_model.
    """

    def __init__(self, problem: Problem, share: float = 0.06, gain: float = 0.0002) -> None:
        self._arms = list(problem.arms)
        # What can be bought: the rungs in their order, then what nothing goes on from.
        self._kinds = [offer.kind for offer in self._arms[0].rungs] if self._arms else []
        self._num_rungs = len(self._kinds)
        for offer in (offer for arm in self._arms for offer in arm.hints):
            if offer.kind not in self._kinds:
                self._kinds.append(offer.kind)
        self._offers: dict[tuple[int, int], Offer] = {
            (number, self._kinds.index(offer.kind)): offer
            for number, arm in enumerate(self._arms)
            for offer in (*arm.rungs, *arm.hints)
        }
        self._places = {offer.evaluation.fingerprint: place for place, offer in self._offers.items()}
        self._gain = gain
        self._left = share * sum(offer.seconds for arm in self._arms for offer in arm.rungs)
        self._model = self._made(problem) if self._arms else None
        self._asked: set[tuple[int, int]] = set()
        self._told: dict[tuple[int, int], Measurement] = {}
        # The model that is trained to its end before all is over.
        self._ending: int | None = None

    def ask(self, count: int) -> Sequence[Evaluation]:
        wanted: list[Evaluation] = []
        while len(wanted) < count and (place := self._next()) is not None:
            self._left -= self._offers[place].seconds
            self._asked.add(place)
            wanted.append(self._offers[place].evaluation)
        return wanted

    def tell(self, results: Mapping[str, Measurement]) -> None:
        for fingerprint, measurement in results.items():
            place = self._places.get(fingerprint)
            if place is not None and place not in self._told:
                self._told[place] = measurement
                assert self._model is not None
                if measurement.status == "completed":
                    self._model.tell(*place, measurement.utility)
                elif place[1] < self._num_rungs:
                    # A proxy that is not defined says nothing against the model.
                    self._model.tell(*place, None)

    def answer(self) -> Answer:
        """Models that were evaluated fully come first, by what they showed; then those begun, and then all others.

        These are by their predicted accuracy, which is told of each, with a 90 % interval. Nothing is ranked before
        anything is known, nor what failed.
        """
        import numpy as np

        if not self._told or self._model is None:
            return Answer(())
        begun = self._begun()
        last = self._num_rungs - 1
        finished = [number for number in begun if (number, last) in self._told]
        # A full validation says more of two models than their prediction does.
        finished.sort(key=lambda number: (-self._told[number, last].utility, self._arms[number].model.name))
        means, _ = self._model.predict()
        failed = self._failed()
        others = np.argsort(-means, kind="stable").tolist()
        ranking = [each for each in dict.fromkeys([*finished, *begun, *others]) if each not in failed]
        low, high = self._confidence.interval(self._model)
        models = (
            Ranked(self._arms[number].model, float(means[number]), float(low[number]), float(high[number]))
            for number in ranking
        )
        return Answer(tuple(models), self._confidence.chance(self._model, ranking[0]))

    @cached_property
    def _confidence(self) -> Confidence:
        from shiftql.strategies.auto_confidence import Confidence

        assert self._model is not None
        return Confidence.of(self._model)

    def _next(self) -> tuple[int, int] | None:
        """What to buy next; in the end, what is left to train of the model that is best by then."""
        if self._model is None:
            return None
        pending = {number for number, _ in self._asked - self._told.keys()}
        best = next(iter(self._begun()), None)
        if self._ending is None:
            reserve = 0.0 if best is None else sum(self._offers[best, rung].seconds for rung in self._rungs_left(best))
            offered = [place for place in self._offers if place[0] not in pending and self._is_offered(place)]
            found = self._model.next(offered, self._left - reserve, self._gain)
            if found is not None or pending:
                return found
            self._ending = best
        if self._ending is None or self._ending in pending or not self._rungs_left(self._ending):
            return None
        return self._ending, self._rungs_left(self._ending)[0]

    def _begun(self) -> list[int]:
        """The models of which some rung is known, the best by predicted accuracy first."""
        begun = {number for number, kind in self._told if kind < self._num_rungs} - self._failed()
        if not begun or self._model is None:
            return []
        means, _ = self._model.predict()
        return sorted(begun, key=lambda number: (-means[number], self._arms[number].model.name))

    def _failed(self) -> set[int]:
        """The models that could not be trained."""
        return {
            number
            for (number, kind), result in self._told.items()
            if kind < self._num_rungs and result.status != "completed"
        }

    def _rungs_left(self, number: int) -> range:
        """The rungs of a model beyond the highest that is known."""
        known = [kind for kind in range(self._num_rungs) if (number, kind) in self._told]
        return range(max(known, default=-1) + 1, self._num_rungs)

    def _is_offered(self, place: tuple[int, int]) -> bool:
        """Whether it is unknown, goes on from what is known, and could tell something."""
        number, kind = place
        left = self._rungs_left(number)
        return place not in self._told and len(left) > 0 and (kind >= self._num_rungs or kind == left[0])

    def _made(self, problem: Problem) -> AutoModel:
        import numpy as np

        from shiftql.strategies.auto_model import AutoModel, Kind

        history = problem.history
        costs = np.full((len(self._arms), len(self._kinds)), np.inf)
        for place, offer in self._offers.items():
            costs[place] = offer.seconds
        kinds = [
            Kind(of_arms(problem, history.seen.get(kind)), costs[:, number], full=number < self._num_rungs)
            for number, kind in enumerate(self._kinds)
        ]
        names = [arm.model.name for arm in self._arms]
        return AutoModel(names, problem.target, of_arms(problem, history.tested), history.datasets, kinds)
