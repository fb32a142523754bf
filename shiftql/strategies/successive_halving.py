"""Successive halving: every arm gets a little of a resource (rows, epochs), and only the better ones more of it.

Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, arXiv 1502.07943.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from shiftql.strategies.base import Answer, Arm, Problem, Ranked, rank
from shiftql.strategies.best_average import by_average_rank
from storage.errors import PlanError
from storage.evaluations import Evaluation, Measurement, Subject

# From round to round the rows grow at least and at most by these factors: opening models again for fewer is not worth
# it, and of more the first round would say too little.
_LEAST_GROWTH, _MOST_GROWTH = 1.5, 16
# Fewer rows, or rows of each class, hardly tell models apart.
_LEAST_ROWS, _LEAST_ROWS_PER_CLASS = 64, 5
# Of an arm that is scored on all rows alone nobody knows what others would have reached there.
_LEAST_FINALISTS = 2
# By fewer test rows (with a standard error of 3 points at most) nobody is dropped.
_LEAST_TESTED = 256


@dataclass(frozen=True)
class Schedule:
    """Rounds of halving: how many `arms` each has, and how many training `rows` these have seen at its end.

    A pull shows an arm `chunk` more rows. With M arms there are ⌈log2 M⌉ rounds at most, which divide `budget` pulls
    evenly: in a round of L arms each has ⌊budget / (L · ⌈log2 M⌉)⌋ of them, and the better ⌈L/2⌉ go on. The round in
    which the arms have seen all rows is the last.
    """

    chunk: int
    budget: int
    arms: tuple[int, ...]
    rows: tuple[int, ...]

    def race(self, test_rows: int) -> RowRace:
        """The same rounds, in each of which all test rows are looked at."""
        return RowRace(self.arms, self.rows, (test_rows,) * len(self.arms))


def schedule(arms: int, train_rows: int, chunk: int | None, budget: int | None) -> Schedule:
    """The rounds for that many arms and training rows, with at least `least_budget(arms)` pulls.

    A chunk or budget of None is the smallest by which the last arm sees all rows.
    """
    sizes = _sizes(arms)
    least = least_budget(arms)

    def pulls(budget: int) -> list[int]:
        """Of an arm that goes all the way, by the end of each round."""
        return list(accumulate(budget // (size * len(sizes)) for size in sizes))

    if budget is None:
        wanted = -(-train_rows // (chunk or train_rows))
        budget = least + bisect_left(range(least, least * wanted), wanted, key=lambda tried: pulls(tried)[-1])
    if chunk is None:
        chunk = -(-train_rows // pulls(budget)[-1])
    rows = [min(train_rows, chunk * number) for number in pulls(budget)]
    last = bisect_left(rows, train_rows) + 1
    return Schedule(chunk, budget, tuple(sizes[:last]), tuple(rows[:last]))


@dataclass(frozen=True)
class RowRace:
    """Rounds of halving: how many `arms` each has, and on how many training `rows` and `tested` ones these are scored.

    Of L arms ⌈L / eta⌉ go on, but not fewer than the last round has.
    """

    arms: tuple[int, ...]
    rows: tuple[int, ...]
    tested: tuple[int, ...]
    eta: int = 2


def row_race(arms: int, train_rows: int, test_rows: int, classes: int, limit: int | None = None) -> RowRace | None:
    """The race that has the last few arms scored on all rows, and all others on as few as tell them apart.

    The last are as many as are asked for by a `limit`, at least two.

    The training rows of a round are a constant multiple of those of the one before, and in the first as many as that
    many `classes` need (0 of what has none). Test rows are the same share of all as the training rows, where these are
    not too few. None where no arm would be spared anything.
    """
    finalists = max(_LEAST_FINALISTS, limit or 0)
    least_rows = max(_LEAST_ROWS, _LEAST_ROWS_PER_CLASS * classes)
    for eta in (4, 3, 2):
        sizes = _sizes(arms, eta, finalists)
        least = max(least_rows, -(-train_rows // _MOST_GROWTH ** (len(sizes) - 1)))
        # Who drops most of the arms at once has to know enough of them.
        if least == least_rows:
            break
    if least >= train_rows:
        return None
    sizes = sizes[: 1 + int(math.log(train_rows / least, _LEAST_GROWTH))]
    if len(sizes) == 1:
        return None
    growth = (train_rows / least) ** (1 / (len(sizes) - 1))
    rows = [*(round(least * growth**number) for number in range(len(sizes) - 1)), train_rows]
    tested = [min(test_rows, max(_LEAST_TESTED, -(-test_rows * seen // train_rows))) for seen in rows]
    return RowRace(tuple(sizes), tuple(rows), tuple(tested), eta)


def least_budget(arms: int) -> int:
    """The pulls that give every arm one in every round, as if none were dropped."""
    return max(1, arms) * len(_sizes(arms))


def sizes_of(arms: int, rounds: int, eta: int, finalists: int = 1) -> list[int]:
    """How many arms each of so many rounds has, of which ⌈1 / eta⌉ go on, but not fewer than `finalists`.

    >>> sizes_of(31, 4, 4), sizes_of(31, 4, 4, 2)
    ([31, 8, 2, 1], [31, 8, 2, 2])
    """
    sizes = [arms]
    while len(sizes) < rounds:
        sizes.append(_next_size(sizes[-1], eta, finalists))
    return sizes


def halved_rungs(arms: Sequence[Arm], eta: int) -> tuple[list[list[Evaluation]], list[int]]:
    """The rungs of arms, as Halving takes them, and how many arms each rung has where ⌈1 / eta⌉ go on."""
    rungs = [[offer.evaluation for offer in arm.rungs] for arm in arms]
    return rungs, sizes_of(len(arms), len(rungs[0]) if rungs else 0, eta)


def _sizes(arms: int, eta: int = 2, finalists: int = 2) -> list[int]:
    """How many arms each round has until there are the finalists."""
    sizes = [max(1, arms)]
    while sizes[-1] > finalists:
        sizes.append(_next_size(sizes[-1], eta, finalists))
    return sizes


def _next_size(arms: int, eta: int, finalists: int) -> int:
    return min(arms, max(finalists, -(-arms // eta)))


class Halving:
    """Asks for every arm's evaluation of a round, then for those of the best arms in the next.

    `arms` are the evaluations of each arm, round by round, and `sizes` how many arms each round has at most. Arms that
    fail are out; equal scores go on in the order of the models' names.
    """

    def __init__(self, arms: Sequence[Sequence[Evaluation]], sizes: Sequence[int]) -> None:
        self._in_race = [list(arm) for arm in arms]
        self._sizes = sizes
        self._results: dict[str, Measurement] = {}
        self._asked: set[str] = set()
        # The evaluations of each round, the present one last.
        self.rounds: list[list[Evaluation]] = []
        self._begin_round()

    def ask(self, count: int) -> Sequence[Evaluation]:
        wanted = [each for each in self._pending() if each.fingerprint not in self._asked][:count]
        self._asked |= {evaluation.fingerprint for evaluation in wanted}
        return wanted

    def tell(self, results: Mapping[str, Measurement]) -> None:
        self._results |= results
        while self.rounds[-1] and not self._pending() and len(self.rounds) < len(self._in_race[0]):
            self._drop_the_worse()
            self._begin_round()

    def answer(self) -> Answer:
        """Models that got farther come first."""
        ranking: dict[Subject, Ranked] = {}
        for each in reversed(self.rounds):
            for ranked in rank(each, self._results):
                ranking.setdefault(ranked.model, ranked)
        return Answer(tuple(ranking.values()))

    def _pending(self) -> list[Evaluation]:
        return [each for each in self.rounds[-1] if each.fingerprint not in self._results]

    def _begin_round(self) -> None:
        self.rounds.append([arm[len(self.rounds)] for arm in self._in_race])

    def _drop_the_worse(self) -> None:
        number = len(self.rounds) - 1

        def place(arm: Sequence[Evaluation]) -> tuple[float, str]:
            return -self._results[arm[number].fingerprint].utility, arm[number].model.name

        running = [arm for arm in self._in_race if self._results[arm[number].fingerprint].status == "completed"]
        self._in_race = sorted(running, key=place)[: self._sizes[number + 1]]


class SuccessiveHalving(Halving):
    """Trains all models, or the `k` of the best average rank elsewhere, to the first rung, and ⌈1/eta⌉ of them on.

    Raises PlanError where there is one rung: nobody can be dropped before all is spent.
    """

    def __init__(self, problem: Problem, eta: int = 2, k: int | None = None) -> None:
        if problem.arms and len(problem.arms[0].rungs) == 1:
            raise PlanError(
                "SuccessiveHalving drops models from rung to rung, and these evaluations have one",
                subject="SuccessiveHalving",
                fix="replay a table with a column epoch, or write Enumerate",
            )
        arms = problem.arms if k is None else by_average_rank(problem)[:k]
        super().__init__(*halved_rungs(arms, eta))
