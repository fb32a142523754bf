"""Models with work to do whose files are not on this machine are downloaded first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from shiftql.plan import Download, Embed, Evaluate, Rank
from shiftql.rules.knowledge import Knowledge
from storage.evaluations import Subject


def download_missing_weights(plan: Rank, knowledge: Knowledge) -> Rank:
    """Put the download of what is missing below the ranking."""
    at_work = {model for evaluate in plan.evaluates for model in _opened(evaluate)}
    missing = tuple(weights for weights in knowledge.missing_weights if weights.model in at_work)
    return replace(plan, download=Download(missing, knowledge.bytes_per_second) if missing else None)


def _opened(evaluate: Evaluate) -> Iterator[Subject]:
    """The models that computing the evaluations has to open."""
    if isinstance(evaluate.below, Embed):
        yield from (embedding.model for embedding in evaluate.below.embeddings if embedding.new_rows)
    elif evaluate.ranker.spec.kind == "finetune":
        yield from (planned.evaluation.model for planned in evaluate.evaluations if not planned.known)
