"""What Auto's model is made of: standardised tables, names as vectors, and how kinds of evaluation hang together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

# A column's scale is the distance of its median to this quantile: what is near the best counts.
_TOP_QUANTILE, _TOP_NORMAL = 0.95, 1.64
# In these units a collapsed run says no more than that it is bad.
LOWEST, HIGHEST = -1.0, 5.0
_LEAST_CELLS = 3
# Of a cell of a table the variance that other datasets say nothing of, where 1 is that of a dataset's z, and how many
# models without any covariance are added to those that two datasets have in common.
_UNSHARED, _PRIOR_MODELS = 1.0, 4.0
_GRAM = 3
# Of the 3-grams of a dataset's name, by rarity, a model's name has to contain this share to count.
_LEAST_OVERLAP = 0.6
# A scale of accuracies where nothing is known, and what two kinds of evaluation of a model have in common.
_USUAL_SCALE, _USUAL_CORRELATION = 0.1, 0.9
# So many times another's a scale is at most, and so many scales an offset: where models hardly differ, they are noise.
_MOST = 20.0


@dataclass(frozen=True, eq=False)
class Table:
    """Accuracies (models, datasets) as `z` = (accuracy - `location`) / `scale` by dataset, cut off at both ends.

    NaN where nothing is known, also throughout datasets of fewer than three cells.
    """

    z: np.ndarray
    location: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Table:
        z = np.full(values.shape, np.nan)
        location, scale = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
        for column, cells in enumerate(values.T):
            known = np.isfinite(cells)
            if known.sum() >= _LEAST_CELLS:
                median, top = np.quantile(cells[known], [0.5, _TOP_QUANTILE])
                least = max(1e-3 * max(abs(median), 1e-6), np.finfo(float).tiny)
                location[column], scale[column] = median, max((top - median) / _TOP_NORMAL, least)
                z[known, column] = np.clip((cells[known] - median) / scale[column], LOWEST, HIGHEST)
        return cls(z, location, scale)

    def take(self, datasets: np.ndarray) -> Table:
        return Table(self.z[:, datasets], self.location[datasets], self.scale[datasets])


def completed(z: np.ndarray) -> np.ndarray:
    """The same (models, datasets) with what is expected of each missing cell by what its model did on other datasets.

    Models are taken for draws of one normal distribution around 0, whose covariance of datasets the known cells show.
    Models that are known nowhere stay NaN.
    """
    known = np.isfinite(z)
    values, counts = np.where(known, z, 0.0), known.T.astype(float) @ known
    shared = (values.T @ values + _PRIOR_MODELS * np.eye(z.shape[1])) / (counts + _PRIOR_MODELS)
    # Each pair of datasets is about other models, so that it need not be a covariance.
    variances, directions = np.linalg.eigh(shared)
    shared = (directions * np.maximum(variances, 0.0)) @ directions.T
    filled = z.copy()
    for row in np.flatnonzero(known.any(axis=1) & ~known.all(axis=1)).tolist():
        seen = known[row]
        among = shared[np.ix_(seen, seen)] + _UNSHARED * np.eye(int(seen.sum()))
        filled[row, ~seen] = shared[np.ix_(~seen, seen)] @ np.linalg.solve(among, z[row, seen])
    return filled


@dataclass(frozen=True, eq=False)
class Relations:
    """How what is seen of a model under one kind of evaluation is related to its final accuracy, found in the history.

    Kind 0 is the final accuracy. `correlation` (kinds, kinds); of each kind's scale and offset to that of kind 0 the
    typical `log_ratio` and `shift` (in scales of kind 0) and their spreads; `log_scale` and `log_scale_spread` are of
    kind 0's own scale.
    """

    correlation: np.ndarray
    log_ratio: np.ndarray
    log_ratio_spread: np.ndarray
    shift: np.ndarray
    shift_spread: np.ndarray
    log_scale: float
    log_scale_spread: float

    @classmethod
    def of(cls, tables: Sequence[Table]) -> Relations:
        final, kinds = tables[0], len(tables)
        logs = np.log(final.scale[np.isfinite(final.scale)])
        count = len(logs)
        squares = float(((logs - logs.mean()) ** 2).sum()) if count else 0.0
        log_ratio, log_ratio_spread, shift, shift_spread = (np.zeros(kinds) for _ in range(4))
        for kind, table in enumerate(tables[1:], start=1):
            both = np.isfinite(final.scale) & np.isfinite(table.scale)
            known = int(both.sum())
            ratios = np.clip(np.log(table.scale[both] / final.scale[both]), -np.log(_MOST), np.log(_MOST))
            shifts = np.clip((table.location[both] - final.location[both]) / final.scale[both], -_MOST, _MOST)
            if known:
                log_ratio[kind] = np.median(ratios) * known / (known + 1)
                shift[kind] = np.median(shifts) * known / (known + 1)
            deviation = 1.48 * np.median(np.abs(shifts - shift[kind])) if known else 0.0
            spread = np.sqrt((((ratios - log_ratio[kind]) ** 2).sum() + 0.5) / (known + 1))
            log_ratio_spread[kind] = min(spread, np.log(_MOST) / 2)
            shift_spread[kind] = np.sqrt((deviation**2 * known + 4) / (known + 1))
        return cls(
            _correlation([table.z for table in tables]),
            log_ratio,
            log_ratio_spread,
            shift,
            shift_spread,
            float((logs.sum() + 2 * np.log(_USUAL_SCALE)) / (count + 2)),
            float(np.sqrt((squares + 2) / (count + 2))),
        )


def _correlation(tables: Sequence[np.ndarray]) -> np.ndarray:
    """The correlation of kinds over deviations from models' means, on the median dataset; positive definite.

    There are datasets on which one kind says nothing of another: the typical one counts.
    """
    deviations = [
        z - np.nansum(z, axis=1, keepdims=True) / (np.isfinite(z).sum(axis=1, keepdims=True) + 1.0) for z in tables
    ]
    matrix = np.eye(len(tables))
    for one in range(len(tables)):
        for other in range(one):
            found = [_USUAL_CORRELATION] * 2
            for a, b in zip(deviations[one].T, deviations[other].T, strict=True):
                both = np.isfinite(a) & np.isfinite(b)
                if both.sum() >= 5 and a[both].std() * b[both].std() > 0:
                    found.append(np.corrcoef(a[both], b[both])[0, 1])
            matrix[one, other] = matrix[other, one] = np.median(found)
    values, vectors = np.linalg.eigh(matrix)
    matrix = (vectors * np.maximum(values, 1e-3)) @ vectors.T
    lengths = np.sqrt(np.diag(matrix))
    return np.clip(matrix / np.outer(lengths, lengths), 0, 1)


def name_vectors(names: Sequence[str]) -> csr_matrix:
    """Names as vectors of length 1 of their 3-grams, rare ones longer: their product says how alike two names are."""
    vocabulary: dict[str, int] = {}
    rows, columns = [], []
    for row, name in enumerate(names):
        text = f" {re.sub('[^a-z0-9]+', ' ', name.lower())} "
        for gram in sorted({text[start : start + _GRAM] for start in range(len(text) + 1 - _GRAM)}):
            rows.append(row)
            columns.append(vocabulary.setdefault(gram, len(vocabulary)))
    shape = len(names), max(1, len(vocabulary))
    grams = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
    rarity = np.log((len(names) + 1) / (np.asarray((grams > 0).sum(axis=0)).ravel() + 1)) + 1e-3
    grams = grams.multiply(np.sqrt(rarity)).tocsr()
    lengths = np.sqrt(np.asarray(grams.multiply(grams).sum(axis=1)).ravel())
    return csr_matrix(grams.multiply(1 / np.maximum(lengths, 1e-9)[:, None]))


def name_overlap(models: Sequence[str], datasets: Sequence[str]) -> np.ndarray:
    """How much of a dataset's name each model's name contains, (models, datasets) from 0 to 1."""
    overlap = np.zeros((len(models), len(datasets)))
    texts = [_squashed(name) for name in models]
    for column, dataset in enumerate(datasets):
        name = _squashed(dataset.split("/")[-1])
        grams = sorted({name[start : start + _GRAM] for start in range(len(name) + 1 - _GRAM)})
        if not grams:
            continue
        has = np.array([[gram in text for gram in grams] for text in texts], dtype=float).reshape(-1, len(grams))
        rarity = np.log((len(models) + 1) / (has.sum(axis=0) + 1))
        if rarity.sum() > 0:
            share = has @ rarity / rarity.sum()
            overlap[:, column] = np.clip((share - _LEAST_OVERLAP) / (1 - _LEAST_OVERLAP), 0, 1)
    return overlap


def _squashed(name: str) -> str:
    return re.sub("[^a-z0-9]+", "", name.lower())
