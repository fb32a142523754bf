"""Scoring stored features with a ranker: the evaluation behind every proxy ranking."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from storage.derivation import first_rows
from storage.errors import EvaluationError
from storage.evaluations import Evaluation, Measurement, Subject
from storage.features import FeatureStore, open_features
from storage.manifests import Manifest, comparable_targets, load_manifest
from storage.neighbours import SearchStore
from storage.settings import current_settings
from storage.views import PROBABILITIES, View
from tasks.neighbours import find_neighbours
from tasks.rankers import get_ranker
from tasks.rankers.base import Ranker, Score
from tasks.rankers.metrics import score_predictions
from tasks.rankers.nearest_neighbour import EuclideanNN

# Of the training rows this share stands in for the test split where a view has to be chosen.
_INNER_SHARE = 5


def score_features(evaluation: Evaluation, views: Sequence[View], embed_seconds: float) -> Measurement:
    """Score a model whose features are stored; the cost is the embedding's seconds and the ranker's.

    Of several views that one is scored which does best on the training rows alone. Raises EvaluationError when the
    ranker cannot score these features, LostFeaturesError when some are missing.
    """
    started = time.perf_counter()
    settings = current_settings()
    store = open_features(settings)
    ranker = get_ranker(evaluation.method, **evaluation.params)

    def features(manifest: Manifest, view: View) -> np.ndarray:
        return store.read(store.key(evaluation.model.fingerprint, view), manifest.feature_hashes)

    def split(subject: Subject, rows: int | None) -> Manifest:
        manifest = load_manifest(settings.manifests, subject.fingerprint)
        return manifest if rows is None else manifest.take(np.sort(first_rows(manifest, rows)))

    train = split(evaluation.train, evaluation.fidelity.get("rows"))
    test = split(evaluation.test, evaluation.fidelity.get("test_rows")) if evaluation.test else None
    train_y, test_y = (train.targets, None) if test is None else comparable_targets(train, test)
    # The other cores embed with the next model meanwhile.
    with threadpool_limits(1):
        view = views[0]
        if len(views) > 1:
            trials = {each: _trial(ranker, features(train, each), train_y, test is not None) for each in views}
            view = max(trials, key=lambda each: trials[each])
        score = None
        if isinstance(ranker, EuclideanNN) and test is not None:
            score = _score_of_neighbours(ranker, evaluation, store, view, train, test)
        if score is None:
            train_x = features(train, view)
            if test is not None:
                score = ranker.score(train_x, train_y, features(test, view), test_y)
            else:
                probabilities = train_x if view == PROBABILITIES else None
                score = ranker.score(train_x, train_y, source_probabilities=probabilities)
    seconds = embed_seconds + time.perf_counter() - started
    return _measurement(score, seconds, None if test_y is None else len(test_y), view.layer)


def _score_of_neighbours(
    ranker: EuclideanNN, evaluation: Evaluation, store: FeatureStore, view: View, train: Manifest, test: Manifest
) -> Score | None:
    """The ranker's score, with what was searched before gone on with; None where that is left to the ranker itself."""
    key = store.key(evaluation.model.fingerprint, view)
    neighbours = find_neighbours(
        SearchStore(current_settings().neighbours),
        f"{key}/{evaluation.method}-{evaluation.version}",
        train.feature_hashes,
        test.feature_hashes,
        ranker.k,
        cosine=ranker.is_cosine,
        features=lambda hashes: store.read(key, hashes),
    )
    return None if neighbours is None else ranker.score_neighbours(neighbours, *comparable_targets(train, test))


def _trial(ranker: Ranker, x: np.ndarray, y: np.ndarray, needs_test: bool) -> float:
    """How well features do on the training rows, higher is better: on every fifth by class where a test is needed."""
    try:
        if needs_test:
            random = np.random.default_rng(0).random(len(y))
            held_out = np.zeros(len(y), dtype=bool)
            held_out[np.lexsort((random, y) if y.ndim == 1 else (random,))[_INNER_SHARE // 2 :: _INNER_SHARE]] = True
            score = ranker.score(x[~held_out], y[~held_out], x[held_out], y[held_out])
        else:
            score = ranker.score(x, y)
    except EvaluationError:
        return -np.inf
    return score.value if score.higher_is_better else -score.value


def score_majority(evaluation: Evaluation) -> Measurement:
    """The score of the answer that needs no features: the most frequent training class, the first of several.

    Of several labels, each that most training rows have; of numbers, the mean of the training rows. By the metric
    that the evaluation's parameters name, or else by that of the labels.
    """
    started = time.perf_counter()
    if evaluation.test is None:
        raise EvaluationError("the majority baseline needs a test split", fix="add TESTED ON …")
    root = current_settings().manifests
    train = load_manifest(root, evaluation.train.fingerprint)
    known, true = comparable_targets(train, load_manifest(root, evaluation.test.fingerprint))
    metric = evaluation.params.get("metric")
    if known.ndim == 2:
        most = 2 * known.sum(axis=0) > len(known)
        score = score_predictions("multilabel classification", metric, true, np.broadcast_to(most, true.shape))
    elif known.dtype.kind == "f":
        score = score_predictions("regression", metric, true, np.full(len(true), known.mean()))
    else:
        most_frequent = train.classes[int(np.bincount(train.labels).argmax())]
        codes = np.unique(np.append(true, most_frequent), return_inverse=True)[1]
        score = score_predictions("classification", metric, codes[:-1], np.full(len(true), codes[-1]))
    return _measurement(score, time.perf_counter() - started, len(true))


def _measurement(score: Score, seconds: float, n_test: int | None, layer: str | None = None) -> Measurement:
    correct, replicates = score.per_row_correct, score.replicates
    return Measurement(
        status="completed",
        cost_seconds=seconds,
        metric=score.metric,
        value=score.value,
        higher_is_better=score.higher_is_better,
        n_test=n_test,
        per_row_correct=None if correct is None else np.packbits(correct).tobytes(),
        replicates=None if replicates is None else replicates.astype("<f4").tobytes(),
        layer=layer,
        metrics={score.metric: score.value},
    )
