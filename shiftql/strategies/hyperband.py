"""Hyperband: brackets of successive halving, from many models trained a little to few trained fully.

Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar, JMLR 18 (2018), arXiv 1603.06560.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice

from shiftql.strategies.base import Answer, Problem, Ranked
from shiftql.strategies.successive_halving import Halving, sizes_of
from storage.evaluations import Evaluation, Measurement, Subject


class Hyperband:
    """Runs brackets one after the other, on models drawn without replacement; `seed` says in which order.

    With R rungs there are s + 1 = ⌊log_eta R⌋ + 1 brackets. That of number i begins with ⌈(s + 1) / (i + 1) · eta^i⌉
    models at rung R / eta^i, and takes the better ⌈1/eta⌉ of them to eta times that rung. `repeats` goes through the
    brackets so often; where models run out, what is left of a bracket is run.
    """

    def __init__(self, problem: Problem, eta: int = 2, repeats: int = 1, seed: int = 0) -> None:
        import numpy as np

        drawn = np.random.default_rng(seed).permutation(len(problem.arms)).tolist()
        arms = iter([problem.arms[number] for number in drawn])
        self._brackets = [
            Halving(
                [[arm.rungs[rung].evaluation for rung in rungs] for arm in some], sizes_of(len(some), len(rungs), eta)
            )
            for _ in range(repeats)
            for size, rungs in (_brackets(len(problem.arms[0].rungs), eta) if problem.arms else [])
            if (some := list(islice(arms, size)))
        ]
        self._finals = {arm.final.fingerprint for arm in problem.arms}
        self._told: dict[str, Measurement] = {}

    def ask(self, count: int) -> Sequence[Evaluation]:
        wanted: list[Evaluation] = []
        for bracket in self._brackets:
            wanted += bracket.ask(count - len(wanted))
            if len(wanted) == count:
                break
        return wanted

    def tell(self, results: Mapping[str, Measurement]) -> None:
        self._told |= results
        for bracket in self._brackets:
            bracket.tell(results)

    def answer(self) -> Answer:
        """Models that got to the last rung come first, whichever bracket they are of."""
        ranked: dict[Subject, tuple[bool, Ranked]] = {}
        for bracket in self._brackets:
            finished = {
                evaluation.model
                for evaluations in bracket.rounds
                for evaluation in evaluations
                if evaluation.fingerprint in self._finals and evaluation.fingerprint in self._told
            }
            for each in bracket.answer().ranking:
                ranked[each.model] = each.model in finished, each
        in_turn = sorted(ranked.values(), key=lambda pair: (not pair[0], -pair[1].utility, pair[1].model.name))
        return Answer(tuple(each for _, each in in_turn))


def _brackets(rungs: int, eta: int) -> list[tuple[int, list[int]]]:
    """How many models each bracket begins with, and at which rungs they are compared.

    >>> _brackets(9, 3)
    [(9, [0, 2, 8]), (5, [2, 8]), (3, [8])]
    """
    last = 0
    while eta ** (last + 1) <= rungs:
        last += 1
    return [
        (
            math.ceil((last + 1) / (number + 1) * eta**number),
            sorted({max(1, rungs // eta**step) - 1 for step in range(number + 1)}),
        )
        for number in range(last, -1, -1)
    ]
