"""How far Auto's predictions can be trusted: its own runs on datasets of the history say by how much they miss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from shiftql.strategies.auto_model import AutoModel, Kind

# Of some models at several moments of a run their errors, and the deviations that were predicted.
_Run = list[tuple[np.ndarray, np.ndarray]]
# Runs are replayed on so many datasets, of so many models, and looked at after so many evaluations.
_DATASETS, _MODELS, _STEPS = 10, 200, (2, 4, 8, 16)
_LEAST_CELLS, _LEAST_DATASETS = 10, 3
# Of an interval of 90 %.
_NORMAL = 1.645
_TAIL = 0.05
# The share of a normal distribution within one deviation.
_WITHIN_ONE = 0.68
# Where too little is known to replay anything, intervals are so many times as wide, and odds lower.
_UNPROVEN, _UNPROVEN_ODDS = 1.5, -1.0
# Of the prior: so many runs that the normal distribution describes.
_PRIOR_RUNS = 3
# By how much predicted deviations may be widened, in typical errors.
_WIDER_BY = (0.0, 0.5, 1.0, 2.0)
_DRAWS, _RIVALS = 400, 120
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Bounds:
    """Where 5 % and 95 % of true accuracies lie, in predicted deviations plus `floor`.

    Where few or equal values make the model far too sure of itself, the floor keeps intervals from closing.
    """

    low: float
    high: float
    floor: float = 0.0

    def around(self, mean: np.ndarray, deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return mean + self.low * (deviation + self.floor), mean + self.high * (deviation + self.floor)


@dataclass(frozen=True)
class Confidence:
    """Bounds for models that were not evaluated and for those that were; how far off chances are, in log odds."""

    untried: Bounds
    tried: Bounds
    shift: float

    @classmethod
    def of(cls, model: AutoModel) -> Confidence:
        """Replay runs on datasets of a model's history, always the same."""
        random = np.random.default_rng(0)
        known = np.isfinite(model.reached)
        usable = np.flatnonzero(known.sum(axis=0) >= _LEAST_CELLS)
        if len(usable) < _LEAST_DATASETS:
            usual = Bounds(-_UNPROVEN * _NORMAL, _UNPROVEN * _NORMAL)
            return cls(usual, usual, _UNPROVEN_ODDS)
        untried, tried, odds, hits = [], [], [], []
        for dataset in np.sort(random.permutation(usable)[:_DATASETS]).tolist():
            rows = np.flatnonzero(known[:, dataset])
            if len(rows) > _MODELS:
                rows = np.sort(random.choice(rows, _MODELS, replace=False))
            *found, chance, is_hit = _replayed(model, dataset, rows)
            untried.append(found[0])
            tried.append(found[1])
            odds.append(np.log(chance / (1 - chance)))
            hits.append(is_hit)
        return cls(_narrowest(untried), _narrowest(tried), _shift(np.array(odds), np.array(hits, dtype=float)))

    def interval(self, model: AutoModel) -> tuple[np.ndarray, np.ndarray]:
        """The ends of a 90 % interval of every model's final accuracy."""
        mean, deviation = model.predict()
        low, high = self.untried.around(mean, deviation)
        tried = model.evaluated_by(_telling(model))
        low[tried], high[tried] = self.tried.around(mean[tried], deviation[tried])
        known = model.reached[np.isfinite(model.reached)]
        if not len(known) or (known.min() >= 0 and known.max() <= 1):
            low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
        return low, high

    def chance(self, model: AutoModel, pick: int) -> float:
        """The probability that a pick is within 1 % of the best of all models."""
        chance = _chance(model, pick)
        return float(1 / (1 + (1 - chance) / chance * np.exp(-self.shift)))


def _telling(model: AutoModel) -> int:
    """The kind of full evaluation that tells most of the final accuracy."""
    return int(np.argmax([model.correlation(kind) if each.full else -1.0 for kind, each in enumerate(model.kinds)]))


