"""When a training on its way is saved, by a clock of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from storage.checkpoints import CheckpointStore
from storage.settings import current_settings
from tasks.finetuning import runs
from tasks.finetuning.examples import Examples
from tasks.finetuning.measuring import Validation
from tasks.finetuning.runs import Run, Schedule


class Slow:
    """A training of which epochs and saving take so many seconds, until it is cut short."""

    def __init__(self, epoch_seconds: float, save_seconds: float, cut_short_in: int) -> None:
        self.now, self.saves = 0.0, 0
        self._epoch_seconds, self._save_seconds, self._cut_short_in = epoch_seconds, save_seconds, cut_short_in

    def train(self, epoch: int) -> Mapping[str, float]:
        if epoch == self._cut_short_in:
            raise KeyboardInterrupt
        self.now += self._epoch_seconds
        return {}

    def validate(self) -> Validation:
        return Validation(0.5, is_constant=False)

    def scores(self, examples: Examples) -> np.ndarray:
        raise NotImplementedError

    def keep_best(self) -> None: ...

    def save(self, directory: Path, goes_on: bool) -> None:
        self.saves += 1
        self.now += self._save_seconds

    def load(self, directory: Path, goes_on: bool) -> None: ...

    def use_best(self) -> None: ...


@pytest.fixture
def checkpoints(home: Path) -> CheckpointStore:
    return CheckpointStore(current_settings())


def _cut_short(training: Slow, checkpoints: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> int:
    """Train until it is cut short; the epochs of the checkpoint that is left."""
    run = Run(checkpoints, "k", Schedule(1000), higher_is_better=True, build=lambda: training)
    monkeypatch.setattr(runs.time, "monotonic", lambda: training.now)
    with checkpoints.in_use("k"), pytest.raises(KeyboardInterrupt):
        run.reach(1000)
    return checkpoints.epochs("k")


def test_where_saving_is_quick_a_training_that_is_cut_short_loses_seconds(
    checkpoints: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _cut_short(Slow(1.0, 0.01, cut_short_in=20), checkpoints, monkeypatch) >= 17


@pytest.mark.parametrize("save_seconds", [0.5, 2.5])
def test_saving_on_the_way_takes_little_of_the_time(
    checkpoints: CheckpointStore, monkeypatch: pytest.MonkeyPatch, save_seconds: float
) -> None:
    training = Slow(1.0, save_seconds, cut_short_in=300)
    assert _cut_short(training, checkpoints, monkeypatch) >= 240
    assert training.saves * save_seconds <= 300 / 20 + save_seconds
