"""Auto: one probabilistic model of everything known, which buys what promises most for its price."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from shiftql.strategies.auto_race import AutoRace, race_within
from shiftql.strategies.base import Answer, Offer, Problem, Ranked
from shiftql.strategies.known import is_little_known, of_arms
from storage.evaluations import Evaluation, Measurement

if TYPE_CHECKING:
    from shiftql.strategies.auto_confidence import Confidence
    from shiftql.strategies.auto_model import AutoModel


# What may be spent at least, in full evaluations of the average price.
_LEAST_EVALUATIONS = 2
# Where so little is known all models are looked at first, if that and training one takes no more than such a share.
_LOOK = 0.5
# A race tells more of a target than other datasets do: where these are known it may take so many times the share.
_RACE = 2.0


class Auto:
    """Buys evaluations of any kind by expected improvement over their price, until none is worth it.

    It ends when what it bought was predicted to cost `share` of evaluating every model fully (two models, if that is
    more; `budget` seconds in place of either, if they are given), or when nothing within that is expected to gain
    `gain`, relative to the best accuracy so far, for every per cent of the cost of all. The most promising model is
    then trained to its end. See shiftql.strategies.auto_model. Where all models can be looked at on few rows it begins
    with a race, which is paid for at least; see shiftql.strategies.auto_race. Where other datasets are known, that is
    if it takes no more than twice the share.
    """

    def __init__(
        self, problem: Problem, share: float = 0.06, gain: float = 0.0002, budget: float | None = None
    ) -> None:
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
        self._share, self._gain, self._seconds = share, gain, budget
        self._is_validation = _is_validation(problem)
        self._is_new = is_little_known([arm.model.name for arm in self._arms], problem.history)
        self._model = self._made(problem) if self._arms else None
        self._asked: set[tuple[int, int]] = set()
        self._told: dict[tuple[int, int], Measurement] = {}
        # Of a glance: whose, which of them, at what price. Those asked for, and what was told of them.
        self._glances = {
            offer.evaluation.fingerprint: (number, rung, offer)
            for number, arm in enumerate(self._arms)
            for rung, offer in enumerate(arm.glances)
        }
        self._glancing: set[str] = set()
        self._glanced: dict[str, Measurement] = {}
        self._by_glances, self._by_hints = self._races(problem.eta)

    def ask(self, count: int) -> Sequence[Evaluation]:
        race = self._race
        wanted = [] if race is None else list(race.ask(count))
        for each in wanted:
            if each.fingerprint in self._glances:
                self._glancing.add(each.fingerprint)
            else:
                self._asked.add(self._places[each.fingerprint])
        while len(wanted) < count and (place := self._next()) is not None:
            self._asked.add(place)
            wanted.append(self._offers[place].evaluation)
        return wanted

    def tell(self, results: Mapping[str, Measurement]) -> None:
        for race in (self._by_glances, self._by_hints):
            if race is not None:
                race.tell(results)
        self._tell_glances({each: told for each, told in results.items() if each in self._glances})
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

    def _tell_glances(self, results: Mapping[str, Measurement]) -> None:
        """Of each model what it showed on the most rows is taken for its hint."""
        self._glanced |= results
        for fingerprint, measurement in sorted(results.items(), key=lambda told: self._glances[told[0]][1]):
            number, rung, _ = self._glances[fingerprint]
            arm = self._arms[number]
            place = self._places[arm.hints[0].evaluation.fingerprint]
            later = (offer.evaluation.fingerprint in self._glanced for offer in arm.glances[rung + 1 :])
            if measurement.status == "completed" and place not in self._told and not any(later):
                assert self._model is not None
                self._model.tell(*place, measurement.utility)

    def answer(self) -> Answer:
        """Models that were evaluated fully come first, by what they showed; then those begun, and then all others.

        These are by their predicted accuracy, which is told of each, with a 90 % interval. Where a full evaluation
        shows what counts itself, all models are by that or by what they are predicted to reach, but who won the race is
        before all that were not trained to the end. Nothing is ranked before anything is known, nor what failed.
        """
        ranking = self._ranking()
        if not ranking or self._model is None:
            return Answer(())
        means, _ = self._model.predict()
        low, high = self._confidence.interval(self._model)
        models = (
            Ranked(self._arms[number].model, float(means[number]), float(low[number]), float(high[number]))
            for number in ranking
        )
        return Answer(tuple(models), self._confidence.chance(self._model, ranking[0]))

    def _ranking(self) -> list[int]:
        """The numbers of the models in the order that it answers with."""
        import numpy as np

        if not (self._told or self._glanced) or self._model is None:
            return []
        begun = self._begun()
        last = self._num_rungs - 1
        finished = [number for number in begun if (number, last) in self._told]
        means, _ = self._model.predict()
        # What a validation showed is noisy, and so is what was made of it: their mean is better than either.
        weight = float(self._is_validation)
        shown = {number: self._told[number, last].utility + weight * means[number] for number in finished}
        finished.sort(key=lambda number: (-shown[number], self._arms[number].model.name))
        failed = self._failed()
        others = np.argsort(-means, kind="stable").tolist()
        if self._is_validation:
            others = [*begun, *others]
        ranking = [each for each in dict.fromkeys([*finished, *others]) if each not in failed]
        if not self._is_validation and self._race is None:
            ranking.sort(key=lambda number: -shown.get(number, means[number]))
        return ranking

    @cached_property
    def _confidence(self) -> Confidence:
        from shiftql.strategies.auto_confidence import Confidence

        assert self._model is not None
        return Confidence.of(self._model)

    def _next(self) -> tuple[int, int] | None:
        """What to buy next; in the end, what is left to train of the model that is best by then.

        It depends on nothing but what is known and under way, so that who begins anew goes on alike.
        """
        if self._model is None:
            return None
        pending, race = self._asked - self._told.keys(), self._race
        if race is not None and (pending or self._glancing - self._glanced.keys()):
            return None
        busy = {number for number, _ in pending}
        begun, levels = self._begun(), self._levels()
        left = self._left(levels)
        first = self._first(begun)
        reserve = 0.0 if first is None else self._price_to_end(first, levels)
        offered = [place for place in self._offers if place[0] not in busy and self._is_offered(place)]
        if race is not None:
            promising = race.promising
            offered = [place for place in offered if place[1] < self._num_rungs and place[0] in promising]
        if self._is_new and not begun and race is None:
            # Who knows nothing looks at all before it buys any.
            looks = [place for place in offered if place[1] >= self._num_rungs]
            if looks and sum(self._offers[place].seconds * levels[place[1]] for place in looks) <= _LOOK * left:
                return looks[0]
            if any(kind >= self._num_rungs for _, kind in pending):
                return None
        model = self._model.believing(pending)
        found = model.next(offered, left - reserve, self._gain, levels)
        if found is not None or pending:
            return found
        if first is not None and first not in begun:
            # What is recommended is trained, unless that is too dear.
            return (first, 0) if reserve <= left else None
        has_finished = any(not self._rungs_left(number) for number in begun)
        for number in begun:
            if not self._rungs_left(number):
                return None
            if not has_finished or self._price_to_end(number, levels) <= left:
                return number, self._rungs_left(number)[0]
        return None

    def _first(self, begun: Sequence[int]) -> int | None:
        """The model that it would recommend, if it knows of any."""
        ranking = begun if self._is_validation else self._ranking()
        return ranking[0] if ranking else None

    def _levels(self) -> list[float]:
        """By kind how many times the predicted price is paid, as far as is known: one level of rungs, one of hints."""
        logs: tuple[list[float], list[float]] = [], []
        for is_hint, offer, result in self._purchases():
            if result is not None and result.status == "completed" and result.cost_seconds > 0 and offer.seconds > 0:
                logs[is_hint].append(math.log(result.cost_seconds / offer.seconds))
        both = [*logs[0], *logs[1]]
        typical = math.fsum(both) / max(len(both), 1)
        rungs, hints = (math.exp(math.fsum([typical, *each]) / (len(each) + 1)) for each in logs)
        return [rungs if kind < self._num_rungs else hints for kind in range(len(self._kinds))]

    def _purchases(self) -> Iterator[tuple[bool, Offer, Measurement | None]]:
        """What was asked for or told, whether it is a hint, and what came of it; the same in the same order."""
        for place in sorted(self._asked | self._told.keys()):
            yield place[1] >= self._num_rungs, self._offers[place], self._told.get(place)
        for fingerprint in sorted(self._glancing | self._glanced.keys(), key=lambda each: self._glances[each][:2]):
            yield True, self._glances[fingerprint][2], self._glanced.get(fingerprint)

    @property
    def budget(self) -> float:
        """The predicted seconds that may be spent in all."""
        return self._budget([1.0] * len(self._kinds)) if self._arms else 0.0

    def _budget(self, levels: Sequence[float]) -> float:
        """However small the pool is, a look at it and one full evaluation of the average price are in it."""
        if self._seconds is not None:
            return self._seconds
        total = sum(offer.seconds * levels[kind] for (_, kind), offer in self._offers.items() if kind < self._num_rungs)
        average = total / len(self._arms)
        if self._race is not None:
            return max(self._share * total, self._race.price(levels[-1], levels[0]))
        look = 0.0
        if self._is_new:
            look = sum(offer.seconds * levels[-1] for is_hint, offer, _ in self._purchases() if is_hint)
        return max(self._share * total, _LEAST_EVALUATIONS * average, look + average)

    def _races(self, eta: int) -> tuple[AutoRace | None, AutoRace | None]:
        """The race in which models are looked at on few rows, and the one in which their hints are known."""
        full = sum(offer.seconds for (_, kind), offer in self._offers.items() if kind < self._num_rungs)
        share = _LOOK if self._is_new else _RACE * self._share
        most = min(share * full, math.inf if self._seconds is None else self._seconds)
        by_glances = race_within(self._arms, [arm.glances for arm in self._arms], most, eta)
        if not self._is_new:
            return by_glances, None
        return by_glances, race_within(self._arms, [arm.hints[:1] for arm in self._arms], most, eta)

    @property
    def _race(self) -> AutoRace | None:
        """The race that models are chosen by, if any: it began, all hints are known, or nothing is."""
        if self._glanced:
            return self._by_glances
        hints = [offer.evaluation.fingerprint for arm in self._arms for offer in arm.hints[:1]]
        if self._is_new and hints and all(self._places[each] in self._told for each in hints):
            return self._by_hints
        return None if self._begun() else self._by_glances

    def _left(self, levels: Sequence[float]) -> float:
        """What may still be spent of the share, by what purchases were predicted to cost or did, if that is more.

        Who told a result has paid for it as if it had been asked for.
        """
        predicted, paid = [], []
        for is_hint, offer, result in self._purchases():
            predicted.append(offer.seconds * (levels[-1] if is_hint else levels[0]))
            paid.append((result.cost_seconds if result is not None else 0.0) or predicted[-1])
        return self._budget(levels) - max(math.fsum(predicted), math.fsum(paid))

    def _price_to_end(self, number: int, levels: Sequence[float]) -> float:
        return sum(self._offers[number, rung].seconds * levels[rung] for rung in self._rungs_left(number))

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


def _is_validation(problem: Problem) -> bool:
    """Whether full evaluations tell something else than models are tested by, as far as the history says."""
    import numpy as np

    history = problem.history
    seen = history.seen.get(problem.kind or "")
    return seen is not None and not np.array_equal(seen, history.tested, equal_nan=True)
