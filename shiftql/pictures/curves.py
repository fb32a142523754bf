"""Regret against cost: what would be picked for so much, and how far it is from the best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shiftql.replaying import Outcome

# Costs at which curves are drawn; a cost and the next differ by about a fiftieth.
_STEPS = 300


@dataclass(frozen=True, eq=False)
class Curve:
    """The regrets of a strategy's picks at rising costs, on average over targets; shares, as in Outcome.

    `regrets` and their standard errors over targets are (n,) for (n,) `costs`, from the first pick for any target to
    the largest cost of any. Where there is no pick yet the regret is 1; from `certain_from` on there is one for every
    target. Errors of a single target are NaN. `picks` are the models, where one target was replayed once. `cost` and
    `regret` are where the strategy ended.
    """

    strategy: str
    costs: np.ndarray
    regrets: np.ndarray
    errors: np.ndarray
    picks: tuple[str, ...] | None
    certain_from: float
    cost: float
    regret: float
    cost_error: float
    regret_error: float


def costs_of(outcomes: Iterable[Outcome]) -> np.ndarray:
    """Costs (n,) from the cheapest pick in any outcome to the dearest, in equal ratios; (0,) where nothing was paid."""
    costs = [cost for outcome in outcomes for cost, _ in outcome.path if cost > 0]
    return np.geomspace(min(costs), max(costs), _STEPS) if costs else np.zeros(0)


def last_picks(path: Sequence[tuple[float, float]], costs: np.ndarray) -> np.ndarray:
    """Of a path of (cost, regret), the number of the last pick that could be had at each of (n,) costs; -1 of none."""
    paid = np.array([cost for cost, _ in path])
    by_cost = np.argsort(paid, kind="stable")
    latest = np.concatenate([[-1], np.maximum.accumulate(by_cost)]).astype(int)
    return latest[np.searchsorted(paid[by_cost], costs, side="right")]


def mean_curve(strategy: str, targets: Sequence[Sequence[Outcome]], costs: np.ndarray) -> Curve:
    """The mean over targets, of each of which the mean over its outcomes (one for every seed) counts once.

    It is told at those of `costs` that are within it, and at its last.
    """
    paths = [outcome.path for outcomes in targets for outcome in outcomes]
    firsts = [min((cost for cost, _ in path), default=np.inf) for path in paths]
    last = max((cost for path in paths for cost, _ in path), default=-np.inf)
    costs = np.concatenate([costs[(costs >= min(firsts)) & (costs < last)], [last] if any(paths) else []])
    regrets = np.array([np.mean([_regrets(outcome, costs) for outcome in outcomes], axis=0) for outcomes in targets])
    ends = np.array([np.mean([_end(outcome) for outcome in outcomes], axis=0) for outcomes in targets])
    cost, regret = ends.mean(axis=0).tolist()
    cost_error, regret_error = standard_error(ends).tolist()
    only = targets[0][0] if len(targets) == len(targets[0]) == 1 else None
    picks = None if only is None else tuple(only.picks[number] for number in last_picks(only.path, costs))
    return Curve(
        strategy,
        costs,
        regrets.mean(axis=0),
        standard_error(regrets),
        picks,
        max(firsts),
        cost,
        regret,
        cost_error,
        regret_error,
    )


def standard_error(values: np.ndarray) -> np.ndarray:
    """Of the mean of (m, n) values over their first axis, (n,); NaN where m is 1."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def _regrets(outcome: Outcome, costs: np.ndarray) -> np.ndarray:
    """The regret of the pick at each of (n,) costs; 1 where there is none yet."""
    return np.array([*(regret for _, regret in outcome.path), 1.0])[last_picks(outcome.path, costs)]


def _end(outcome: Outcome) -> tuple[float, float]:
    return outcome.cost_fraction, outcome.final_regret
