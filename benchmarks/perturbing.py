"""Pools made from recorded ones: fewer models, less history, lost cells, other names, no prices, no epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from shiftql.recorded import Records

Perturbed = Callable[[Records, np.random.Generator], Records]


def fewer_models(count: int) -> Perturbed:
    def perturbed(records: Records, random: np.random.Generator) -> Records:
        rows = np.sort(random.permutation(len(records.models))[:count])
        return _selected(records, rows, np.arange(len(records.datasets)))

    return perturbed


def fewer_datasets(count: int) -> Perturbed:
    def perturbed(records: Records, random: np.random.Generator) -> Records:
        columns = np.sort(random.permutation(len(records.datasets))[:count])
        return _selected(records, np.arange(len(records.models)), columns)

    return perturbed


def lost(share: float) -> Perturbed:
    """Without a share of the cells."""

    def perturbed(records: Records, random: np.random.Generator) -> Records:
        gone = random.random(records.test.shape) < share
        return _mapped(records, lambda values: np.where(gone, np.nan, values))

    return perturbed


def anonymous(records: Records, random: np.random.Generator) -> Records:
    """Names say nothing, nor does their order."""
    rows, columns = (random.permutation(len(names)) for names in (records.models, records.datasets))
    renamed = _selected(records, rows, columns)
    models = tuple(f"{number:06d}" for number in range(len(rows)))
    return replace(renamed, models=models, datasets=tuple(f"{number:03d}" for number in range(len(columns))))


def without_prices(records: Records, random: np.random.Generator) -> Records:
    return replace(records, seconds=tuple(np.where(np.isnan(each), each, 1.0) for each in records.seconds))


def without_epochs(records: Records, random: np.random.Generator) -> Records:
    """As if only the last epoch had been recorded; the same where there is one."""
    seconds = np.sum(records.seconds, axis=0)
    return replace(records, validation=records.validation[-1:], seconds=(seconds,), has_epochs=False)


def _selected(records: Records, rows: np.ndarray, columns: np.ndarray) -> Records:
    part = np.ix_(rows, columns)
    selected = _mapped(records, lambda values: values[part])
    names = [records.models[row] for row in rows.tolist()]
    return replace(
        selected, models=tuple(names), datasets=tuple(records.datasets[column] for column in columns.tolist())
    )


def _mapped(records: Records, changed: Callable[[np.ndarray], np.ndarray]) -> Records:
    return replace(
        records,
        validation=tuple(map(changed, records.validation)),
        test=changed(records.test),
        seconds=tuple(map(changed, records.seconds)),
    )


PERTURBED: dict[str, Perturbed] = {
    "30 models": fewer_models(30),
    "100 models": fewer_models(100),
    "history of 3": fewer_datasets(4),
    "history of 6": fewer_datasets(7),
    "30 % of cells lost": lost(0.3),
    "anonymous": anonymous,
    "without prices": without_prices,
    "without epochs": without_epochs,
    "no history": fewer_datasets(1),
}
