"""A collapsed run gets a second chance on another seed before its model is blamed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from shiftql.strategies.base import Answer, Strategy
from storage.evaluations import Evaluation, Measurement, Subject


class Retried:
    """A strategy that is told of a collapsed evaluation only once its retry is known: the better of both.

    `evaluations` are those that may be retried. About one fine-tuning in twenty collapses for no reason that the model
    is to blame for: on another seed it mostly does well.
    """

    def __init__(self, strategy: Strategy, evaluations: Iterable[Evaluation]) -> None:
        self._strategy = strategy
        self._evaluations = {evaluation.fingerprint: evaluation for evaluation in evaluations}
        self._told: dict[str, Measurement] = {}
        # By fingerprint of what collapsed.
        self._retries: dict[str, Evaluation] = {}
        self._waiting: list[Evaluation] = []

    def ask(self, count: int) -> Sequence[Evaluation]:
        wanted, self._waiting = self._waiting[:count], self._waiting[count:]
        return [*wanted, *self._strategy.ask(count - len(wanted))] if len(wanted) < count else wanted

    def tell(self, results: Mapping[str, Measurement]) -> None:
        self._told |= results
        for fingerprint, result in results.items():
            evaluation = self._evaluations.get(fingerprint)
            retry = second_chance(evaluation) if evaluation is not None and result.collapsed else None
            if retry is not None and fingerprint not in self._retries:
                self._retries[fingerprint] = retry
                if retry.fingerprint not in self._told:
                    self._waiting.append(retry)
        self._waiting = [each for each in self._waiting if each.fingerprint not in self._told]
        settled = {fingerprint: result for fingerprint, result in results.items() if fingerprint not in self._retries}
        for fingerprint, retry in self._retries.items():
            if retry.fingerprint in self._told and fingerprint in self._told:
                settled[fingerprint] = max(
                    self._told[fingerprint], self._told[retry.fingerprint], key=lambda result: result.utility
                )
        self._strategy.tell(settled)

    def answer(self) -> Answer:
        return self._strategy.answer()


def run_of(evaluation: Evaluation) -> tuple[Subject, str, str]:
    """What an evaluation and its second chance have in common."""
    return evaluation.model, evaluation.method, str(evaluation.fidelity)


def second_chance(evaluation: Evaluation) -> Evaluation | None:
    """The same evaluation on the next seed; None where no seed is part of it."""
    if "seed" not in evaluation.params:
        return None
    return replace(evaluation, params={**evaluation.params, "seed": evaluation.params["seed"] + 1})
