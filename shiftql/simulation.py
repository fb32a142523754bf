"""What finding a model costs on some devices: all on all rows, in rounds of either kind, or by fine-tuning every one.

Devices take evaluations in order, each the next as soon as it is free. Between rounds they wait for the slowest, and
the last rounds have fewer models than there are devices: what dropping models saves in work it may lose idly. The
rounds are those that a question is planned in, and bookkeeping is what the cost model expects of it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TypeAlias

from shiftql.cost import ROUND_SECONDS, UNMEASURED, CostModel
from shiftql.strategies.successive_halving import RowRace, Schedule, least_budget, row_race, schedule
from storage.errors import PlanError

# Who goes on is not known beforehand: rounds are simulated with models dropped in so many orders.
_ORDERS = 20
# An evaluation, and the parts of both splits that it embeds.
_TASKS = 3
# Numbers of rows that are tried for a break-even, and how many stand in a decade.
_MOST_ROWS = 1_000_000
_A_DECADE = 20


@dataclass(frozen=True)
class ModelCosts:
    """Seconds of a model: to `load` it, and of each row to infer features, to fit the proxy on a training row, to
    score it on a test row, and to train the model on a row once."""

    load: float
    inference: float
    fit: float
    proxy: float
    training: float


@dataclass(frozen=True)
class System:
    """How evaluations are executed: seconds of a `run` as such, on top of each evaluation by itself and of each in a
    round, and `between` two rounds.

    With `apart` training and test rows go through a model one after the other, which is loaded for each again.
    """

    run: float = 0.0
    overhead: float = 0.0
    round_overhead: float = 0.0
    between: float = 0.0
    apart: bool = False


IDEAL = System()
# As in its published cost model (arXiv 2204.01457), whose proxy costs are of test rows.
PUBLISHED = System(overhead=1.5, round_overhead=0.8, apart=True)


def ours(costs: CostModel = UNMEASURED) -> System:
    """As SHiFT executes, with the bookkeeping that a cost model expects."""
    run = costs.bookkeeping(0)
    each = costs.bookkeeping(_TASKS) - run
    return System(run, each, each, ROUND_SECONDS)


@dataclass(frozen=True)
class Setting:
    """What is asked: rows to train and to test on, of how many classes, for the best so many, and on which devices."""

    train_rows: int
    test_rows: int
    devices: int = 1
    system: System = IDEAL
    classes: int = 0
    limit: int | None = None


@dataclass(frozen=True)
class Phase:
    """What all devices do before any goes on: how many models on how many training and test rows, and how long.

    `busy` are the seconds of all devices together in which they work.
    """

    models: int
    rows: int
    tested: int
    seconds: float
    busy: float


@dataclass(frozen=True)
class Simulated:
    """One execution, phase by phase, with what it takes `beside` these, in which devices wait."""

    phases: tuple[Phase, ...]
    devices: int
    beside: float

    @property
    def seconds(self) -> float:
        return self.beside + sum(phase.seconds for phase in self.phases)

    @property
    def idle(self) -> float:
        """The share of the devices' time in which they wait."""
        available = self.seconds * self.devices
        return 1 - sum(phase.busy for phase in self.phases) / available if available else 0.0


@dataclass(frozen=True)
class Expected:
    """Execution in rounds, whichever models go on: what it takes on average, at least and at most.

    `phases` are those of the first order of models that was tried.
    """

    seconds: float
    low: float
    high: float
    idle: float
    phases: tuple[Phase, ...]


# The rounds of so many models, where there are any in which some are spared something.
Rounds: TypeAlias = Callable[[int, Setting], RowRace | None]


def published_rounds(models: int, setting: Setting, chunk: int | None = None, budget: int | None = None) -> Schedule:
    """Those of a question with a chunk or a budget; None is the smallest by which the last models see all rows.

    Raises PlanError where the budget is too small for so many models.
    """
    least = least_budget(models)
    if budget is not None and budget < least:
        raise PlanError(
            f"{models} models cannot be halved with {budget} pulls: each gets one in every round",
            subject=str(budget),
            fix=f"a budget of {least} or more",
        )
    return schedule(models, setting.train_rows, chunk, budget)


def halved(chunk: int | None = None, budget: int | None = None) -> Rounds:
    """Published successive halving, which tests on all rows in every round."""
    return lambda models, setting: published_rounds(models, setting, chunk, budget).race(setting.test_rows)


def raced(models: int, setting: Setting) -> RowRace | None:
    """The optimizer's race (CHUNK AUTO), which shares out the test rows as well."""
    return row_race(models, setting.train_rows, setting.test_rows, setting.classes, setting.limit)


