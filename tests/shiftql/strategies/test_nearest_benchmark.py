"""Which dataset is near is told by a profile: of a proxy's scores, or of what some models reach."""

from __future__ import annotations

import numpy as np

from shiftql.strategies.base import Arm, History, Offer, Problem
from shiftql.strategies.nearest_benchmark import NearestBenchmark
from storage.evaluations import Evaluation, Measurement, Subject

NAMES = ("a", "b", "c", "d")


def _evaluation(name: str, method: str) -> Evaluation:
    return Evaluation(Subject(name, name), Subject("target", "t"), None, method, "1")


def test_a_proxy_s_profile_names_the_dataset_whose_best_model_is_trained() -> None:
    reached = np.array([[0.9, 0.1], [0.5, 0.2], [0.4, 0.3], [0.1, 0.8]])
    # The proxy turns the order of the first dataset round, and is close to what it says of the target.
    proxies = np.array([[0.1, 0.3], [0.2, 0.2], [0.3, 0.9], [0.4, 0.1]])
    history = History(NAMES, ("near", "far"), reached, reached, {"linear": proxies}, {})
    arms = [
        Arm(
            Subject(name, name),
            (Offer("finetune", _evaluation(name, "finetune"), 1.0),),
            (Offer("linear", _evaluation(name, "linear"), 0.1),),
        )
        for name in NAMES
    ]
    strategy = NearestBenchmark(Problem("target", arms, history), k=1, proxy="linear")
    asked = strategy.ask(9)
    assert [each.method for each in asked] == ["linear"] * 4
    for number, each in enumerate(asked):
        strategy.tell({each.fingerprint: Measurement("completed", 0.1, "accuracy", 0.5 + number / 10)})
    assert [(each.model.name, each.method) for each in strategy.ask(9)] == [("a", "finetune")]
