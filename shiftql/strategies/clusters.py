"""Clusters of models that did alike, and how well each is recalled for a target.

Two-phase model selection, arXiv 2404.00069, as its published code computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

# Of the datasets on which two models differ, those with the largest differences say how far they are apart.
_LARGEST = 5
# In place of infinity, which average linkage cannot carry: beyond any threshold however it is averaged.
_FAR = 1e9

Mode = Literal["own", "representative"]


@dataclass(frozen=True)
class Clusters:
    """Clusters of two models or more, each ascending, with the model of the highest average in each, and the rest."""

    clusters: tuple[tuple[int, ...], ...]
    representatives: tuple[int, ...]
    singletons: tuple[int, ...]


def distances(accuracies: np.ndarray) -> np.ndarray:
    """How far models are apart, (models, models), of accuracies (models, datasets), NaN where unknown.

    The mean of the 5 largest differences among datasets on which both are above 0; infinite where that are 5 or fewer.
    """
    import numpy as np

    known = np.nan_to_num(accuracies, nan=0.0)
    is_known = known > 0
    apart = np.full((len(known), len(known)), np.inf)
    for row in range(len(known) if known.shape[1] > _LARGEST else 0):
        both = is_known & is_known[row]
        largest = -np.sort(-np.where(both, np.abs(known - known[row]), 0.0), axis=1)[:, :_LARGEST]
        apart[row] = np.where(both.sum(axis=1) > _LARGEST, largest.mean(axis=1), np.inf)
    np.fill_diagonal(apart, 0.0)
    return apart


def cluster(accuracies: np.ndarray, threshold: float) -> Clusters:
    """Merge clusters of models by average linkage while the nearest two are no farther apart than `threshold`."""
    import numpy as np
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(accuracies) < 2:
        return Clusters((), (), tuple(range(len(accuracies))))
    apart = np.minimum(distances(accuracies), _FAR)
    labels = fcluster(linkage(squareform(apart, checks=False), "average"), threshold, "distance")
    groups = [tuple(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]
    clusters = sorted(group for group in groups if len(group) > 1)
    average = averages(accuracies)
    representatives = tuple(max(group, key=lambda model: average[model]) for group in clusters)
    return Clusters(tuple(clusters), representatives, tuple(sorted(group[0] for group in groups if len(group) == 1)))


def averages(accuracies: np.ndarray) -> np.ndarray:
    """Each model's mean accuracy over the datasets it is known on; 0 where there is none."""
    import numpy as np

    known = ~np.isnan(accuracies)
    return np.where(known, accuracies, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)


def recall(accuracies: np.ndarray, clusters: Clusters, leep: Sequence[float], mode: Mode) -> np.ndarray:
    """How promising each model is for a target, higher is better.

    A clustered model's average accuracy times exp(LEEP), its own or that of its cluster's representative by `mode`; a
    single model's average accuracy times the mean over the representatives of its row's cosine with theirs times
    exp(their LEEP). `leep` is by model; by `representative` only theirs, and where there is no cluster nobody's, count.
    """
    import numpy as np

    known = np.nan_to_num(accuracies, nan=0.0)
    likelihood = np.exp(np.asarray(leep, dtype=float))
    score = averages(accuracies)
    for group, representative in zip(clusters.clusters, clusters.representatives, strict=True):
        score[list(group)] *= likelihood[list(group)] if mode == "own" else likelihood[representative]
    chosen = list(clusters.representatives)
    if chosen:
        lengths = np.maximum(np.linalg.norm(known, axis=1), 1e-12)
        cosine = known @ known[chosen].T / np.outer(lengths, lengths[chosen])
        for model in clusters.singletons:
            score[model] *= (cosine[model] * likelihood[chosen]).mean()
    return score
