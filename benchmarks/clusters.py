"""Clusters of many models: seconds and memory, one model more, and agreement with comparing all with all.

    python benchmarks/clusters.py [--json] [MODELS]

By default 100,000 models x 50 datasets. Some are of families of very uneven sizes, one with a fifth of all models,
whose members differ by 0.1 to 3 points of accuracy; families differ by a general quality, five factors and themselves.
Others are models of the shipped `vision_1k`, each changed by 0.1 to 3 points. A pool is clustered in a process of its
own. For 2,000 models, agreement is the adjusted Rand index with exact average linkage, and the rank correlation of what
both recall; beside it, how far exact average linkage agrees with itself once accuracies change by 0.1 points.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from figures import Figures
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score

import shiftql
from shiftql.strategies.clustering import Clustering
from shiftql.strategies.clusters import approximate, exact, of_labels, recall

MODELS, DATASETS, THRESHOLD = 100_000, 50, 0.05
COMPARED = 2_000
ADDED = 50
# Shares of cells that are missing.
POOLS = {
    "families": 0.0,
    "families, 30 % missing": 0.3,
    "families, 60 % missing": 0.6,
    "vision_1k": 0.0,
    "vision_1k, 30 % missing": 0.3,
}
LIMITS = {
    f"{name}: {what}": limit for name in POOLS for what, limit in (("clusters", 60), ("memory", 4), ("recall", 2))
}
LIMITS |= {f"{name}: a model more, median": 0.1 for name in POOLS}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("models", nargs="?", type=int, default=MODELS)
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = arguments.parse_args()
    figures = Figures(LIMITS)
    for name in POOLS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            for what, value, unit in process.submit(scale, name, options.models).result():
                figures.add(f"{name}: {what}", value, unit)
        for what, value in agreement(name):
            figures.add(f"{name}: {what}", value, "")
    if options.json:
        print(json.dumps({"figures": figures.to_json()}))
    else:
        figures.show()


def scale(name: str, models: int) -> list[tuple[str, float, str]]:
    """Seconds and GiB of clustering a pool, of recalling from it, and of adding models to it."""
    accuracies = pool(name, models)
    before = time.perf_counter()
    clustering = Clustering(accuracies, THRESHOLD)
    clusters = clustering.clusters
    clustered = time.perf_counter()
    recall(accuracies, clusters, np.zeros(models), "representative")
    recalled = time.perf_counter()
    # The peak of the process, in KiB, or bytes on a Mac: imports and the pool itself count too.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (30 if sys.platform == "darwin" else 20)
    rows = pool(name, 2 * ADDED)
    # The first addition makes room for many.
    clustering.add(rows[0])
    seconds = []
    for row in rows[ADDED:]:
        started = time.perf_counter()
        clustering.representative(clustering.add(row))
        seconds.append(time.perf_counter() - started)
    return [
        ("clusters", clustered - before, "s"),
        ("memory", peak, "GiB"),
        ("recall", recalled - clustered, "s"),
        ("a model more, median", float(np.median(seconds)), "s"),
        ("a model more, slowest", max(seconds), "s"),
    ]


def agreement(name: str) -> list[tuple[str, float]]:
    """How far the shortcuts, and adding one by one, agree with comparing all with all."""
    accuracies, random = pool(name, COMPARED), np.random.default_rng(1)
    leep = random.normal(-1, 0.3, COMPARED)
    clustering = Clustering(accuracies[:0], THRESHOLD)
    for row in accuracies:
        clustering.add(row)
    one_by_one = np.array([clustering.members(model)[0] for model in range(COMPARED)])
    changed = exact(accuracies + random.normal(0, 0.001, accuracies.shape), THRESHOLD)
    truth, found = exact(accuracies, THRESHOLD), approximate(accuracies, THRESHOLD)
    scores = [recall(accuracies, of_labels(accuracies, each), leep, "representative") for each in (truth, found)]
    return [
        ("agreement", adjusted_rand_score(truth, found)),
        ("agreement of recall", spearmanr(*scores).statistic),
        ("agreement, added one by one", adjusted_rand_score(truth, one_by_one)),
        ("agreement of exact with 0.1 points off", adjusted_rand_score(truth, changed)),
    ]


def pool(name: str, models: int) -> np.ndarray:
    """Accuracies (models, datasets), NaN where missing."""
    random = np.random.default_rng(0)
    made = _families(models, random) if name.startswith("families") else _like_recorded(models, random)
    made[random.random(made.shape) < POOLS[name]] = np.nan
    return made


def _families(models: int, random: np.random.Generator) -> np.ndarray:
    count = max(models // 20, 1)
    centres = random.uniform(0.4, 0.85, DATASETS) + random.normal(0, 0.08, (count, 1))
    centres += random.normal(0, 1, (count, 5)) @ random.normal(0, 0.04, (5, DATASETS))
    centres += random.normal(0, 0.02, centres.shape)
    sizes = 1 / np.arange(1, count + 1) ** 0.8
    family = random.choice(count, models, p=sizes / sizes.sum())
    family[random.random(models) < 0.2] = 0
    spread = random.choice([0.001, 0.005, 0.015, 0.03], count)
    spread[0] = 0.015
    return np.clip(centres[family] + random.normal(0, 1, (models, DATASETS)) * spread[family][:, None], 0.01, 0.99)


def _like_recorded(models: int, random: np.random.Generator) -> np.ndarray:
    table = pd.read_csv(Path(shiftql.__file__).parent / "records" / "vision_1k.csv")
    recorded = table.pivot_table(index="model", columns="dataset", values="test_accuracy", aggfunc="max").to_numpy()
    recorded = recorded[:, np.arange(DATASETS) % recorded.shape[1]]
    recorded = recorded + random.normal(0, 0.02, recorded.shape)
    spread = random.choice([0.001, 0.01, 0.03], (models, 1))
    drawn = recorded[random.integers(0, len(recorded), models)]
    return np.clip(drawn + random.normal(0, 1, drawn.shape) * spread, 0.01, 0.99)


if __name__ == "__main__":
    main()
