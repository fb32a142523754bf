"""Clusters of many models, and clusters that are kept up to date: they agree with comparing all with all."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from shiftql.strategies.clustering import Clustering
from shiftql.strategies.clusters import Clusters, approximate, cluster, exact, of_labels, recall
from shiftql.strategies.distances import distances, pair_distances, profiles
from shiftql.strategies.linkage import merge
from shiftql.strategies.near_pairs import near_pairs

THRESHOLD = 0.05


def _families(models: int, missing: float, seed: int = 0, datasets: int = 30) -> np.ndarray:
    """Accuracies (models, datasets) of families of near-copies, a fifth of all models in one of them."""
    random = np.random.default_rng(seed)
    centres = random.uniform(0.4, 0.9, (models // 20, 1)) + random.normal(0, 0.05, (models // 20, datasets))
    family = np.where(random.random(models) < 0.2, 0, random.integers(0, len(centres), models))
    accuracies = np.clip(centres[family] + random.normal(0, 0.012, (models, datasets)), 0.01, 0.99)
    accuracies[random.random(accuracies.shape) < missing] = np.nan
    return accuracies


def _agreement(clustering: Clustering, labels: np.ndarray) -> float:
    firsts = [clustering.members(model)[0] for model in range(len(labels))]
    return float(adjusted_rand_score(labels, firsts))


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(2))
def test_comparing_likely_pairs_agrees_as_well_as_accuracies_a_tenth_of_a_point_off(missing: float, seed: int) -> None:
    accuracies = _families(1000, missing, seed)
    off = accuracies + np.random.default_rng(1).normal(0, 0.001, accuracies.shape)
    truth = exact(accuracies, THRESHOLD)
    expected = adjusted_rand_score(truth, exact(off, THRESHOLD))
    assert adjusted_rand_score(truth, approximate(accuracies, THRESHOLD)) > expected - 0.03


@pytest.mark.parametrize("seed", range(5))
def test_small_clusters_are_merged_exactly_where_all_near_pairs_are_known(seed: int) -> None:
    random = np.random.default_rng(seed)
    accuracies = random.uniform(0.5, 0.6, (60, 8))
    apart = distances(accuracies)
    pairs = np.argwhere(np.triu(apart <= THRESHOLD, 1))
    found = merge(accuracies, np.arange(60), pairs, THRESHOLD, random)
    assert of_labels(accuracies, found) == cluster(accuracies, THRESHOLD)


def test_distances_of_pairs_are_those_of_the_definition() -> None:
    accuracies = _families(40, 0.6, datasets=14)
    accuracies[0, :3] = 0.0
    every = np.stack(np.triu_indices(40), axis=1)
    found = pair_distances(profiles(accuracies), *every.T)
    for (one, other), apart in zip(every, found, strict=True):
        both = (accuracies[one] > 0) & (accuracies[other] > 0)
        largest = np.sort(np.abs(accuracies[one] - accuracies[other])[both])[-5:]
        assert apart == pytest.approx(largest.mean() if both.sum() > 5 else np.inf)


def test_near_pairs_are_few_and_among_them_is_nearly_every_nearest_one() -> None:
    accuracies = _families(3000, 0.3)
    pairs = near_pairs(accuracies, np.random.default_rng(0))
    assert len(pairs) <= 3000 * 4 * 8
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    copies = np.vstack([accuracies, accuracies[:200]])
    found = {tuple(pair) for pair in near_pairs(copies, np.random.default_rng(0)).tolist()}
    assert sum((number, 3000 + number) in found for number in range(200)) > 195


def test_many_models_that_are_alike_are_one_cluster() -> None:
    assert cluster(np.full((5000, 10), 0.5), THRESHOLD).clusters == (tuple(range(5000)),)


def test_the_same_models_have_the_same_clusters_again() -> None:
    accuracies = _families(2500, 0.3)
    assert cluster(accuracies, THRESHOLD) == cluster(accuracies, THRESHOLD)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_adding_one_by_one_agrees_with_clustering_at_once(missing: float) -> None:
    accuracies = _families(500, missing)
    clustering = Clustering(accuracies[:100], THRESHOLD)
    assert [clustering.add(row) for row in accuracies[100:]] == list(range(100, 500))
    assert len(clustering) == 500
    assert _agreement(clustering, exact(accuracies, THRESHOLD)) > 0.97


def test_filling_in_cells_agrees_with_clustering_at_once() -> None:
    accuracies = _families(300, 0.0)
    known = np.where(np.random.default_rng(1).random(accuracies.shape) < 0.5, accuracies, np.nan)
    clustering = Clustering(known[:, :-1], THRESHOLD)
    clustering.add_dataset()
    for model, row in enumerate(accuracies):
        clustering.update(model, row)
    assert _agreement(clustering, exact(accuracies, THRESHOLD)) > 0.97


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.5])
def test_a_copy_joins_the_cluster_of_its_model(missing: float) -> None:
    accuracies = _families(400, missing)
    clustering = Clustering(accuracies, THRESHOLD)
    for model in range(0, 400, 10):
        assert clustering.add(accuracies[model]) in clustering.members(model)


def test_a_model_unlike_all_others_is_alone_until_another_comes() -> None:
    clustering = Clustering(np.full((0, 8), np.nan), THRESHOLD)
    first = clustering.add(np.full(8, 0.5))
    assert clustering.clusters == Clusters((), (), (first,))
    second = clustering.add(np.full(8, 0.52))
    assert clustering.clusters == Clusters(((first, second),), (second,), ())
    clustering.update(second, np.full(8, 0.9))
    assert clustering.clusters == Clusters((), (), (first, second))


def test_the_representative_is_the_best_of_the_cluster_as_it_is_now() -> None:
    clustering = Clustering(np.array([[0.5] * 8, [0.52] * 8]), THRESHOLD)
    assert clustering.representative(0) == 1
    better = clustering.add(np.full(8, 0.53))
    assert clustering.representative(0) == better
    assert clustering.clusters.representatives == (better,)
    clustering.update(better, np.full(8, 0.51))
    assert clustering.representative(0) == 1


def test_a_single_model_is_recalled_by_its_mean_cosine_with_the_representatives() -> None:
    accuracies = _families(200, 0.2)
    clusters = cluster(accuracies, 0.03)
    leep = np.random.default_rng(0).normal(-1, 0.3, 200)
    scores = recall(accuracies, clusters, leep.tolist(), "own")
    known, chosen = np.nan_to_num(accuracies), list(clusters.representatives)
    assert clusters.singletons
    for model in clusters.singletons:
        lengths = np.linalg.norm(known[chosen], axis=1) * np.linalg.norm(known[model])
        expected = (
            np.nanmean(accuracies[model]) * (known[chosen] @ known[model] / lengths * np.exp(leep[chosen])).mean()
        )
        assert scores[model] == pytest.approx(expected)


def test_clusters_that_are_known_are_gone_on_from() -> None:
    accuracies = _families(200, 0.2)
    whole = Clustering(accuracies, THRESHOLD)
    begun = Clustering(accuracies[:150], THRESHOLD)
    again = Clustering(accuracies[:150], THRESHOLD, begun.labels)
    assert again.clusters == begun.clusters
    for row in accuracies[150:]:
        begun.add(row)
        again.add(row)
    assert again.clusters == begun.clusters
    assert Clustering(accuracies, THRESHOLD, whole.labels).clusters == whole.clusters
