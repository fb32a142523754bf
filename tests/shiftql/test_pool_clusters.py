"""Kept clusters: they are those that clustering anew finds, whatever was kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from shiftql import pool_clusters
from shiftql.pool_clusters import brought_up_to_date, listed
from shiftql.strategies.clusters import THRESHOLD, labels, of_labels
from storage.kept_clusters import ClusterStore, KeptClusters


def _matrix(models: int, datasets: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names of models, of datasets, and accuracies of families of models that did alike."""
    random = np.random.default_rng(0)
    centres = random.uniform(0.3, 0.9, (max(2, models // 10), datasets))
    values = centres[random.integers(0, len(centres), models)] + random.normal(0, 0.01, (models, datasets))
    names = random.permutation(models)
    return np.array([f"m{n}" for n in names]), np.array([f"d{n}" for n in range(datasets)]), values


def _groups(clusters: KeptClusters) -> set[frozenset[str]]:
    return {frozenset(clusters.models[clusters.labels == label].tolist()) for label in clusters.labels}


def _anew(models: np.ndarray, datasets: np.ndarray, values: np.ndarray) -> KeptClusters:
    return brought_up_to_date(None, models, datasets, values)


def test_what_was_kept_of_fewer_models_and_datasets_comes_to_the_clusters_from_scratch() -> None:
    models, datasets, values = _matrix(60)
    some = np.sort(np.random.default_rng(1).permutation(60)[:40])
    kept = _anew(models[some], datasets[:7], values[some][:, :7])
    found = brought_up_to_date(kept, models, datasets, values)
    assert len(_groups(found)) < 60
    assert _groups(found) == _groups(_anew(models, datasets, values))


def test_the_clusters_of_the_same_matrix_are_the_kept_ones_in_whatever_order_it_comes() -> None:
    models, datasets, values = _matrix(30)
    values[3, 4] = np.nan
    kept = _anew(models, datasets, values)
    assert brought_up_to_date(kept, models[::-1], datasets[::-1], values[::-1, ::-1]) is kept


@pytest.mark.parametrize("gone", ["model", "dataset", "cell"])
def test_nothing_is_left_of_what_is_gone(gone: str) -> None:
    models, datasets, values = _matrix(30)
    kept = _anew(models, datasets, values)
    if gone == "model":
        models, values = models[1:], values[1:]
    elif gone == "dataset":
        datasets, values = datasets[1:], values[:, 1:]
    else:
        values = np.where(np.arange(10) < 5, np.nan, values)
    found = brought_up_to_date(kept, models, datasets, values)
    assert _groups(found) == _groups(_anew(models, datasets, values))
    assert found.models.tolist() == models.tolist()


def test_of_many_models_only_those_that_changed_are_clustered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    models, datasets, values = _matrix(400)
    monkeypatch.setattr(pool_clusters, "COMPARED", 100)
    kept = _anew(models[2:], datasets[1:], values[2:, 1:])
    filled = np.where((np.arange(400) < 4)[:, None] | (np.arange(10) > 0), values, np.nan)
    monkeypatch.setattr(pool_clusters, "labels", None)
    found = brought_up_to_date(kept, models, datasets, filled)
    assert found.models.tolist() == [*models[2:], *models[:2]]
    assert found.datasets.tolist() == [*datasets[1:], datasets[0]]
    order = [models.tolist().index(name) for name in found.models]
    assert np.array_equal(found.values, filled[order][:, [*range(1, 10), 0]], equal_nan=True)
    assert adjusted_rand_score(labels(filled, THRESHOLD)[order], found.labels) > 0.97
    assert brought_up_to_date(found, models, datasets, filled) is found


def test_clusters_are_listed_the_largest_first_by_the_best_of_each_without_models_of_which_nothing_is_known() -> None:
    values = np.array([[0.5] * 8, [0.9] * 8, [0.52] * 8, [np.nan] * 8])
    models, datasets = np.array(["a", "b", "c", "unknown"]), np.array([f"d{n}" for n in range(8)])
    assert [
        (row["representative"], row["models"], row["members"]) for row in listed(_anew(models, datasets, values)).rows
    ] == [
        ("c", 2, "c, a"),
        ("b", 1, "b"),
    ]
    nothing = _anew(models[:0], datasets, values[:0])
    assert listed(nothing).rows == ()


def test_what_is_damaged_or_of_another_key_is_not_found(tmp_path: Path) -> None:
    store, kept = ClusterStore(tmp_path), _anew(*_matrix(30))
    assert store.find("one") is None
    store.keep("one", kept)
    found = store.find("one")
    assert found is not None
    assert of_labels(found.values, found.labels) == of_labels(kept.values, kept.labels)
    assert found.models.tolist() == kept.models.tolist()
    assert store.find("other") is None
    file = tmp_path / "one.clusters"
    content = file.read_bytes()
    for damaged in (b"", content[:-1], content[:100] + b"?" + content[101:]):
        file.write_bytes(damaged)
        assert store.find("one") is None


def test_only_the_clusters_written_last_are_kept_and_a_disk_that_refuses_is_no_error(tmp_path: Path) -> None:
    kept = _anew(*_matrix(10))
    for number in range(12):
        ClusterStore(tmp_path / "clusters").keep(f"{number}", kept)
    assert len(list((tmp_path / "clusters").iterdir())) == 8
    (tmp_path / "file").write_text("")
    ClusterStore(tmp_path / "file").keep("one", kept)