def _narrowest(errors: Sequence[_Run]) -> Bounds:
    """The bounds whose intervals are narrowest on average, of those that cover what they should; a run per dataset."""
    runs = [run for each in errors for run in each]
    typical = float(np.median([np.quantile(np.abs(error), _WITHIN_ONE) for error, _ in runs]))
    # Fewer datasets are surer to miss something, and the target is one more (Student's prediction interval).
    tail = _TAIL * (1 - 1.5 / np.sqrt(max(len(errors), 4)))
    found = []
    for floor in (times * typical for times in _WIDER_BY):
        # All runs count alike, however many models they are about.
        relative = [
            np.quantile(error / (deviation + floor), np.linspace(0.005, 0.995, 100)) for error, deviation in runs
        ]
        quantiles = np.quantile(np.concatenate(relative), [tail, 1 - tail])
        low, high = (len(runs) * quantiles + _PRIOR_RUNS * np.array([-_NORMAL, _NORMAL])) / (len(runs) + _PRIOR_RUNS)
        width = (high - low) * (floor + np.mean([deviation.mean() for _, deviation in runs]))
        found.append((float(width), float(low), float(high), floor))
    _, low, high, floor = min(found)
    wider = float(stdtrit(len(errors) - 1, 1 - _TAIL)) / _NORMAL * np.sqrt(1 + 1 / len(errors))
    return Bounds(float(wider * low), float(wider * high), floor)


def _replayed(model: AutoModel, dataset: int, rows: np.ndarray) -> tuple[_Run, _Run, float, bool]:
    """A run on one dataset of the history: about untried and tried models, and its chance and luck in the end."""
    # The kind that tells most of the final accuracy stands for all.
    number = _telling(model)
    seen = model.kinds[number].history
    others = np.setdiff1d(np.arange(model.reached.shape[1]), dataset)
    part = np.ix_(rows, others)
    run = AutoModel(
        [model.models[row] for row in rows.tolist()],
        model.datasets[dataset],
        model.reached[part],
        [model.datasets[other] for other in others.tolist()],
        [Kind(seen[part], model.cost[rows, number], full=True)],
    )
    truth = model.reached[rows, dataset]
    values = np.where(np.isfinite(seen[rows, dataset]), seen[rows, dataset], truth)
    last = min(max(_STEPS), len(rows) // 3)
    untried, tried, left = _Run(), _Run(), set(range(len(rows)))
    for step in range(1, last + 1):
        place = run.next([(row, 0) for row in left], np.inf, 0.0)
        if place is None:
            break
        left.remove(place[0])
        run.tell(*place, float(values[place[0]]))
        if step in _STEPS or step == last:
            mean, deviation = run.predict()
            for errors, which in ((untried, sorted(left)), (tried, run.evaluated())):
                errors.append(((truth - mean)[which], deviation[which]))
    mean, _ = run.predict()
    done = run.evaluated()
    pick = done[int(np.argmax(mean[done]))]
    return untried, tried, _chance(run, pick), bool(truth[pick] >= truth.max() - _TOLERANCE * abs(truth.max()))


def _chance(model: AutoModel, pick: int) -> float:
    """By joint draws of the pick and its likeliest rivals, never quite 0 or 1."""
    mean, deviation = model.predict()
    rivals = np.argsort(-(mean + 1.5 * deviation))[:_RIVALS]
    drawn = model.draw(np.append(rivals[rivals != pick], pick), _DRAWS)
    best = drawn.max(axis=1)
    hits = int((drawn[:, -1] >= best - _TOLERANCE * np.abs(best)).sum())
    return (hits + 0.5) / (_DRAWS + 1)


def _shift(odds: np.ndarray, hits: np.ndarray) -> float:
    """What added to the stated log odds makes as many hits as there were likely, drawn towards nothing."""
    shifts = np.linspace(-4, 4, 81)
    expected = (1 / (1 + np.exp(-odds - shifts[:, None]))).sum(axis=1)
    misfit = (expected - hits.sum()) ** 2 / (0.2 * len(odds) + 0.1) + (shifts / 2) ** 2
    return float(shifts[int(np.argmin(misfit))])
