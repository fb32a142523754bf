"""Clusters of models that did alike, and how well each is recalled for a target.

Two-phase model selection, arXiv 2404.00069, as its published code computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shiftql.strategies.distances import distances, profiles
from shiftql.strategies.linkage import FAR, merge
from shiftql.strategies.near_pairs import near_pairs

if TYPE_CHECKING:
    import numpy as np

# Models of the same cluster are no farther apart on average, unless somebody says otherwise.
THRESHOLD = 0.05
# Up to so many models all pairs are compared, as published.
COMPARED = 2000
# Another search for near clusters that brings fewer merges than this share of them is the last.
_WORTHWHILE = 0.01

Mode = Literal["own", "representative"]


@dataclass(frozen=True)
class Clusters:
    """Clusters of two models or more, each ascending, with the model of the highest average in each, and the rest."""

    clusters: tuple[tuple[int, ...], ...]
    representatives: tuple[int, ...]
    singletons: tuple[int, ...]


def cluster(accuracies: np.ndarray, threshold: float) -> Clusters:
    """Merge clusters of models by average linkage while the nearest two are no farther apart than `threshold`.

    Of accuracies (models, datasets), NaN where unknown. Exactly so for up to 2,000 models; of more, only pairs that are
    likely near are compared, and large clusters by a sample of their members.
    """
    return of_labels(accuracies, labels(accuracies, threshold))


def labels(accuracies: np.ndarray, threshold: float) -> np.ndarray:
    """A number for each model, (models,): models of the same number are one cluster."""
    return (exact if len(accuracies) <= COMPARED else approximate)(accuracies, threshold)


def exact(accuracies: np.ndarray, threshold: float) -> np.ndarray:
    """The labels by comparing all with all, which takes time and memory by the square of the models."""
    import numpy as np
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(accuracies) < 2:
        return np.arange(len(accuracies))
    apart = np.minimum(distances(accuracies), FAR)
    return fcluster(linkage(squareform(apart, checks=False), "average"), threshold, "distance")


def approximate(accuracies: np.ndarray, threshold: float) -> np.ndarray:
    """The labels by comparing likely pairs: first of models, then of what they were merged to, until little merges."""
    import numpy as np

    random = np.random.default_rng(0)
    models = profiles(accuracies).astype(np.float32)
    found, before = np.arange(len(models)), np.inf
    while (count := found.max() + 1) < (1 - _WORTHWHILE) * before:
        found = merge(models, found, near_pairs(_means(models, found), random), threshold, random)
        before = count
    return found


def of_labels(accuracies: np.ndarray, labels: np.ndarray) -> Clusters:
    """The clusters of models that have the same label."""
    import numpy as np

    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=np.nan))
    groups = [tuple(group.tolist()) for group in np.split(order, starts)[1:]]
    clusters = sorted(group for group in groups if len(group) > 1)
    average = averages(accuracies).tolist()
    representatives = tuple(max(group, key=average.__getitem__) for group in clusters)
    return Clusters(tuple(clusters), representatives, tuple(sorted(group[0] for group in groups if len(group) == 1)))


def _means(profiles: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean profile of each cluster, over those of its models that are known on a dataset."""
    import numpy as np
    from scipy.sparse import csr_array

    every = np.arange(len(labels))
    of_cluster = csr_array((np.ones(len(labels), np.float32), (labels, every)))
    known = of_cluster @ (~np.isnan(profiles)).astype(np.float32)
    return of_cluster @ np.nan_to_num(profiles) / np.where(known > 0, known, np.nan)


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
    chosen, singletons = list(clusters.representatives), list(clusters.singletons)
    if chosen:
        directions = known / np.maximum(np.linalg.norm(known, axis=1, keepdims=True), 1e-12)
        # The mean of cosines with several is the product with the mean of their directions.
        score[singletons] *= directions[singletons] @ (likelihood[chosen] @ directions[chosen]) / len(chosen)
    return score
