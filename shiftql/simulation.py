"""What finding a model costs on some devices: all on all rows, in halving rounds, or by fine-tuning every one.

Devices take evaluations in order, each the next as soon as it is free. Between rounds of halving they wait for the
slowest, and the last rounds have fewer models than there are devices: what halving saves in work it may lose idly.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from shiftql.strategies.successive_halving import Schedule, least_budget, schedule
from storage.errors import PlanError

# Who goes on is not known beforehand: halving is simulated with models dropped in so many orders.
_ORDERS = 20
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
    """How evaluations are executed: seconds on top of each by itself, and of each in a round of halving.

    With `apart` training and test rows go through a model one after the other, which is loaded for each again.
    """

    overhead: float = 0.0
    round_overhead: float = 0.0
    apart: bool = False


IDEAL = System()
# Claims, task runs and records; as much as shiftql.cost has for an evaluation and for both splits that it embeds.
OURS = System(overhead=0.15, round_overhead=0.15)
# As in its published cost model (arXiv 2204.01457), whose proxy costs are of test rows.
PUBLISHED = System(overhead=1.5, round_overhead=0.8, apart=True)


@dataclass(frozen=True)
class Setting:
    """What is asked: rows to train and to test on, the devices there are, and how they work."""

    train_rows: int
    test_rows: int
    devices: int = 1
    system: System = IDEAL


@dataclass(frozen=True)
class Phase:
    """What all devices do before any goes on: how many models on how many training rows, and how long that takes.

    `busy` are the seconds of all devices together in which they work.
    """

    models: int
    rows: int
    seconds: float
    busy: float


@dataclass(frozen=True)
class Simulated:
    """One execution, phase by phase."""

    phases: tuple[Phase, ...]
    devices: int

    @property
    def seconds(self) -> float:
        return sum(phase.seconds for phase in self.phases)

    @property
    def idle(self) -> float:
        """The share of the devices' time in which they wait."""
        available = self.seconds * self.devices
        return 1 - sum(phase.busy for phase in self.phases) / available if available else 0.0


@dataclass(frozen=True)
class Expected:
    """Halved execution, whichever models go on: its `schedule`, what it takes on average, at least and at most.

    `phases` are those of the first order of models that was tried.
    """

    schedule: Schedule
    seconds: float
    low: float
    high: float
    idle: float
    phases: tuple[Phase, ...]


def simulate_plain(models: Sequence[ModelCosts], setting: Setting) -> Simulated:
    """Every model is evaluated by the proxy on all rows."""
    system = setting.system
    rows = setting.train_rows + setting.test_rows
    jobs = [
        system.overhead + (1 + system.apart) * each.load + each.inference * rows + _scoring(each, setting)
        for each in models
    ]
    return Simulated((_phase(jobs, setting.train_rows, setting.devices),), setting.devices)


def simulate_finetuning(models: Sequence[ModelCosts], setting: Setting, epochs: int) -> Simulated:
    """Every model is fine-tuned on the training rows and tested on the others."""
    jobs = [
        each.load + each.training * setting.train_rows * epochs + each.inference * setting.test_rows for each in models
    ]
    return Simulated((_phase(jobs, setting.train_rows, setting.devices),), setting.devices)


def simulate_halved(best_first: Sequence[ModelCosts], rounds: Schedule, setting: Setting) -> Simulated:
    """Models are shown more rows from round to round, and the first of them go on.

    In each a model is loaded, infers the rows that it has not seen, and the proxy is fitted on all that it has.
    """
    system, test_rows = setting.system, setting.test_rows
    phases = []
    if system.apart:
        phases.append(_phase([each.load + each.inference * test_rows for each in best_first], 0, setting.devices))
    seen = 0 if system.apart else -test_rows
    for size, rows in zip(rounds.arms, rounds.rows, strict=True):
        jobs = [
            system.round_overhead
            + each.load
            + each.inference * (rows - seen)
            + each.fit * rows
            + each.proxy * test_rows
            for each in best_first[:size]
        ]
        phases.append(_phase(jobs, rows, setting.devices))
        seen = rows
    return Simulated(tuple(phases), setting.devices)


def expected_halving(
    models: Sequence[ModelCosts],
    setting: Setting,
    chunk: int | None = None,
    budget: int | None = None,
    orders: int = _ORDERS,
) -> Expected:
    """Halved execution on average over orders in which models are dropped; one is enough where they cost the same.

    A chunk or budget of None is the smallest by which the last models see all rows. Raises PlanError where the budget
    is too small for so many models.
    """
    least = least_budget(len(models))
    if budget is not None and budget < least:
        raise PlanError(
            f"{len(models)} models cannot be halved with {budget} pulls: each gets one in every round",
            subject=str(budget),
            fix=f"a budget of {least} or more",
        )
    rounds = schedule(len(models), setting.train_rows, chunk, budget)
    chance = random.Random(0)
    order = list(models)
    tried = []
    for _ in range(orders if len(set(models)) > 1 else 1):
        chance.shuffle(order)
        tried.append(simulate_halved(order, rounds, setting))
    seconds = [each.seconds for each in tried]
    idle = fmean(each.idle for each in tried)
    return Expected(rounds, fmean(seconds), min(seconds), max(seconds), idle, tried[0].phases)


def break_even(
    models: Sequence[ModelCosts], test_rows: int, devices: int, system: System = IDEAL, chunk: int | None = None
) -> int | None:
    """From how many training rows on halving is faster, to within an eighth; None where it is not at a million."""
    faster = None
    for rows in reversed(row_grid(_MOST_ROWS)):
        setting = Setting(rows, test_rows, devices, system)
        if expected_halving(models, setting, chunk).seconds >= simulate_plain(models, setting).seconds:
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


def _scoring(model: ModelCosts, setting: Setting) -> float:
    return model.fit * setting.train_rows + model.proxy * setting.test_rows


def _phase(jobs: Sequence[float], rows: int, devices: int) -> Phase:
    """Devices take jobs in their order, each the next as soon as it is free."""
    free = [0.0] * min(devices, len(jobs))
    for seconds in jobs:
        heapq.heapreplace(free, free[0] + seconds)
    return Phase(len(jobs), rows, max(free, default=0.0), sum(jobs))
