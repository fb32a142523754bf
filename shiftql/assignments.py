"""Assignments: the new evaluations of a step, or some of them, with all it takes to compute them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from shiftql.plan import Embedding, Finetune, PlannedEvaluation, Rank, Split, Step
from storage.evaluations import Evaluation

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True)
class Assignment:
    """Evaluations that are not known yet, in the order of their plan, and the forward passes that they rest on.

    `train` and `test` are what models are ranked on; None where each evaluation has its own `parts`.
    """

    evaluations: tuple[PlannedEvaluation, ...]
    embeddings: tuple[Embedding, ...]
    train: Split | None
    test: Split | None

    @property
    def new_evaluations(self) -> tuple[Evaluation, ...]:
        return tuple(planned.evaluation for planned in self.evaluations)

    def of(self, fingerprints: Collection[str]) -> Assignment:
        """The part of it that has these evaluations, and what their models are embedded for."""
        evaluations = tuple(each for each in self.evaluations if each.evaluation.fingerprint in fingerprints)
        models = {planned.evaluation.model for planned in evaluations}
        return replace(
            self,
            evaluations=evaluations,
            embeddings=tuple(embedding for embedding in self.embeddings if embedding.model in models),
        )

    @property
    def json(self) -> dict[str, Any]:
        """The assignment as it travels to other machines."""
        return _adapter().dump_python(self, mode="json", exclude_defaults=True)

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> Assignment:
        """What `json` wrote. Raises ValueError for anything else."""
        return _adapter().validate_python(written)


def assignment_of(plan: Step) -> Assignment:
    """What is new of a step. Copies of a model are evaluated once: the first is the one that is embedded with."""
    new: dict[str, PlannedEvaluation] = {}
    for evaluate in plan.evaluates:
        for planned in evaluate.evaluations:
            if not planned.known:
                new.setdefault(planned.evaluation.fingerprint, planned)
    return Assignment(
        tuple(new.values()),
        plan.all_embeddings,
        plan.train if isinstance(plan, Rank | Finetune) else None,
        plan.test if isinstance(plan, Rank) else None,
    )


@cache
def _adapter() -> TypeAdapter[Assignment]:
    from pydantic import TypeAdapter

    return TypeAdapter(Assignment)
