"""One Gaussian-process mixture of the final accuracy of every model on a target, and what is worth buying next.

Each dataset of the history is standardised to z = (accuracy - median) / (95th percentile - median), under every kind of
evaluation by itself; on the target y = a + b z, with a and b unknown. z is a mixture of Gaussian processes: one around
every model's average z, with a covariance of models' profiles over the history and of their names, and one around the z
of every dataset ("the target is like that one"). Kinds of evaluation are correlated outputs of the same process, with
the correlations, offsets and ratios of scales that the history shows (co-kriging). What a purchase is worth is its
expected improvement on the best that was evaluated, over the root of its price.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006; Jones, Schonlau and Welch, 1998 (expected
improvement).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import ndtr

from shiftql.strategies.auto_inputs import LOWEST, Relations, Table, completed, name_overlap, name_vectors

# Prior weight of the process around averages beside those around single datasets, and how much evidence counts between
# them: cells of one dataset are less independent than the model says.
_GENERAL_WEIGHT, _TEMPER = 0.5, 0.25
# Variances, where 1 is that of a dataset's z: shared profile, near profiles, alike names, a model alone, alike prices.
_LINEAR, _NEAR, _NAME, _OWN, _SIZE = 1.0, 0.3, 0.3, 0.3, 0.1
_SIZE_WIDTH = 0.5
_NOISE = 0.3
# Variance around the z of a single dataset, as a share of what is no shared profile.
_AROUND_DATASET = 0.36
# What it brings that a model's name contains the dataset's: prior mean and deviations of the pool's mean slope, of the
# slopes of datasets and of single models.
_MATCH_MEAN, _MATCH_SPREAD, _MATCH_BETWEEN, _MATCH_OWN = 1.5, 1.0, 0.8, 1.0
# So few datasets say little of a model's profile.
_FEW_DATASETS = 4.0
# The variance of a, in squared units of b: flat.
_FLAT = 100.0
_SCALES = 25
_COST_POWER = 0.5
# A kind whose ratio of scales is so uncertain is fitted as soon as there are three of it.
_UNCERTAIN_RATIO, _RATIO_STEPS = 0.3, (-2, -1, 0, 1, 2)
_PASSES = 4
# An answer is had soon for no more than this share of what may be spent.
_SOON = 0.2


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of evaluation that can be bought: what was seen of it elsewhere, (models, datasets), and predicted prices.

    A model of which a `full` one is known counts as evaluated.
    """

    history: np.ndarray
    cost: np.ndarray
    full: bool


