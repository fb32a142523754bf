"""The clusters of models that did alike in a performance matrix, kept so that only what changed is clustered anew."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from shiftql.answers import RowsAnswer
from shiftql.benchmark import Grid, values_of
from shiftql.strategies.clustering import Clustering
from shiftql.strategies.clusters import COMPARED, THRESHOLD, averages, labels
from storage.kept_clusters import ClusterStore, KeptClusters

if TYPE_CHECKING:
    import numpy as np

# Counted up when the same matrix comes to other clusters than before.
_VERSION = 1
# Where more than this share of the models changed, clustering all of them anew takes less time.
_FEW = 0.01


def clusters_of(grid: Grid, models: str, datasets: str, store: ClusterStore) -> KeptClusters:
    """The clusters of a grid, of models and datasets as they were written; what is kept of them is brought up to date.

    Utilities are compared; models are alike as `TwoPhase` takes them to be unless it is told otherwise.
    """
    import numpy as np

    named = json.dumps([_VERSION, THRESHOLD, grid.ranker.label, models, datasets])
    key = blake2b(named.encode(), digest_size=16).hexdigest()
    names = np.array(grid.models, dtype=str), np.array(grid.datasets, dtype=str)
    kept = store.find(key)
    found = brought_up_to_date(kept, *names, values_of(grid))
    if found is not kept:
        store.keep(key, found)
    return found


def brought_up_to_date(
    kept: KeptClusters | None, models: np.ndarray, datasets: np.ndarray, values: np.ndarray
) -> KeptClusters:
    """The clusters of `values` (models, datasets), by what is kept of an earlier matrix; itself, where nothing changed.

    Up to 2,000 models are clustered exactly, all anew if anything changed. Of more, only the rows that changed or were
    added are clustered, unless they are many, or models or datasets of the earlier matrix are gone.
    """
    import numpy as np

    if kept is None or not (np.isin(kept.models, models).all() and np.isin(kept.datasets, datasets).all()):
        return KeptClusters(models, datasets, values, labels(values, THRESHOLD))
    rows, columns = _places(models, kept.models), _places(datasets, kept.datasets)
    earlier, known = len(kept.models), len(kept.datasets)
    current = KeptClusters(models[rows], datasets[columns], values[np.ix_(rows, columns)], kept.labels)
    before = np.pad(kept.values, ((0, 0), (0, len(columns) - known)), constant_values=np.nan)
    same = (before == current.values[:earlier]) | (np.isnan(before) & np.isnan(current.values[:earlier]))
    changed = np.flatnonzero(~same.all(axis=1)).tolist()
    if not changed and (len(models), len(datasets)) == (earlier, known):
        return kept
    if len(models) <= COMPARED or len(changed) + len(models) - earlier > _FEW * len(models):
        return KeptClusters(models, datasets, values, labels(values, THRESHOLD))
    clustering = Clustering(before, THRESHOLD, kept.labels)
    for row in changed:
        clustering.update(row, current.values[row])
    for row in current.values[earlier:]:
        clustering.add(row)
    return replace(current, labels=clustering.labels)


def listed(clusters: KeptClusters) -> RowsAnswer:
    """A row for each cluster of the models that anything is known of, the largest first, then those of best average."""
    import numpy as np

    average = averages(clusters.values)
    measured = np.flatnonzero(~np.isnan(clusters.values).all(axis=1))
    best_first = measured[np.lexsort((clusters.models[measured], -average[measured]))]
    members: dict[int, list[int]] = {}
    for number in best_first.tolist():
        members.setdefault(int(clusters.labels[number]), []).append(number)
    rows: list[dict[str, Any]] = [
        {
            "representative": str(clusters.models[group[0]]),
            "average": float(average[group[0]]),
            "models": len(group),
            "members": ", ".join(clusters.models[group].tolist()),
        }
        for group in sorted(members.values(), key=lambda group: -len(group))
    ]
    return RowsAnswer(
        statement="", seconds=0.0, columns=("representative", "average", "models", "members"), rows=tuple(rows)
    )


def _places(names: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """Where the `earlier` names stand among `names`, followed by where the others do."""
    import numpy as np

    place = {name: number for number, name in enumerate(names.tolist())}
    added = np.flatnonzero(~np.isin(names, earlier))
    return np.concatenate([np.array([place[name] for name in earlier.tolist()], dtype=int), added])
