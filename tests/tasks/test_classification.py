from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.errors import EvaluationError, StoreError
from storage.evaluations import Evaluation, Measurement, Subject
from storage.features import FeatureStore
from storage.manifests import Manifest, load_manifest, save_manifest
from storage.settings import current_settings
from storage.views import LAST, View
from tasks.classification import score_features, score_majority
from tasks.rankers.metrics import REPLICATES

MODEL = Subject("model", "m")


def _split(name: str, labels: list[int], classes: tuple[str, ...], *, store: bool = True) -> Subject:
    """A split whose features are near the position of their class name in the alphabet."""
    random = np.random.default_rng(len(name))
    manifest = Manifest(random.integers(0, 256, (len(labels), 16), dtype=np.uint8), np.array(labels), classes)
    settings = current_settings()
    save_manifest(settings.manifests, manifest)
    if store:
        features = FeatureStore(settings.features)
        centres = np.array([[ord(label[0]) * 10.0, 0.0] for label in manifest.targets])
        features.write(
            features.key(MODEL.fingerprint), manifest.row_hashes, centres + random.normal(0, 0.1, centres.shape)
        )
    return Subject(name, manifest.fingerprint)


def _evaluation(train: Subject, test: Subject | None, method: str = "cosine_nn", **params: object) -> Evaluation:
    return Evaluation(MODEL, train, test, method, "1", params)


@pytest.mark.parametrize("method", ["euclidean_nn", "linear"])
def test_labels_are_matched_by_name_and_not_by_number(home: object, method: str) -> None:
    train = _split("train", [0, 1, 0, 1], ("a", "z"))
    test = _split("testing", [0, 0, 1], ("z", "zz"))
    measured = score_features(_evaluation(train, test, method), [LAST], 0.0)
    assert measured.metric == "accuracy"
    assert measured.value == pytest.approx(2 / 3)
    assert measured.per_row_correct is not None
    assert np.unpackbits(np.frombuffer(measured.per_row_correct, np.uint8), count=3).tolist() == [1, 1, 0]
    assert measured.n_test == 3
    assert measured.higher_is_better
    assert measured.layer == "last"
    assert measured.metrics == {"accuracy": measured.value}


def test_the_cost_includes_the_embedding(home: object) -> None:
    train, test = _split("train", [0, 1], ("a", "z")), _split("testing", [0, 1], ("a", "z"))
    assert 100 < score_features(_evaluation(train, test, "euclidean_nn"), [LAST], 100.0).cost_seconds < 110


def test_arguments_reach_the_ranker(home: object) -> None:
    train, test = _split("train", [0, 1], ("a", "z")), _split("testing", [0, 1], ("a", "z"))
    with pytest.raises(EvaluationError, match="k=3"):
        score_features(_evaluation(train, test, "euclidean_nn", k=3), [LAST], 0.0)


def test_missing_features_are_an_error(home: object) -> None:
    train, test = _split("train", [0, 1], ("a", "z")), _split("testing", [0, 1], ("a", "z"), store=False)
    with pytest.raises(StoreError, match="2 of 2 rows are missing"):
        score_features(_evaluation(train, test, "euclidean_nn"), [LAST], 0.0)


def test_the_majority_is_of_the_training_split(home: object) -> None:
    train = _split("train", [0, 1, 1], ("a", "z"), store=False)
    test = _split("testing", [0, 0, 0, 1], ("a", "z"), store=False)
    measured = score_majority(_evaluation(train, test))
    assert measured.value == 0.25
    assert measured.n_test == 4
    assert measured.per_row_correct == np.packbits([0, 0, 0, 1]).tobytes()


def test_the_majority_of_a_tie_is_the_first_class(home: object) -> None:
    train = _split("train", [1, 0], ("a", "z"), store=False)
    test = _split("testing", [0, 0, 1], ("a", "z"), store=False)
    assert score_majority(_evaluation(train, test)).value == pytest.approx(2 / 3)


def test_a_majority_class_the_test_split_lacks_is_never_right(home: object) -> None:
    train = _split("train", [1, 1], ("a", "z"), store=False)
    test = _split("testing", [0, 1], ("a", "b"), store=False)
    assert score_majority(_evaluation(train, test)).value == 0.0


