"""At which epochs fine-tuning is looked at, and how a race over these is fitted to a budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from storage.evaluations import Evaluation, Measurement


class EpochRace(NamedTuple):
    """Successive halving in which ⌈1 / eta⌉ of the models go on at each of the rungs but the last, in epochs."""

    rungs: tuple[int, ...]
    eta: int
    epochs: int


def rungs_of(epochs: int) -> tuple[int, ...]:
    """The epochs to which fine-tuning goes on at a time: each twice as far as the one before, up to all.

    >>> rungs_of(20)
    (1, 2, 3, 5, 10, 20)
    """
    rungs = [epochs]
    while rungs[-1] > 1:
        rungs.append(-(-rungs[-1] // 2))
    return tuple(reversed(rungs))


def fit_race(models: int, epochs: int, budget: float) -> EpochRace | None:
    """The race of so many models for the most epochs that a budget of epochs allows; None where it allows none.

    Of races of as many epochs the one that drops models later is taken.

    >>> fit_race(32, 20, 100)
    EpochRace(rungs=(1, 2, 3, 5, 10, 20), eta=2, epochs=84)
    """
    rungs = rungs_of(epochs)
    races = [
        EpochRace(rungs[first:], eta, _epochs_in(models, rungs[first:], eta))
        for first in range(len(rungs) - 1)
        for eta in range(2, max(3, models + 1))
    ]
    return max(
        (race for race in races if race.epochs <= budget), key=lambda race: (race.epochs, -race.eta), default=None
    )


def least_epochs(models: int, epochs: int) -> int:
    """The epochs of the shortest race: one of every model, and all of one."""
    return min(models + epochs - 1, models * epochs)


def went_through(rungs: Sequence[Evaluation], outcomes: Mapping[str, Measurement]) -> Iterator[tuple[str, Measurement]]:
    """What longer runs of a model, whose outcomes are known, showed at the rungs that nobody looked at."""
    longer: Measurement | None = None
    for evaluation in reversed(rungs):
        outcome = outcomes.get(evaluation.fingerprint)
        epochs = evaluation.fidelity.get("epochs", 0)
        if outcome is not None:
            longer = outcome if outcome.status == "completed" else None
        elif longer is not None and 0 < epochs <= len(longer.curve):
            shown = longer.curve[:epochs]
            best = max(shown) if longer.higher_is_better else min(shown)
            is_higher = longer.higher_is_better
            yield evaluation.fingerprint, Measurement("completed", 0.0, None, best, is_higher, curve=shown)


def _epochs_in(models: int, rungs: Sequence[int], eta: int) -> int:
    total, racing = 0, models
    for seen, rung in pairwise((0, *rungs)):
        total += racing * (rung - seen)
        racing = -(-racing // eta)
    return total
