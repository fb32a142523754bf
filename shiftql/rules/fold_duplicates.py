"""What two steps of a plan ask for, as the same sub-select in two places does, is computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import replace

from shiftql.plan import Distances, Embed, Embedding, Evaluate, Finetune, PlannedEvaluation, PlanNode, Query, Rank, Step
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.rewriting import PlanT, rewrite
from storage.evaluations import Subject
from storage.parts import Part
from storage.views import View


def fold_duplicates(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Mark the evaluations, and count no rows of the embeddings, that a step that runs earlier has."""
    evaluated: set[str] = set()
    embedded: dict[tuple[Subject, Part], set[View]] = {}

    def fold(step: PlanNode) -> PlanNode:
        assert isinstance(step, Step)
        evaluates = tuple(_marked(evaluate, evaluated) for evaluate in step.evaluates)
        folded = _with_embeds(step, evaluates, lambda embed: _counted(embed, embedded))
        evaluated.update(e.evaluation.fingerprint for each in step.evaluates for e in each.evaluations if not e.known)
        for each in (each for embed in _embeds(step) for each in embed.embeddings if each.new_rows):
            embedded.setdefault((each.model, each.part), set()).update(each.views)
        return folded

    return rewrite(plan, (Rank, Distances, Query, Finetune), fold)


def _marked(evaluate: Evaluate, evaluated: Set[str]) -> Evaluate:
    def is_repeated(planned: PlannedEvaluation) -> bool:
        return planned.is_new and planned.evaluation.fingerprint in evaluated

    if not any(map(is_repeated, evaluate.evaluations)):
        return evaluate
    marked = (replace(each, shared=True) if is_repeated(each) else each for each in evaluate.evaluations)
    return replace(evaluate, evaluations=tuple(marked))


def _counted(embed: Embed, embedded: Mapping[tuple[Subject, Part], Set[View]]) -> Embed:
    def is_repeated(embedding: Embedding) -> bool:
        return embedding.new_rows > 0 and set(embedding.views) <= embedded.get((embedding.model, embedding.part), set())

    if not any(map(is_repeated, embed.embeddings)):
        return embed
    counted = (replace(each, new_rows=0) if is_repeated(each) else each for each in embed.embeddings)
    return replace(embed, embeddings=tuple(counted))


def _embeds(step: Step) -> Iterator[Embed]:
    """The embeddings of a step's own, without those of steps that it rests on."""
    held = (*(evaluate.below for evaluate in step.evaluates), step.shared if isinstance(step, Rank) else None)
    return (each for each in held if isinstance(each, Embed))


def _with_embeds(step: Step, evaluates: tuple[Evaluate, ...], change: Callable[[Embed], Embed]) -> Step:
    """The step with other evaluations, and with its own embeddings changed; the same object if nothing is."""
    evaluates = tuple(
        replace(each, below=below)
        if isinstance(each.below, Embed) and (below := change(each.below)) is not each.below
        else each
        for each in evaluates
    )
    if any(new is not old for new, old in zip(evaluates, step.evaluates, strict=True)):
        step = replace(step, evaluates=evaluates)
    if isinstance(step, Rank) and isinstance(step.shared, Embed) and (shared := change(step.shared)) is not step.shared:
        return replace(step, shared=shared)
    return step