def test_a_score_that_is_no_mean_over_rows_has_its_replicates(home: object) -> None:
    train, test = _split("train", [0, 1, 0, 1], ("a", "z")), _split("testing", [0, 0, 0, 1], ("a", "b"))
    measured = score_features(_evaluation(train, test, "linear", metric="macro_f1"), [LAST], 0.0)
    # The class b, which training lacks, has an F1 of 0; a has 1, or 6/7 when b is taken for it.
    assert measured.metric == "macro_f1"
    assert measured.value in (pytest.approx(1 / 3), pytest.approx(3 / 7))
    assert measured.metrics == {"macro_f1": measured.value}
    assert measured.n_test == 4
    assert measured.per_row_correct == np.packbits([1, 1, 1, 0]).tobytes()
    assert measured.replicates is not None
    assert np.frombuffer(measured.replicates, "<f4").shape == (REPLICATES,)


def test_the_majority_is_measured_by_the_metric_asked_for(home: object) -> None:
    train = _split("train", [0, 1, 1], ("a", "z"), store=False)
    test = _split("testing", [0, 0, 0, 1], ("a", "z"), store=False)
    measured = score_majority(replace(_evaluation(train, test), params={"metric": "balanced_accuracy"}))
    assert (measured.metric, measured.value) == ("balanced_accuracy", 0.5)
    assert measured.replicates is not None


def test_the_majority_needs_a_test_split(home: object) -> None:
    train = _split("train", [1, 1], ("a", "z"), store=False)
    with pytest.raises(EvaluationError, match="needs a test split"):
        score_majority(_evaluation(train, None))


def _store(view: View, split: Subject, vectors: np.ndarray) -> None:
    settings = current_settings()
    features = FeatureStore(settings.features)
    rows = load_manifest(settings.manifests, split.fingerprint).row_hashes
    features.write(features.key(MODEL.fingerprint, view), rows, vectors)


@pytest.mark.parametrize("method", ["linear", "euclidean_nn"])
def test_the_best_layer_is_chosen_on_training_rows_alone(home: object, method: str) -> None:
    """Layer 1 tells the training rows apart, layer 2 the test rows, which must not count."""
    random = np.random.default_rng(0)
    labels = [row % 2 for row in range(40)]
    train = _split("train", labels, ("a", "z"), store=False)
    test = _split("testing", labels, ("a", "z"), store=False)
    telling, noise = np.array(labels)[:, None] * np.array([[5.0, -5.0]]), random.normal(0, 1, (40, 2))
    for view, split, vectors in (
        (View("1"), train, telling + 0.1 * noise),
        (View("1"), test, noise),
        (View("2"), train, noise),
        (View("2"), test, telling),
    ):
        _store(view, split, vectors.astype(np.float32))
    measured = score_features(_evaluation(train, test, method, layer="best"), [View("2"), View("1")], 0.0)
    assert measured.layer == "1"
    assert measured.value is not None
    assert measured.value < 0.8


def _saved(labels: np.ndarray) -> Subject:
    task = "regression" if labels.ndim == 1 else "multilabel_classification"
    classes = () if labels.ndim == 1 else tuple("abc"[: labels.shape[1]])
    rows = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 16), dtype=np.uint8)
    manifest = Manifest(rows, labels, classes, task)
    save_manifest(current_settings().manifests, manifest)
    return Subject(task, manifest.fingerprint)


def _majority_of(known: np.ndarray, true: np.ndarray, **params: object) -> Measurement:
    """The baseline of two splits with these labels."""
    return score_majority(_evaluation(_saved(known), _saved(true), **params))


def test_the_majority_of_numbers_is_their_mean(home: object) -> None:
    measured = _majority_of(np.array([1.0, 2.0, 6.0]), np.array([3.0, 5.0]))
    assert measured.metric == "rmse"
    assert measured.value == pytest.approx(np.sqrt(2))
    assert not measured.higher_is_better
    assert measured.replicates is not None
    explained = _majority_of(np.array([1.0, 2.0]), np.array([3.0, 5.0]), metric="r2")
    assert explained.value < 0


