"""Nearest neighbours of a dataset that changed, beside a search from scratch: seconds of one evaluation.

    python benchmarks/neighbours.py [ROWS DIMENSIONS]

By default 5,000 training and 1,000 test rows of 768 float32 features, stored as queries store them; the time is that of
`score_features`, reading included. The questions take turns, 5 times, on one thread as in production, and the fastest
counts: from scratch, and with what the first question kept to go on with. The ranker alone reads all features, and
keeps nothing; every score is compared with its own.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import time
from tempfile import TemporaryDirectory

import numpy as np
from rankers import REPEATS, TEST_ROWS, features
from threadpoolctl import threadpool_limits

from storage.evaluations import Evaluation, Subject
from storage.features import FeatureStore
from storage.manifests import Manifest, save_manifest
from storage.settings import current_settings
from storage.views import LAST
from tasks.classification import score_features
from tasks.rankers import get_ranker

MODEL = Subject("model", "model")
CLASSES = tuple(f"class {number:02}" for number in range(20))


def measure(rows: int, dimensions: int, method: str) -> None:
    settings, few = current_settings(), rows // 100
    x, labels = features(2 * rows + 2 * TEST_ROWS, dimensions, len(CLASSES))
    hashes = np.random.default_rng(0).integers(0, 256, (len(x), 16), dtype=np.uint8)
    store = FeatureStore(settings.features)
    key = store.key(MODEL.fingerprint)
    # What was new was embedded later, and so lies elsewhere.
    edges = (0, rows, rows + few, len(x) - 2 * TEST_ROWS, len(x))
    for part in itertools.starmap(slice, itertools.pairwise(edges)):
        store.write(key, hashes[part], x[part])

    every = np.arange(len(x))
    train, more, test = every[:rows], every[rows : rows + few], every[-TEST_ROWS:]
    relabelled = np.where(every % 100 == 0, (labels + 1) % len(CLASSES), labels)
    questions = {
        "first question": (train, test, labels),
        "1 % of labels changed": (train, test, relabelled),
        "1 % appended": (np.append(train, more), test, labels),
        "1 % replaced": (np.concatenate([train[: rows // 2], more, train[rows // 2 + few :]]), test, labels),
        "1 % of test rows replaced": (train, test - TEST_ROWS // 100, labels),
        "half replaced": (train + rows // 2, test, labels),
        "all replaced": (train + rows, test, labels),
    }

    def evaluation(name: str) -> Evaluation:
        subjects = []
        for numbers in questions[name][:2]:
            manifest = Manifest(hashes[numbers], questions[name][2][numbers], CLASSES)
            save_manifest(settings.manifests, manifest)
            subjects.append(Subject("split", manifest.fingerprint))
        return Evaluation(MODEL, *subjects, method, "1")

    def alone(name: str) -> float:
        train, test, labels = questions[name]
        train_x, test_x = (store.read(key, hashes[numbers]) for numbers in (train, test))
        return get_ranker(method).score(train_x, labels[train], test_x, labels[test]).value

    expected = {name: alone(name) for name in questions}
    evaluations, first = {name: evaluation(name) for name in questions}, "first question"
    kept = settings.home / "kept"

    def timed(name: str) -> float:
        started = time.perf_counter()
        value = score_features(evaluations[name], [LAST], 0.0).value
        seconds = time.perf_counter() - started
        assert value == expected[name], f"{name}: {value} is not {expected[name]}"
        return seconds

    columns: dict[str, list[list[float]]] = {name: [[], []] for name in questions}
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        alone(first)
        seconds.append(time.perf_counter() - started)
        for name in questions:
            shutil.rmtree(settings.neighbours, ignore_errors=True)
            columns[name][0].append(timed(name))
            if name == first:
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(settings.neighbours, kept)
            else:
                shutil.rmtree(settings.neighbours)
                shutil.copytree(kept, settings.neighbours)
                columns[name][1].append(timed(name))
    print(f"{method}, {rows:,} x {dimensions}, {TEST_ROWS:,} test rows; the ranker alone {min(seconds):.2f} s")
    print(f"{'':28}{'from scratch':>14}{'gone on with':>14}")
    for name in questions:
        print(f"  {name:26}" + "".join(f"{min(measured):12.2f} s" for measured in columns[name] if measured))


if __name__ == "__main__":
    rows, dimensions = map(int, sys.argv[1:3] or (5000, 768))
    for method in ("euclidean_nn", "cosine_nn"):
        with TemporaryDirectory() as home, threadpool_limits(1):
            os.environ["SHIFT_HOME"] = home
            measure(rows, dimensions, method)
