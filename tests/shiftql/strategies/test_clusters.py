"""Clusters and recall: the figures that the published code of two-phase selection computes on its own tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import shiftql
from shiftql.strategies.clusters import Clusters, averages, cluster, recall
from shiftql.strategies.distances import distances

RECORDS = Path(shiftql.__file__).parent / "records"


def _matrix(name: str) -> tuple[list[str], np.ndarray]:
    table = pd.read_csv(RECORDS / name)
    models = list(dict.fromkeys(table["model"]))
    return models, table.pivot(index="model", columns="dataset", values="accuracy").reindex(models).to_numpy()


def _top(name: str, threshold: float, target: str, count: int) -> list[tuple[str, float]]:
    models, accuracies = _matrix(name)
    leep = pd.read_csv(RECORDS / "two_phase_leep.csv")
    leep = leep[leep["target"] == target].set_index("model")["leep"].reindex(models)
    scores = recall(accuracies, cluster(accuracies, threshold), leep.to_list(), "own")
    return [(models[number], round(float(scores[number]), 6)) for number in np.argsort(-scores)[:count]]


def test_the_clusters_of_text_models_are_the_published_ones() -> None:
    found = cluster(_matrix("two_phase_nlp.csv")[1], 0.09)
    assert found.clusters == (
        (0, 6, 18),
        (1, 5, 8, 19, 25, 27, 34),
        (2, 4, 23, 31, 35),
        (3, 11),
        (7, 26, 37),
        (13, 28, 29, 30),
        (14, 15, 16, 32, 33),
        (20, 36),
    )
    assert found.representatives == (18, 25, 23, 11, 26, 30, 14, 20)
    assert len(found.singletons) == 8


def test_the_clusters_of_vision_models_are_the_published_ones() -> None:
    found = cluster(_matrix("two_phase_cv.csv")[1], 0.03)
    assert found == Clusters(
        (
            (0, 1, 5, 6, 7, 10, 27),
            (2, 18, 23, 26),
            (3, 4, 8, 9, 11, 12, 13, 14, 16, 17, 24, 25, 28, 29),
            (15, 22),
            (20, 21),
        ),
        (1, 18, 17, 22, 21),
        (19,),
    )


@pytest.mark.parametrize(("threshold", "merges"), [(0.0879, False), (0.0881, True), (0.0905, True)])
def test_the_last_merge_of_text_models_is_at_0_0880(threshold: float, merges: bool) -> None:
    accuracies = _matrix("two_phase_nlp.csv")[1]
    assert (cluster(accuracies, threshold) == cluster(accuracies, 0.09)) == merges
    assert cluster(accuracies, 0.0907) != cluster(accuracies, 0.09)


def test_recall_for_multirc_is_the_published_one() -> None:
    assert _top("two_phase_nlp.csv", 0.09, "multirc", 5) == [
        ("ishan--bert-base-uncased-mnli", 0.358861),
        ("Jeevesh8--feather_berts_46", 0.357899),
        ("roberta-base", 0.355494),
        ("Alireza1044--albert-base-v2-qnli", 0.355368),
        ("albert-base-v2", 0.353570),
    ]


def test_recall_for_chest_x_rays_is_the_published_one() -> None:
    assert _top("two_phase_cv.csv", 0.03, "xray", 3) == [
        ("Visual-Attention-Network/van-large", 0.530706),
        ("facebook/deit-base-patch16-384", 0.513794),
        ("shi-labs/dinat-base-in1k-224", 0.499928),
    ]


def test_a_representative_speaks_for_its_cluster() -> None:
    accuracies = np.vstack([np.full(6, 0.5), np.full(6, 0.52), np.full(6, 0.9)])
    clusters = cluster(accuracies, 0.03)
    assert (clusters.representatives, clusters.singletons) == ((1,), (2,))
    own = recall(accuracies, clusters, [-1.0, -0.5, -9.0], "own")
    shared = recall(accuracies, clusters, [-1.0, -0.5, -9.0], "representative")
    np.testing.assert_allclose(own, [0.5 * np.exp(-1.0), 0.52 * np.exp(-0.5), 0.9 * np.exp(-0.5)])
    np.testing.assert_allclose(shared, [0.5 * np.exp(-0.5), 0.52 * np.exp(-0.5), 0.9 * np.exp(-0.5)])


def test_models_with_five_common_datasets_or_fewer_are_infinitely_far_apart() -> None:
    accuracies = np.full((2, 6), 0.5)
    assert distances(accuracies)[0, 1] == 0.0
    accuracies[0, 0] = np.nan
    assert distances(accuracies)[0, 1] == np.inf
    assert cluster(accuracies, 1.0).clusters == ()


def test_unknown_results_are_no_part_of_an_average() -> None:
    assert averages(np.array([[0.5, np.nan], [np.nan, np.nan]])).tolist() == [0.5, 0.0]