def test_the_majority_of_several_labels_is_each_that_most_rows_have(
    home: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=bool)
    true = np.array([[1, 0, 0], [1, 1, 0]], dtype=bool)
    measured = _majority_of(known, true, metric="micro_f1")
    assert measured.value == pytest.approx(2 * 2 / (3 + 2))
    assert measured.per_row_correct == np.packbits([1, 0]).tobytes()


def _words(labels: list[int], lengths: list[int], seed: int) -> Subject:
    """A split of sentences whose words have features of their own."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, 256, (len(lengths), 16), dtype=np.uint8)
    manifest = Manifest(rows, np.array(labels), ("a", "z"), "token_classification", np.array(lengths))
    settings = current_settings()
    save_manifest(settings.manifests, manifest)
    features = FeatureStore(settings.features)
    features.write(features.key(MODEL.fingerprint), manifest.feature_hashes, random.normal(size=(len(labels), 3)))
    return Subject(f"words {seed}", manifest.fingerprint)


def _relabelled(split: Subject, labels: list[int]) -> Subject:
    settings = current_settings()
    manifest = replace(load_manifest(settings.manifests, split.fingerprint), labels=np.array(labels))
    save_manifest(settings.manifests, manifest)
    return Subject(split.name, manifest.fingerprint)


def _from_scratch(evaluation: Evaluation) -> Measurement:
    shutil.rmtree(current_settings().neighbours)
    return score_features(evaluation, [LAST], 0.0)


@pytest.mark.parametrize("method", ["euclidean_nn", "cosine_nn"])
@pytest.mark.parametrize("has_words", [False, True])
def test_changed_labels_read_no_feature(home: Path, method: str, has_words: bool) -> None:
    if has_words:
        train, test = _words([0, 1, 0, 1, 1, 0], [1, 3, 2], 0), _words([0, 1, 0], [2, 1], 1)
    else:
        train, test = _split("train", [0, 1, 0, 1, 1, 0], ("a", "z")), _split("testing", [0, 1, 0], ("a", "z"))
    score_features(_evaluation(train, test, method), [LAST], 0.0)
    changed = _evaluation(
        _relabelled(train, [0, 0, 1, 0, 1, 0]), _relabelled(test, [1, 1, 0]), method, metric="macro_f1"
    )
    features = current_settings().features
    features.rename(home / "elsewhere")
    measured = score_features(changed, [LAST], 0.0)
    (home / "elsewhere").rename(features)
    expected = _from_scratch(changed)
    assert (measured.value, measured.per_row_correct) == (expected.value, expected.per_row_correct)


def test_neighbours_of_another_distance_model_or_version_are_others(home: object) -> None:
    train, test = _split("train", [0, 1, 0, 1], ("a", "z")), _split("testing", [0, 1], ("a", "z"))
    asked = _evaluation(train, test, "euclidean_nn")
    score_features(asked, [LAST], 0.0)
    shutil.rmtree(current_settings().features)
    score_features(asked, [LAST], 0.0)
    for other in (
        replace(asked, method="cosine_nn"),
        replace(asked, model=Subject("model", "another")),
        replace(asked, version="2"),
    ):
        with pytest.raises(StoreError, match="missing"):
            score_features(other, [LAST], 0.0)
    with pytest.raises(StoreError, match="missing"):
        score_features(asked, [View("1")], 0.0)


@pytest.mark.parametrize("method", ["euclidean_nn", "cosine_nn"])
def test_features_that_are_not_finite_fail_as_they_do_with_every_ranker(home: object, method: str) -> None:
    train, test = _split("train", [0, 1], ("a", "z"), store=False), _split("testing", [0, 1], ("a", "z"))
    _store(LAST, train, np.array([[0.0, 1.0], [np.nan, 1.0]], dtype=np.float32))
    with pytest.raises(EvaluationError, match="training features hold NaN or infinity in 1 of 2 rows"):
        score_features(_evaluation(train, test, method), [LAST], 0.0)
