"""How far Auto's predictions can be trusted: its own runs on datasets of the history say by how much they miss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from shiftql.strategies.auto_model import AutoModel, Kind

# Runs are replayed on so many datasets, of so many models, and looked at after so many evaluations.
_DATASETS, _MODELS, _STEPS = 10, 200, (2, 4, 8, 16)
_LEAST_CELLS, _LEAST_DATASETS = 10, 3
# Of an interval of 90 %.
_NORMAL = 1.645
_TAIL = 0.05
# Where too little is known to replay anything, intervals are so many times as wide, and odds lower.
_UNPROVEN, _UNPROVEN_ODDS = 1.5, -1.0
# Of the prior: so many runs that the normal distribution describes.
_PRIOR_RUNS = 3
_DRAWS, _RIVALS = 400, 120
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Confidence:
    """Where 5 % and 95 % of true accuracies lie, in predicted deviations; how far off chances are, in log odds."""

    low: float
    high: float
    shift: float

    @classmethod
    def of(cls, model: AutoModel) -> Confidence:
        """Replay runs on datasets of a model's history, always the same."""
        random = np.random.default_rng(0)
        known = np.isfinite(model.reached)
        usable = np.flatnonzero(known.sum(axis=0) >= _LEAST_CELLS)
        if len(usable) < _LEAST_DATASETS:
            return cls(-_UNPROVEN * _NORMAL, _UNPROVEN * _NORMAL, _UNPROVEN_ODDS)
        errors, odds, hits = [], [], []
        for dataset in np.sort(random.permutation(usable)[:_DATASETS]).tolist():
            rows = np.flatnonzero(known[:, dataset])
            if len(rows) > _MODELS:
                rows = np.sort(random.choice(rows, _MODELS, replace=False))
            found, chance, is_hit = _replayed(model, dataset, rows)
            errors.append(found)
            odds.append(np.log(chance / (1 - chance)))
            hits.append(is_hit)
        # Fewer datasets are surer to miss something, and the target is one more (Student's prediction interval).
        tail = _TAIL * (1 - 1.5 / np.sqrt(max(len(odds), 4)))
        runs = sum(len(each) for each in errors)
        quantiles = np.quantile(np.concatenate([np.concatenate(each) for each in errors]), [tail, 1 - tail])
        low, high = (runs * quantiles + _PRIOR_RUNS * np.array([-_NORMAL, _NORMAL])) / (runs + _PRIOR_RUNS)
        wider = float(stdtrit(len(odds) - 1, 1 - _TAIL)) / _NORMAL * np.sqrt(1 + 1 / len(odds))
        return cls(wider * float(low), wider * float(high), _shift(np.array(odds), np.array(hits, dtype=float)))

    def interval(self, model: AutoModel) -> tuple[np.ndarray, np.ndarray]:
        """The ends of a 90 % interval of every model's final accuracy."""
        mean, deviation = model.predict()
        low, high = mean + self.low * deviation, mean + self.high * deviation
        known = model.reached[np.isfinite(model.reached)]
        if not len(known) or (known.min() >= 0 and known.max() <= 1):
            low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
        return low, high

    def chance(self, model: AutoModel, pick: int) -> float:
        """The probability that a pick is within 1 % of the best of all models."""
        chance = _chance(model, pick)
        return float(1 / (1 + (1 - chance) / chance * np.exp(-self.shift)))


def _replayed(model: AutoModel, dataset: int, rows: np.ndarray) -> tuple[list[np.ndarray], float, bool]:
    """A run on one dataset of the history: errors in predicted deviations, and its chance and luck in the end."""
    # The kind that tells most of the final accuracy stands for all.
    number = int(np.argmax([model.correlation(kind) if each.full else -1.0 for kind, each in enumerate(model.kinds)]))
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
    errors, left = [], set(range(len(rows)))
    for step in range(1, last + 1):
        place = run.next([(row, 0) for row in left], np.inf, 0.0)
        if place is None:
            break
        left.remove(place[0])
        run.tell(*place, float(values[place[0]]))
        if step in _STEPS or step == last:
            mean, deviation = run.predict()
            unknown = sorted(left)
            errors.append(np.quantile(((truth - mean) / deviation)[unknown], np.linspace(0.005, 0.995, 100)))
    mean, _ = run.predict()
    done = run.evaluated()
    pick = done[int(np.argmax(mean[done]))]
    return errors, _chance(run, pick), bool(truth[pick] >= truth.max() - _TOLERANCE * abs(truth.max()))


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
