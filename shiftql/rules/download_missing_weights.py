"""Models with work to do whose files are not on this machine are downloaded first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from shiftql.plan import Distances, Download, Embed, Evaluate, Finetune, PlanNode, Query, Rank, Step
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.rewriting import PlanT, rewrite
from storage.evaluations import Subject

# Methods that open the model itself rather than its features.
_ON_THE_MODEL = {"finetune", "task2vec"}


def download_missing_weights(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Put the download of what is missing below what needs it."""

    def fetch(step: PlanNode) -> PlanNode:
        assert isinstance(step, Step)
        at_work = {model for evaluate in step.evaluates for model in _opened(evaluate)}
        if isinstance(step, Rank) and isinstance(step.shared, Embed):
            at_work.update(_embedding(step.shared))
        missing = tuple(weights for weights in knowledge.missing_weights if weights.model in at_work)
        download = Download(missing, knowledge.bytes_per_second) if missing else None
        return step if step.download == download else replace(step, download=download)

    return rewrite(plan, (Rank, Distances, Query, Finetune), fetch)


def _opened(evaluate: Evaluate) -> Iterator[Subject]:
    """The models that computing the evaluations has to open."""
    if isinstance(evaluate.below, Embed):
        yield from _embedding(evaluate.below)
    yield from (
        planned.evaluation.model
        for planned in evaluate.evaluations
        if not planned.known and planned.evaluation.method in _ON_THE_MODEL
    )


def _embedding(embed: Embed) -> Iterator[Subject]:
    return (embedding.model for embedding in embed.embeddings if embedding.new_rows)
