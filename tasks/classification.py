"""Scoring stored features with a ranker: the evaluation behind every proxy ranking."""

from __future__ import annotations

import time

import numpy as np
from threadpoolctl import threadpool_limits

from storage.errors import EvaluationError
from storage.evaluations import Evaluation, Measurement, Subject
from storage.features import FeatureStore
from storage.manifests import load_manifest
from storage.settings import current_settings
from storage.views import LAST
from tasks.rankers import get_ranker
from tasks.rankers.base import Score
from tasks.rankers.metrics import score_classes


def score_features(evaluation: Evaluation, embed_seconds: float) -> Measurement:
    """Score a model whose features are stored; the cost is the embedding's seconds and the ranker's.

    Raises EvaluationError when the ranker cannot score these features, StoreError when some are missing.
    """
    ranker = get_ranker(evaluation.method, **evaluation.params)
    started = time.perf_counter()
    settings = current_settings()
    store = FeatureStore(settings.features)
    key = store.key(evaluation.model.fingerprint)

    def split(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
        manifest = load_manifest(settings.manifests, subject.fingerprint)
        return store.read(key, manifest.row_hashes), manifest.targets

    test_x, test_y = split(evaluation.test) if evaluation.test else (None, None)
    # The other cores embed with the next model meanwhile.
    with threadpool_limits(1):
        score = ranker.score(*split(evaluation.train), test_x, test_y)
    seconds = embed_seconds + time.perf_counter() - started
    return _measurement(score, seconds, None if test_y is None else len(test_y), LAST.layer)


def score_majority(evaluation: Evaluation) -> Measurement:
    """The score of always answering with the most frequent training class, the first of several.

    By the metric that the evaluation's parameters name, or else by accuracy.
    """
    started = time.perf_counter()
    if evaluation.test is None:
        raise EvaluationError("the majority baseline needs a test split", fix="add TESTED ON …")
    root = current_settings().manifests
    train = load_manifest(root, evaluation.train.fingerprint)
    test = load_manifest(root, evaluation.test.fingerprint)
    most_frequent = train.classes[int(np.bincount(train.labels).argmax())]
    codes = np.unique(np.append(test.targets, most_frequent), return_inverse=True)[1]
    rows = len(test.labels)
    score = score_classes(evaluation.params.get("metric", "accuracy"), codes[:-1], np.full(rows, codes[-1]))
    return _measurement(score, time.perf_counter() - started, rows)


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
