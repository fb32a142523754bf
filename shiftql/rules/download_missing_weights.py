"""Models with work to do whose files are not on this machine are downloaded first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from shiftql.plan import Download, Embed, Evaluate, Step
from shiftql.rules.knowledge import Knowledge
from storage.evaluations import Subject

# Methods that open the model itself rather than its features.
_ON_THE_MODEL = {"finetune", "task2vec"}
_Plan = TypeVar("_Plan", bound=Step)


def download_missing_weights(plan: _Plan, knowledge: Knowledge) -> _Plan:
    """Put the download of what is missing below the plan."""
    at_work = {model for evaluate in plan.evaluates for model in _opened(evaluate)}
    missing = tuple(weights for weights in knowledge.missing_weights if weights.model in at_work)
    return replace(plan, download=Download(missing, knowledge.bytes_per_second) if missing else None)


def _opened(evaluate: Evaluate) -> Iterator[Subject]:
    """The models that computing the evaluations has to open."""
    if isinstance(evaluate.below, Embed):
        yield from (embedding.model for embedding in evaluate.below.embeddings if embedding.new_rows)
    yield from (
        planned.evaluation.model
        for planned in evaluate.evaluations
        if not planned.known and planned.evaluation.method in _ON_THE_MODEL
    )
