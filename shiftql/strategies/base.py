"""The contract of a strategy: which evaluation is run next, and when it is enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from storage.evaluations import Evaluation, Measurement, Subject

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Offer:
    """An evaluation that can be bought. `kind` is its method and fidelity, the same for all models; `seconds` is what
    it is predicted to cost on top of what it goes on from."""

    kind: str
    evaluation: Evaluation
    seconds: float


@dataclass(frozen=True)
class Arm:
    """A model that may be chosen.

    `rungs` are its evaluations by rising fidelity, each going on from the one before: models are ranked by the last.
    `hints` are others that tell something of it: proxies, or cheaper runs that nothing goes on from. `glances` are the
    first of these on fewer rows, by rising number.
    """

    model: Subject
    rungs: tuple[Offer, ...]
    hints: tuple[Offer, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    glances: tuple[Offer, ...] = ()

    @property
    def final(self) -> Evaluation:
        return self.rungs[-1].evaluation


@dataclass(frozen=True, eq=False)
class History:
    """What models brought on other datasets: arrays (models, datasets), higher is better, NaN where nothing is known.

    `reached` is what fully trained models were ranked by there, and `tested` their accuracy on the test split; `seen`
    is, by kind of evaluation, what whoever chooses sees of it, and `seconds` what it took.
    """

    models: tuple[str, ...]
    datasets: tuple[str, ...]
    reached: np.ndarray
    tested: np.ndarray
    seen: Mapping[str, np.ndarray]
    seconds: Mapping[str, np.ndarray]


def no_history() -> History:
    """Nothing is known of any model elsewhere."""
    import numpy as np

    nothing = np.empty((0, 0))
    return History((), (), nothing, nothing, {}, {})


@dataclass(frozen=True, eq=False)
class Problem:
    """Models to choose from for a target dataset, and what is known of models elsewhere, by their names.

    From one glance to the next one of `eta` arms goes on.
    """

    target: str
    arms: Sequence[Arm]
    history: History
    eta: int = 2

    @property
    def kind(self) -> str | None:
        """What the models are ranked by."""
        return self.arms[0].rungs[-1].kind if self.arms else None


@dataclass(frozen=True)
class Ranked:
    """A model in an answer: its utility, measured or predicted, and the 90 % interval of what it will reach."""

    model: Subject
    utility: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Answer:
    """The ranking so far, best first. `chance` is the probability that the first is within 1 % of the best there is."""

    ranking: tuple[Ranked, ...]
    chance: float | None = None


class Strategy(Protocol):
    """Ask and tell, without any input or output of its own, so that live runs and replays drive the same object."""

    def ask(self, count: int) -> Sequence[Evaluation]:
        """Up to `count` evaluations wanted now, none of them asked for before; empty when it waits or is done."""
        ...

    def tell(self, results: Mapping[str, Measurement]) -> None:
        """Results by fingerprint, asked for or known from before."""
        ...

    def answer(self) -> Answer:
        """The models it would recommend by what it was told."""
        ...


def rank(evaluations: Iterable[Evaluation], results: Mapping[str, Measurement]) -> tuple[Ranked, ...]:
    """The models of evaluations that were completed, best first; equal ones in the order of their names."""
    completed = [
        Ranked(evaluation.model, result.utility)
        for evaluation in evaluations
        if (result := results.get(evaluation.fingerprint)) is not None and result.status == "completed"
    ]
    return tuple(sorted(completed, key=lambda each: (-each.utility, each.model.name)))
