"""Clusters of models that are kept up to date while models and results are added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shiftql.strategies.clusters import Clusters, averages, labels, of_labels
from shiftql.strategies.distances import pair_distances, profiles
from shiftql.strategies.linkage import merge

if TYPE_CHECKING:
    import numpy as np

# The nearest models of one that changed, of which the clusters are looked at again.
_NEAR = 8
# Clusters of up to so many models are made anew; of larger ones only the near models may leave.
_SMALL = 32


class Clustering:
    """The clusters of models by their accuracies (models, datasets), NaN where unknown, merged as by `cluster`.

    Where `known_labels` of these accuracies are given, (models,), nothing is merged to begin with.

    Models are numbered by their rows. One that is added, or whose row changes, is compared with all others; then only
    its old cluster and those of its nearest models are made anew, the large ones among them but for those models.
    """

    def __init__(self, accuracies: np.ndarray, threshold: float, known_labels: np.ndarray | None = None) -> None:
        import numpy as np

        self._threshold = threshold
        self._count = len(accuracies)
        # These have room for more models than there are.
        self._accuracies = np.array(accuracies, dtype=float)
        self._profiles = profiles(self._accuracies).astype(np.float32)
        first = labels(self._accuracies, threshold) if known_labels is None else known_labels
        self._labels = np.unique(first, return_inverse=True)[1]
        self._next = self._count
        order = np.argsort(self._labels, kind="stable")
        ends = np.cumsum(np.bincount(self._labels, minlength=1))
        self._members = dict(enumerate(np.split(order, ends[:-1]))) if self._count else {}

    def __len__(self) -> int:
        return self._count

    @property
    def labels(self) -> np.ndarray:
        """A number for each model, (models,): models of the same number are one cluster."""
        return self._labels[: self._count].copy()

    @property
    def clusters(self) -> Clusters:
        """All of them."""
        return of_labels(self._accuracies[: self._count], self._labels[: self._count])

    def members(self, model: int) -> tuple[int, ...]:
        """The models of the cluster that a model is in, itself included, ascending."""
        return tuple(self._members[self._labels[model]].tolist())

    def representative(self, model: int) -> int:
        """The model of the highest average in its cluster, the first of equal ones."""
        members = self._members[self._labels[model]]
        return int(members[averages(self._accuracies[members]).argmax()])

    def add(self, row: np.ndarray) -> int:
        """The number of a new model with these accuracies, (datasets,)."""
        import numpy as np

        model = self._count
        if model == len(self._accuracies):
            room = max(16, model)
            self._accuracies = np.pad(self._accuracies, ((0, room), (0, 0)), constant_values=np.nan)
            self._profiles = np.pad(self._profiles, ((0, room), (0, 0)), constant_values=np.nan)
            self._labels = np.pad(self._labels, (0, room))
        self._count += 1
        self._labels[model] = self._next
        self._members[self._next] = np.array([model])
        self._next += 1
        self.update(model, row)
        return model

    def update(self, model: int, row: np.ndarray) -> None:
        """Take note of all that is now known of a model, (datasets,)."""
        import numpy as np

        self._accuracies[model] = row
        self._profiles[model] = profiles(self._accuracies[model])
        near = self._near(model)
        changed = np.append(near, model)
        old = np.unique(self._labels[changed])
        parts = []
        for label in old:
            members = self._members.pop(label)
            leaving = members if len(members) <= _SMALL else np.intersect1d(members, changed)
            staying = np.setdiff1d(members, leaving)
            parts += [leaving[place : place + 1] for place in range(len(leaving))] + [staying] * (len(staying) > 0)
        models = np.concatenate(parts)
        start = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        pairs = np.stack(np.triu_indices(len(parts), 1), axis=1)
        random = np.random.default_rng(0)
        found = merge(self._profiles[models], start, pairs, self._threshold, random)
        for label in range(found.max() + 1):
            members = np.sort(models[found == label])
            self._members[self._next] = members
            self._labels[members] = self._next
            self._next += 1

    def add_dataset(self) -> None:
        """One more dataset, the last, on which no model is known yet."""
        import numpy as np

        self._accuracies = np.pad(self._accuracies, ((0, 0), (0, 1)), constant_values=np.nan)
        self._profiles = np.pad(self._profiles, ((0, 0), (0, 1)), constant_values=np.nan)

    def _near(self, model: int) -> np.ndarray:
        """The nearest of the models that are no farther than the threshold."""
        import numpy as np

        every = np.arange(self._count)
        apart = pair_distances(self._profiles, np.full(self._count, model), every)
        apart[model] = np.inf
        near = np.flatnonzero(apart <= self._threshold)
        return near[np.argsort(apart[near], kind="stable")[:_NEAR]]
