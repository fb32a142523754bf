"""A training in rungs: it goes on from its longest checkpoint, and n rungs are one long run, bit for bit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from storage.checkpoints import Checkpoint, CheckpointStore
from tasks.finetuning.examples import Examples
from tasks.finetuning.measuring import Validation

_PROGRESS = "progress.json"
# Of the time that training takes, checkpoints on the way take a twentieth at most; within these bounds, in seconds, a
# training that is cut short loses no more than lies between two of them.
_TIMES_A_SAVE = 20
_SOONEST, _LATEST = 2.0, 60.0


class Diverged(Exception):
    """The loss is not finite, or without bounds; the message is the reason for people."""


class Training(Protocol):
    """What is trained. Nothing but the epoch's number and what `save` writes decides how it goes on."""

    def train(self, epoch: int) -> Mapping[str, float]:
        """Train the epoch of that number, from 0; figures of it by name. Raises Diverged."""
        ...

    def validate(self) -> Validation:
        """How well the weights as they are predict the validation part."""
        ...

    def scores(self, examples: Examples) -> np.ndarray:
        """(labels, outputs) float32 that the weights as they are say of rows."""
        ...

    def keep_best(self) -> None:
        """Keep the weights as they are: none were better so far."""
        ...

    def save(self, directory: Path, goes_on: bool) -> None:
        """Write the best weights and, where training may go on, all else that it takes."""
        ...

    def load(self, directory: Path, goes_on: bool) -> None:
        """Be as when that was saved; what is only needed to go on is left unread where it does not."""
        ...

    def use_best(self) -> None:
        """Take the best weights; it does not go on then."""
        ...


Trained = TypeVar("Trained", bound=Training)


@dataclass(frozen=True)
class Progress:
    """What came of the epochs so far: the metric on the validation part, figures, and when each ended (since 1970)."""

    higher_is_better: bool
    curve: tuple[float, ...] = ()
    is_constant: tuple[bool, ...] = ()
    figures: tuple[Mapping[str, float], ...] = ()
    ended: tuple[float, ...] = ()

    @property
    def epochs(self) -> int:
        return len(self.curve)

    @property
    def best(self) -> int:
        """The epoch with the best value, from 0; the first of several."""
        pick = max if self.higher_is_better else min
        return self.curve.index(pick(self.curve))

    @property
    def has_collapsed(self) -> bool:
        """Whether even the best weights tell the whole validation part alike, wrongly."""
        return self.is_constant[self.best]

    def is_over(self, patience: int | None) -> bool:
        """Whether nothing got better for `patience` epochs."""
        return bool(patience and self.curve and self.epochs - 1 - self.best >= patience)

    def after(self, validation: Validation, figures: Mapping[str, float], ended: float) -> Progress:
        return Progress(
            self.higher_is_better,
            (*self.curve, validation.value),
            (*self.is_constant, validation.is_constant),
            (*self.figures, figures),
            (*self.ended, ended),
        )

    def until(self, epochs: int) -> Progress:
        curve, is_constant = self.curve[:epochs], self.is_constant[:epochs]
        return Progress(self.higher_is_better, curve, is_constant, self.figures[:epochs], self.ended[:epochs])


@dataclass(frozen=True)
class Schedule:
    """How long a training may last in all; it is over where nothing got better for `patience` epochs."""

    epochs: int
    patience: int | None = None


@dataclass
class Run(Generic[Trained]):
    """A training by its key, to be used while its checkpoints are `in_use`.

    `build` makes the training as it begins, when that is first needed; `tell` hears of every epoch's progress.
    `epochs_trained` are those of this run, without what the checkpoint has behind it.
    """

    checkpoints: CheckpointStore
    key: str
    schedule: Schedule
    higher_is_better: bool
    build: Callable[[], Trained]
    tell: Callable[[Progress], None] = lambda progress: None
    epochs_trained: int = 0

    def reach(self, epochs: int) -> Progress:
        """Train until so many epochs are behind, or it is over; only what no checkpoint has. Raises Diverged."""
        progress, checkpoint = self._known()
        if progress.epochs < epochs and not self._is_over(progress):
            progress = self._go_on(progress, epochs, self._opened(checkpoint, goes_on=True))
        return progress.until(epochs)

    def finish(self, epochs: int | None = None) -> tuple[Progress, Trained]:
        """The same, of None to the end, and the training with its best weights by then. Raises Diverged."""
        epochs = self.schedule.epochs if epochs is None else epochs
        progress, checkpoint = self._known()
        if progress.epochs > epochs:
            # What a longer training has kept may be better.
            return self._anew(epochs)
        goes_on = progress.epochs < epochs and not self._is_over(progress)
        training = self._opened(checkpoint, goes_on)
        if goes_on:
            progress = self._go_on(progress, epochs, training)
        training.use_best()
        return progress, training

    def _anew(self, epochs: int) -> tuple[Progress, Trained]:
        """Trained so far once more, without a checkpoint."""
        training, progress = self.build(), Progress(self.higher_is_better)
        while progress.epochs < epochs and not self._is_over(progress):
            progress = self._epoch(progress, training)
        training.use_best()
        return progress, training

    def _epoch(self, progress: Progress, training: Training) -> Progress:
        figures = training.train(progress.epochs)
        self.epochs_trained += 1
        progress = progress.after(training.validate(), figures, time.time())
        if progress.best == progress.epochs - 1:
            training.keep_best()
        return progress

    def _known(self) -> tuple[Progress, Checkpoint | None]:
        checkpoint = self.checkpoints.latest(self.key)
        if checkpoint is None:
            return Progress(self.higher_is_better), None
        written = json.loads((checkpoint.directory / _PROGRESS).read_text())
        lists = {name: tuple(value) for name, value in written.items() if isinstance(value, list)}
        return Progress(**{**written, **lists}), checkpoint

    def _opened(self, checkpoint: Checkpoint | None, goes_on: bool) -> Trained:
        training = self.build()
        if checkpoint is not None:
            training.load(checkpoint.directory, goes_on)
        return training

    def _is_over(self, progress: Progress) -> bool:
        return progress.epochs >= self.schedule.epochs or progress.is_over(self.schedule.patience)

    def _go_on(self, progress: Progress, epochs: int, training: Training) -> Progress:
        saved, wait = time.monotonic(), _SOONEST
        while progress.epochs < epochs and not self._is_over(progress):
            progress = self._epoch(progress, training)
            self.tell(progress)
            if (now := time.monotonic()) - saved > wait:
                self._save(progress, training)
                saved = time.monotonic()
                wait = min(max(_TIMES_A_SAVE * (saved - now), _SOONEST), _LATEST)
        self._save(progress, training)
        return progress

    def _save(self, progress: Progress, training: Training) -> None:
        with self.checkpoints.save(self.key, progress.epochs) as directory:
            training.save(directory, goes_on=not self._is_over(progress))
            (directory / _PROGRESS).write_text(json.dumps(asdict(progress)))