class AutoModel:
    """`reached` (models, datasets) is the final accuracy elsewhere, NaN where unknown; no price is infinite."""

    def __init__(
        self, models: Sequence[str], target: str, reached: np.ndarray, datasets: Sequence[str], kinds: Sequence[Kind]
    ) -> None:
        self.models, self.datasets, self.reached, self.kinds = list(models), list(datasets), reached, list(kinds)
        tables = [Table.of(reached), *(Table.of(kind.history) for kind in kinds)]
        known = np.asarray(np.array([np.isfinite(table.scale) for table in tables]).any(axis=0))
        tables = [table.take(known) for table in tables]
        self._relations = Relations.of(tables)
        self._num_datasets = int(known.sum())
        self.cost = _filled(np.stack([kind.cost for kind in kinds], axis=1))
        scarcity = 1 / (1 + (self._num_datasets / _FEW_DATASETS) ** 4)
        self._own, self._name = _OWN + scarcity, _NAME + scarcity
        self._general_weight = 1 - (1 - _GENERAL_WEIGHT) * (1 - scarcity) if self._num_datasets else 1.0
        zs = [table.z for table in tables]
        final = completed(zs[0])
        average = np.nansum(final, axis=1) / (np.isfinite(final).sum(axis=1) + 1.0 + 3 * scarcity)
        self._means = self._prior_means([final, *zs[1:]], average)
        self._set_kernels(zs, final, average)
        self._set_match(
            target, [name for name, is_known in zip(datasets, known, strict=True) if is_known], zs[0], average
        )
        self._columns: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._told: dict[tuple[int, int], float] = {}
        self._failed: set[int] = set()
        self._fitted: _Posterior | None = None

    def tell(self, model: int, kind: int, value: float | None) -> None:
        """What an evaluation brought; None says that it failed, and nothing more of the model is worth buying."""
        if value is None or not np.isfinite(value):
            self._failed.add(model)
        else:
            self._told[model, kind] = value
        self._fitted = None

    def believing(self, pending: Iterable[tuple[int, int]]) -> AutoModel:
        """The same as if what is under way had brought what is expected of it (kriging believer)."""
        believed = copy(self)
        mean, posterior, relations = self.predict()[0], self.posterior, self._relations
        believed._told = dict(self._told)
        for model, kind in pending:
            z = (mean[model] - posterior.offset) / posterior.scale
            seen = relations.shift[kind + 1] + np.exp(relations.log_ratio[kind + 1]) * z
            believed._told[model, kind] = float(posterior.offset + posterior.scale * seen)
        believed._fitted = None if believed._told != self._told else self._fitted
        return believed

    @property
    def _places(self) -> list[tuple[int, int]]:
        return sorted(self._told)

    @property
    def _values(self) -> list[float]:
        return [self._told[place] for place in self._places]

    def predict(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean and the standard deviation of every model's final accuracy."""
        posterior = self.posterior
        mean = posterior.weights @ posterior.means
        return mean, np.sqrt(posterior.weights @ (posterior.variances + (posterior.means - mean) ** 2))

    def evaluated(self) -> list[int]:
        """The models of which a full evaluation is known."""
        return sorted({model for model, kind in self._places if self.kinds[kind].full})

    def evaluated_by(self, kind: int) -> list[int]:
        """The models of which an evaluation of this kind is known."""
        return [model for model, each in self._places if each == kind]

    def next(
        self, offered: Iterable[tuple[int, int]], budget: float, gain: float, levels: Sequence[float] | None = None
    ) -> tuple[int, int] | None:
        """Of the offered (model, kind) the one worth most for its price; None where none is, or none can be paid.

        The budget is in units of the prices, which by kind are `levels` times what was predicted. A purchase is worth
        it while what it is expected to gain, relative, for every per cent of the price of all full evaluations is at
        least `gain`.
        """
        is_offered = np.zeros(self.cost.shape, dtype=bool)
        for place in offered:
            is_offered[place] = place[0] not in self._failed
        price = self.cost * (np.ones(len(self.kinds)) if levels is None else np.asarray(levels))
        is_full = np.array([kind.full for kind in self.kinds])
        worth, improvement = self._utilities(price)
        done = self.evaluated()
        if not done:
            # What is begun is trained to its end.
            in_full = price[:, is_full].sum(axis=1)
            is_offered[:, is_full] &= in_full[:, None] <= budget
            soon = is_offered[:, is_full] & (in_full <= _SOON * budget)[:, None]
            if not is_full.all() and self._num_datasets and soon.any():
                # Who knows of other datasets has an answer for little, before hints are asked.
                is_offered[:, ~is_full], is_offered[:, is_full], worth = False, soon, improvement / price
            else:
                # Enough is kept for one evaluation that counts.
                kept = in_full[int(np.argmax(self.predict()[0]))]
                is_offered[:, ~is_full] &= price[:, ~is_full] + kept <= budget
        is_offered &= price <= budget
        if not is_offered.any():
            return None
        if done:
            most = (improvement / price)[is_offered].max() * 0.01 * price[:, is_full].sum()
            if most < gain * abs(self.predict()[0][done].max()):
                return None
        best = int(np.argmax(np.where(is_offered, worth, -np.inf)))
        return best // len(self.kinds), best % len(self.kinds)

    def correlation(self, kind: int) -> float:
        """How much a kind of evaluation has in common with the final accuracy, 1 for all."""
        return float(self._relations.correlation[0, kind + 1])

    def draw(self, models: np.ndarray, draws: int) -> np.ndarray:
        """Joint draws of the final accuracies of some models, (draws, models), always the same."""
        posterior, random = self.posterior, np.random.default_rng(0)
        which = random.choice(len(posterior.weights), draws, p=posterior.weights)
        drawn = posterior.means[which][:, models]
        for is_general in (False, True):
            used = np.flatnonzero((which == self._num_datasets) == is_general)
            if not len(used):
                continue
            covariance = np.stack([self._kernel(model)[is_general][models] for model in models.tolist()], axis=1)
            if posterior.solved is not None:
                solved = posterior.solved[is_general][:, models]
                covariance = covariance + _FLAT - solved.T @ solved
            root = cholesky((covariance + covariance.T) / 2 + 1e-4 * np.eye(len(models)), lower=True)
            scale = np.sqrt(posterior.squared_scales[which[used]])[:, None]
            drawn[used] += scale * (random.standard_normal((len(used), len(models))) @ root.T)
        return drawn

    # --- what the history says ----------------------------------------------------------------------------------------

    def _prior_means(self, zs: Sequence[np.ndarray], average: np.ndarray) -> np.ndarray:
        """The z expected of every model by each component and kind, (datasets + 1, kinds + 1, models)."""
        means = np.zeros((self._num_datasets + 1, len(zs), len(average)))
        for kind, z in enumerate(zs):
            related = self._relations.correlation[0, kind]
            mean = related * average
            if kind:
                mean = (np.nansum(z, axis=1) + mean) / (np.isfinite(z).sum(axis=1) + 1.0)
            means[-1, kind] = mean
            for number, column in enumerate(z.T):
                beyond = zs[0][:, number] - average
                likely = np.where(np.isfinite(beyond), mean + 0.7 * related * beyond, mean) if kind else mean
                means[number, kind] = np.where(np.isfinite(column), column, likely)
        return means

    def _set_kernels(self, zs: Sequence[np.ndarray], final: np.ndarray, average: np.ndarray) -> None:
        profiles = zs[0]
        for z in (*zs[1:], final):
            profiles = np.where(np.isfinite(profiles), profiles, z)
        self._profiles = np.where(np.isfinite(profiles), profiles, average[:, None])
        self._centred = self._profiles - self._profiles.mean(axis=0)
        self._names = name_vectors(self.models)
        prices = np.log(self.cost[:, 0])
        self._sizes = prices - np.median(prices) if len(prices) else prices
        # Models that vary more elsewhere are expected to vary more here.
        residuals = (zs[0] - average[:, None]) ** 2
        counts = np.isfinite(residuals).sum(axis=1)
        typical = float(np.nanmean(residuals)) if np.isfinite(residuals).any() else 1.0
        self._spread = np.sqrt((np.nansum(residuals, axis=1) + 4 * typical) / (counts + 4) / max(typical, 1e-12))

    def _set_match(self, target: str, datasets: Sequence[str], z: np.ndarray, average: np.ndarray) -> None:
        """What it brings that a model's name contains the dataset's, learnt from the history over a weak prior."""
        overlaps = name_overlap(self.models, [*datasets, target])
        precision = 1 / _MATCH_SPREAD**2
        total = _MATCH_MEAN * precision
        for overlap, column in zip(overlaps.T, z.T, strict=False):
            used = (overlap > 0) & np.isfinite(column) & (column > LOWEST)
            if used.any():
                squares = overlap[used] @ overlap[used]
                weight = 1 / (_MATCH_OWN**2 / squares + _MATCH_BETWEEN**2)
                total += weight * (overlap[used] @ (column - average)[used]) / squares
                precision += weight
        self._match = overlaps[:, -1]
        self._match_variance = 1 / precision + _MATCH_BETWEEN**2
        self._means += total / precision * self._match * self._relations.correlation[0][:, None]

    def _kernel(self, model: int) -> tuple[np.ndarray, np.ndarray]:
        """The prior covariance of every model's z with that of one: around a dataset's z, and around the averages."""
        if model not in self._columns:
            datasets = max(self._num_datasets, 1)
            apart = ((self._profiles - self._profiles[model]) ** 2).sum(axis=1) / datasets
            rest = self._name * np.asarray((self._names @ self._names[model].T).todense()).ravel()
            if self._num_datasets:
                rest += _NEAR * np.exp(-apart / 2)
            rest += _SIZE * np.exp(-0.5 * ((self._sizes - self._sizes[model]) / _SIZE_WIDTH) ** 2)
            rest[model] += self._own
            rest *= self._spread * self._spread[model]
            match = self._match * self._match[model] * self._match_variance
            match[model] += (self._match[model] * _MATCH_OWN) ** 2
            shared = _LINEAR * (self._centred @ self._centred[model]) / datasets
            self._columns[model] = _AROUND_DATASET * rest + match, shared + rest + match
        return self._columns[model]

    def _variances(self) -> tuple[np.ndarray, np.ndarray]:
        """The diagonals of the same."""
        rest = ((_NEAR if self._num_datasets else 0) + self._name + self._own + _SIZE) * self._spread**2
        match = self._match**2 * (self._match_variance + _MATCH_OWN**2)
        shared = _LINEAR * (self._centred**2).sum(axis=1) / max(self._num_datasets, 1)
        return _AROUND_DATASET * rest + match, shared + rest + match

    # --- what was told ------------------------------------------------------------------------------------------------

    @property
    def posterior(self) -> _Posterior:
        if self._fitted is None:
            self._fitted = self._fit_all() if self._places else self._prior()
        return self._fitted

    def _weights(self) -> np.ndarray:
        around = np.full(self._num_datasets, (1 - self._general_weight) / max(self._num_datasets, 1))
        return np.append(around, self._general_weight)

    def _prior(self) -> _Posterior:
        around, general = self._variances()
        variances = np.stack([*[around] * self._num_datasets, general])
        ones = np.ones(len(variances))
        return _Posterior(
            self._weights(), self._means[:, 0], variances, ones, 0.0 * ones, self._means[:, 0], None, 0, 1, 0
        )

    def _fit_all(self) -> _Posterior:
        kinds = np.array([kind + 1 for _, kind in self._places])
        log_ratio, prior = self._relations.log_ratio.copy(), self._relations
        for kind in np.unique(kinds).tolist():
            spread = prior.log_ratio_spread[kind]
            if spread > _UNCERTAIN_RATIO and (kinds == kind).sum() >= 3:
                grid = prior.log_ratio[kind] + spread * np.array(_RATIO_STEPS)
                evidence = []
                for tried, step in zip(grid, _RATIO_STEPS, strict=True):
                    ratios = log_ratio.copy()
                    ratios[kind] = tried
                    evidence.append(self._fit(ratios, np.array(self._values)).evidence - _TEMPER * 0.5 * step**2)
                log_ratio[kind] = grid[int(np.argmax(evidence))]
        values = np.array(self._values)
        for _ in range(_PASSES):
            fitted = self._fit(log_ratio, values)
            # Of a run so bad only that is known.
            lowest = prior.shift[kinds] + np.exp(prior.log_ratio[kinds]) * LOWEST
            floored = np.maximum(np.array(self._values), fitted.offset + fitted.scale * lowest)
            if np.allclose(floored, values, atol=1e-4 * fitted.scale):
                break
            values = floored
        return fitted

    def _fit(self, log_ratio: np.ndarray, values: np.ndarray) -> _Posterior:
        relations = self._relations
        models = np.array([model for model, _ in self._places])
        kinds = np.array([kind + 1 for _, kind in self._places])
        ratio = np.exp(log_ratio)[kinds]
        unique, inverse = np.unique(models, return_inverse=True)
        columns = [self._kernel(model) for model in unique.tolist()]
        offsets = _FLAT + (kinds[:, None] == kinds) * relations.shift_spread[kinds][:, None] ** 2
        related = np.outer(ratio, ratio) * relations.correlation[np.ix_(kinds, kinds)]
        scales = np.exp(relations.log_scale + relations.log_scale_spread * np.linspace(-3, 3, _SCALES))
        log_prior = -0.5 * ((np.log(scales) - relations.log_scale) / relations.log_scale_spread)[:, None] ** 2
        weights, variances = self._weights(), self._variances()
        centre = values.mean()
        parts, solved = [], []
        for is_general in (False, True):
            components = [self._num_datasets] if is_general else list(range(self._num_datasets))
            full = np.stack([column[is_general] for column in columns], axis=1)
            covariance = full[unique][np.ix_(inverse, inverse)] * related + offsets + np.diag(_NOISE**2 * ratio**2)
            root = cholesky(covariance, lower=True, check_finite=False)
            across = full[:, inverse] * (ratio * relations.correlation[0, kinds]) + _FLAT
            onto = solve_triangular(root, across.T, lower=True, check_finite=False)
            solved.append(onto)
            if not components:
                continue
            left = np.maximum(variances[is_general] + _FLAT - (onto**2).sum(axis=0), 1e-6)
            expected = np.stack(
                [self._means[each][kinds, models] * ratio + relations.shift[kinds] for each in components], 1
            )
            of_values = solve_triangular(root, values - centre, lower=True, check_finite=False)
            of_means = solve_triangular(root, expected, lower=True, check_finite=False)
            of_flat = solve_triangular(root, np.full(len(values), _FLAT), lower=True, check_finite=False)
            # Of each scale b and component the likelihood of the values, whose z is (values - a) / b.
            inverse_scale = 1 / scales[:, None]
            log_likelihood = (
                -0.5 * (of_values @ of_values * inverse_scale**2 - 2 * (of_values @ of_means) * inverse_scale)
                - 0.5 * (of_means**2).sum(axis=0)
                - len(values) * np.log(scales)[:, None]
                - np.log(np.diag(root)).sum()
                + log_prior
            )
            most = log_likelihood.max(axis=0)
            density = np.exp(log_likelihood - most)
            evidence = most + np.log(density.sum(axis=0))
            density /= density.sum(axis=0)
            scale, squared = density.T @ scales, density.T @ scales**2
            slope = self._means[components][:, 0] - (onto.T @ of_means).T
            spread = squared - scale**2
            means = centre + onto.T @ of_values + scale[:, None] * slope
            offset = centre + of_flat @ of_values - scale * (of_flat @ of_means)
            log_weight = evidence * _TEMPER + np.log(weights[components])
            variance = squared[:, None] * left + spread[:, None] * slope**2
            parts.append((means, variance, squared, spread, slope, scale, offset, log_weight))
        means, variance, squared, spread, slope, scale, offset, log_weight = map(
            np.concatenate, zip(*parts, strict=True)
        )
        weight = np.exp(log_weight - log_weight.max())
        evidence = log_weight.max() + np.log(weight.sum())
        weight /= weight.sum()
        return _Posterior(
            weight, means, variance, squared, spread, slope, solved, weight @ offset, weight @ scale, evidence
        )

    # --- what is worth buying -----------------------------------------------------------------------------------------

    def _utilities(self, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What every purchase is worth for its price, and how much it is expected to improve, both (models, kinds)."""
        posterior, done = self.posterior, self.evaluated()
        mean = posterior.weights @ posterior.means
        best = done[int(np.argmax(mean[done]))] if done else int(np.argsort(mean)[len(mean) // 2])
        to_beat = np.full(len(mean), mean[best])
        variances = posterior.variances
        if posterior.solved is not None:
            variances = self._variances_beside(best, posterior.solved)
            if rest := [model for model in done if model != best]:
                second = rest[int(np.argmax(mean[rest]))]
                to_beat[best], variances[:, best] = mean[second], variances[:, second]
        told, deviation = self._informative(), np.sqrt(variances)
        improvement, chance = np.zeros(cost.shape), np.zeros(cost.shape)
        for kind in range(len(self.kinds)):
            width = np.maximum(deviation * told[:, kind], 1e-12)
            ahead = (posterior.means - to_beat) / width
            chance[:, kind] = posterior.weights @ ndtr(ahead)
            density = np.exp(-0.5 * ahead * ahead) / np.sqrt(2 * np.pi)
            improvement[:, kind] = posterior.weights @ (width * (ahead * ndtr(ahead) + density))
            if done:
                # What is known of the best already counts.
                improvement[best, kind] = max(improvement[best, kind] - max(mean[best] - to_beat[best], 0), 0)
        price = cost.copy()
        full = next(number for number, kind in enumerate(self.kinds) if kind.full)
        for number, sold in enumerate(self.kinds):
            if not sold.full:
                # What it promises has to be paid for afterwards.
                price[:, number] += chance[:, number] * cost[:, full]
        return improvement / price**_COST_POWER, improvement

    def _variances_beside(self, other: int, solved: Sequence[np.ndarray]) -> np.ndarray:
        """By component the variance of every model's difference to another: the level of the target cancels."""
        posterior, variances = self.posterior, self._variances()
        rows = []
        for is_general in (False, True):
            onto = solved[is_general]
            left = variances[is_general] - (onto**2).sum(axis=0)
            shared = self._kernel(other)[is_general] - onto.T @ onto[:, other]
            relative = np.maximum(left + left[other] - 2 * shared, 1e-6)
            components = slice(self._num_datasets, None) if is_general else slice(0, self._num_datasets)
            slope = posterior.slopes[components]
            apart = (slope - slope[:, [other]]) ** 2
            scales, spreads = posterior.squared_scales[components], posterior.scale_spreads[components]
            rows.append(scales[:, None] * relative + spreads[:, None] * apart)
        return np.concatenate(rows)

    def _informative(self) -> np.ndarray:
        """Which share of what is unknown of a model each purchase would tell, (models, kinds), as deviations."""
        noise = _NOISE**2 / max(float(np.median(self._variances()[1])), 1e-9)
        correlation = self._relations.correlation
        among = correlation[1:, 1:] + noise * np.eye(len(self.kinds))
        final = correlation[0, 1:]

        def left(known: Iterable[int]) -> float:
            chosen = sorted(known)
            if not chosen:
                return 1.0
            return float(1 - final[chosen] @ np.linalg.solve(among[np.ix_(chosen, chosen)], final[chosen]))

        known: dict[int, set[int]] = {}
        for model, kind in self._places:
            known.setdefault(model, set()).add(kind)
        kinds = range(len(self.kinds))
        told = np.tile([np.sqrt(max(1 - left([kind]), 0)) for kind in kinds], (len(self.models), 1))
        for model, has in known.items():
            before = max(left(has), 1e-6)
            told[model] = [np.sqrt(max(before - left(has | {kind}), 0) / before) for kind in kinds]
        return told


@dataclass(frozen=True, eq=False)
class _Posterior:
    """By component its weight, and of every model the mean and variance of the final accuracy.

    Of the scale b `squared_scales` are E[b²] and `scale_spreads` its variance; `slopes` what b's unit adds to a mean.
    `solved` are the covariances with what was told, over the root of its covariance, around datasets and in general.
    `offset` and `scale` are a and b on average, `evidence` is the logarithm of the whole's.
    """

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    squared_scales: np.ndarray
    scale_spreads: np.ndarray
    slopes: np.ndarray
    solved: Sequence[np.ndarray] | None
    offset: float
    scale: float
    evidence: float


def _filled(cost: np.ndarray) -> np.ndarray:
    """Prices with the kind's median where there is none; 1 each where nothing has one."""
    known = np.where(np.isfinite(cost), cost, np.nan)
    if not np.isfinite(known).any():
        return np.ones_like(cost)
    medians = np.array(
        [np.nanmedian(column) if np.isfinite(column).any() else np.nanmedian(known) for column in known.T]
    )
    return np.where(np.isfinite(known), known, medians)
