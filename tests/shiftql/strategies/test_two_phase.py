"""Two-phase selection that is made anew for the same models and history."""

from __future__ import annotations

import numpy as np
import pytest

from shiftql.strategies import two_phase
from shiftql.strategies.base import Arm, History, Offer, Problem
from shiftql.strategies.two_phase import TwoPhase
from storage.evaluations import Evaluation, Subject

TRAIN = Subject("target", "target")


def _problem(reached: np.ndarray) -> Problem:
    models = [Subject(f"m{number}", f"m{number}") for number in range(len(reached))]
    arms = [Arm(model, (Offer("finetune", Evaluation(model, TRAIN, None, "finetune", "1"), 1.0),)) for model in models]
    datasets = tuple(f"d{number}" for number in range(reached.shape[1]))
    history = History(tuple(model.name for model in models), datasets, reached, reached, {}, {})
    return Problem("target", arms, history)


def test_many_models_are_clustered_once_for_the_same_history_and_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    clustered: list[float] = []
    cluster = two_phase.cluster

    def count(known: np.ndarray, threshold: float) -> object:
        clustered.append(threshold)
        return cluster(known, threshold)

    monkeypatch.setattr(two_phase, "cluster", count)
    monkeypatch.setattr(two_phase, "COMPARED", 20)
    reached = np.random.default_rng(0).uniform(0.5, 0.6, (30, 8))
    asked = [[each.model.name for each in TwoPhase(_problem(reached), k=3).ask(9)] for _ in range(2)]
    assert asked[0] == asked[1]
    assert clustered == [0.05]
    TwoPhase(_problem(reached), threshold=0.01)
    TwoPhase(_problem(reached + 0.1))
    assert clustered == [0.05, 0.01, 0.05]
