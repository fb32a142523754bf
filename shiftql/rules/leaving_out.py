"""A ranker without some of its models."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import replace

from shiftql.plan import Embed, Evaluate, PlannedEvaluation, Rank


def leave_out(rank: Rank, choose: Callable[[Evaluate], Set[str]]) -> Rank:
    """The ranking without what is new of the models, by fingerprint, that are chosen for each ranker.

    What is known of them stays; the same ranking if there is nothing to leave out. Copies of a model share its fate.
    """
    evaluates = tuple(_without(evaluate, choose(evaluate)) for evaluate in rank.evaluates)
    if all(new is old for new, old in zip(evaluates, rank.evaluates, strict=True)):
        return rank
    return replace(rank, evaluates=evaluates)


def _without(evaluate: Evaluate, models: Set[str]) -> Evaluate:
    def is_out(planned: PlannedEvaluation) -> bool:
        return planned.evaluation.model.fingerprint in models and not (planned.known or planned.baseline)

    if not any(map(is_out, evaluate.evaluations)):
        return evaluate
    kept = tuple(planned for planned in evaluate.evaluations if not is_out(planned))
    below = evaluate.below
    if isinstance(below, Embed):
        embeddings = tuple(each for each in below.embeddings if each.model.fingerprint not in models)
        below = replace(below, embeddings=embeddings) if embeddings else below.scan
    return replace(evaluate, evaluations=kept, below=below)
