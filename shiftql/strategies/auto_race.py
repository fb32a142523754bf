"""The race that Auto begins with where it can pay for that: all are looked at, the best tried, one is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shiftql.strategies.base import Arm, Offer
from shiftql.strategies.successive_halving import Halving, sizes_of

# After the looks so many at most are trained to the first rung, and one beyond.
_MOST_TRIED = 3
# One of so many did better than most.
_PROMISING = 4


class AutoRace(Halving):
    """Looks at every arm, from look to look at one of `eta`, and then trains the best to their rungs."""

    def __init__(self, arms: Sequence[Arm], looks: Sequence[Sequence[Offer]], tried: int, eta: int) -> None:
        self._offers = [(*some, *arm.rungs) for arm, some in zip(arms, looks, strict=True)]
        self._looks = len(looks[0])
        sizes = sizes_of(len(arms), self._looks, eta, tried)
        sizes += [min(tried, sizes[-1]), *[1] * (len(arms[0].rungs) - 1)]
        super().__init__([[offer.evaluation for offer in offers] for offers in self._offers], sizes)

    def price(self, of_looks: float = 1.0, of_rungs: float = 1.0) -> float:
        """The seconds it takes if models of the average price go on; the factors are of what was predicted."""
        seconds = 0.0
        for number, (size, offers) in enumerate(zip(self._sizes, zip(*self._offers, strict=True), strict=True)):
            level = of_looks if number < self._looks else of_rungs
            seconds += size * level * math.fsum(offer.seconds for offer in offers) / len(offers)
        return seconds

    @property
    def promising(self) -> set[int]:
        """The numbers of the arms that did better than most so far."""
        numbers = {arm[0].evaluation.model: number for number, arm in enumerate(self._offers)}
        best = self.answer().ranking[: max(_MOST_TRIED, -(-len(self._offers) // _PROMISING))]
        return {numbers[ranked.model] for ranked in best}


def race_within(arms: Sequence[Arm], looks: Sequence[Sequence[Offer]], most: float, eta: int) -> AutoRace | None:
    """The race with the most models tried that takes no more than so many seconds.

    None where none can be paid for, or some arm cannot be looked at.
    """
    if not arms or not all(looks):
        return None
    # Without rungs who is tried is trained to its end.
    for tried in range(_MOST_TRIED if len(arms[0].rungs) > 1 else 1, 0, -1):
        race = AutoRace(arms, looks, tried, eta)
        if race.price() <= most:
            return race
    return None