def simulate_plain(models: Sequence[ModelCosts], setting: Setting) -> Simulated:
    """Every model is evaluated by the proxy on all rows."""
    system = setting.system
    rows = setting.train_rows + setting.test_rows
    jobs = [
        system.overhead + (1 + system.apart) * each.load + each.inference * rows + _scoring(each, *_all_rows(setting))
        for each in models
    ]
    return Simulated((_phase(jobs, *_all_rows(setting), setting.devices),), setting.devices, system.run)


def simulate_finetuning(models: Sequence[ModelCosts], setting: Setting, epochs: int) -> Simulated:
    """Every model is fine-tuned on the training rows and tested on the others."""
    jobs = [
        each.load + each.training * setting.train_rows * epochs + each.inference * setting.test_rows for each in models
    ]
    return Simulated((_phase(jobs, *_all_rows(setting), setting.devices),), setting.devices, setting.system.run)


def simulate_rounds(best_first: Sequence[ModelCosts], rounds: RowRace, setting: Setting) -> Simulated:
    """Models are shown more rows from round to round, and the first of them go on.

    In each a model is loaded, infers the rows that it has not seen, and the proxy is fitted and tested on all that it
    has.
    """
    system, devices = setting.system, setting.devices
    phases, seen, tested_on = [], 0, 0
    if system.apart:
        tested_on = rounds.tested[-1]
        phases.append(_phase([each.load + each.inference * tested_on for each in best_first], 0, tested_on, devices))
    for size, rows, tested in zip(rounds.arms, rounds.rows, rounds.tested, strict=True):
        new = rows - seen + max(0, tested - tested_on)
        jobs = [
            system.round_overhead + each.load + each.inference * new + _scoring(each, rows, tested)
            for each in best_first[:size]
        ]
        phases.append(_phase(jobs, rows, tested, devices))
        seen, tested_on = rows, max(tested_on, tested)
    return Simulated(tuple(phases), devices, system.run + system.between * (len(rounds.arms) - 1))


def expected(models: Sequence[ModelCosts], rounds: RowRace, setting: Setting, orders: int = _ORDERS) -> Expected:
    """Execution on average over orders in which models are dropped; one is enough where they cost the same."""
    chance = random.Random(0)
    order = list(models)
    tried = []
    for _ in range(orders if len(set(models)) > 1 else 1):
        chance.shuffle(order)
        tried.append(simulate_rounds(order, rounds, setting))
    seconds = [each.seconds for each in tried]
    return Expected(fmean(seconds), min(seconds), max(seconds), fmean(each.idle for each in tried), tried[0].phases)


def gain(models: Sequence[ModelCosts], setting: Setting, rounds: Rounds, orders: int = 1) -> float:
    """How many times faster than plain execution that in rounds is; 1 where there are no rounds."""
    found = rounds(len(models), setting)
    seconds = 0.0 if found is None else expected(models, found, setting, orders).seconds
    # Nothing costs anything: neither is faster.
    return simulate_plain(models, setting).seconds / seconds if seconds else 1.0


def break_even(models: Sequence[ModelCosts], setting: Setting, rounds: Rounds) -> int | None:
    """From how many training rows on rounds are faster, to within an eighth; None where they are not at a million."""
    faster = None
    for rows in reversed(row_grid(_MOST_ROWS)):
        if gain(models, replace(setting, train_rows=rows), rounds, _ORDERS) <= 1:
            return faster
        faster = rows
    return faster


def row_grid(most: int, least: int = 10) -> list[int]:
    """Numbers of rows in about equal ratios.

    >>> len(row_grid(1_000_000)), row_grid(100)[:3], row_grid(100)[-1]
    (101, [10, 11, 13], 100)
    """
    decades = range(_A_DECADE + 1)
    steps = {round(least * 10 ** (step / _A_DECADE + decade)) for decade in range(len(str(most))) for step in decades}
    return sorted(step for step in steps if step <= most)


def pool_of(models: Sequence[ModelCosts], size: int) -> list[ModelCosts]:
    """A pool of another size, of the same models in turn."""
    return [models[number % len(models)] for number in range(size)]


def _all_rows(setting: Setting) -> tuple[int, int]:
    return setting.train_rows, setting.test_rows


def _scoring(model: ModelCosts, rows: int, tested: int) -> float:
    return model.fit * rows + model.proxy * tested


def _phase(jobs: Sequence[float], rows: int, tested: int, devices: int) -> Phase:
    """Devices take jobs in their order, each the next as soon as it is free."""
    free = [0.0] * min(devices, len(jobs))
    for seconds in jobs:
        heapq.heapreplace(free, free[0] + seconds)
    return Phase(len(jobs), rows, tested, max(free, default=0.0), sum(jobs))
