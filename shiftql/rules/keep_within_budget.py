"""Evaluations that would cost more than a budget of seconds or epochs is left for are not begun."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from shiftql.plan import Embed, Evaluate, Finetune, PlannedEvaluation, PlanNode, Rank
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.rewriting import PlanT, rewrite
from shiftql.strategies.retried import run_of
from storage.evaluations import Subject


class _Offer(NamedTuple):
    """What is new at its price, and what it takes to open its model before, once for all that rests on it."""

    planned: PlannedEvaluation
    price: float
    opening: float = 0.0


def keep_within_budget(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Keep, the cheapest first, the new evaluations that what is known has left the budget for.

    What is known counts at what it took, whoever paid: the same question asked again computes nothing. Strategies
    that choose keep account themselves, and baselines cost next to nothing.
    """

    def kept(step: PlanNode) -> PlanNode:
        assert isinstance(step, Rank | Finetune)
        of_models = [evaluate for evaluate in step.evaluates if evaluate.choice is None]
        if step.budget is not None:
            return _kept(step, step.budget - _spent(of_models, knowledge), _in_seconds(of_models))
        if isinstance(step, Finetune) and step.epochs is not None:
            return _kept(step, step.epochs - _trained(of_models), _in_epochs(of_models))
        return step

    return rewrite(plan, (Rank, Finetune), kept)


def _kept(step: Rank | Finetune, left: float, offers: Iterable[_Offer]) -> Rank | Finetune:
    opened: set[Subject] = set()
    kept: set[str] = set()
    beyond: set[str] = set()
    for planned, price, opening in sorted(offers, key=lambda each: each.price + each.opening):
        evaluation = planned.evaluation
        whole = price if evaluation.model in opened else price + opening
        if whole <= left:
            left -= whole
            opened.add(evaluation.model)
            kept.add(evaluation.fingerprint)
        else:
            beyond.add(evaluation.fingerprint)
    beyond -= kept

    def keep(evaluate: Evaluate) -> Evaluate:
        within = tuple(each for each in evaluate.evaluations if each.evaluation.fingerprint not in beyond)
        left_out = evaluate.left_out + len(evaluate.evaluations) - len(within)
        return replace(evaluate, evaluations=within, left_out=left_out)

    return replace(step, evaluates=tuple(map(keep, step.evaluates))) if beyond else step


def _spent(evaluates: Iterable[Evaluate], knowledge: Knowledge) -> float:
    """The seconds that what is known took."""
    known = {
        planned.evaluation.fingerprint
        for evaluate in evaluates
        for planned in evaluate.evaluations
        if planned.known and not planned.baseline
    }
    return sum(knowledge.spent.get(fingerprint, 0.0) for fingerprint in known)


def _in_seconds(evaluates: Iterable[Evaluate]) -> Iterator[_Offer]:
    """What is new of the evaluations, each with the embeddings that it rests on."""
    for evaluate in evaluates:
        embeddings = evaluate.below.embeddings if isinstance(evaluate.below, Embed) else ()
        passes: dict[Subject, float] = {}
        for each in embeddings:
            if each.new_rows:
                passes.setdefault(each.model, each.opening_seconds)
                passes[each.model] += each.row_cost.seconds * each.new_rows
        for planned in evaluate.evaluations:
            if planned.is_new and not planned.baseline:
                yield _Offer(planned, planned.cost.seconds, passes.get(planned.evaluation.model, 0.0))


def _trained(evaluates: Iterable[Evaluate]) -> int:
    """The epochs that what is known was trained for; second tries come on top."""
    return sum(
        sum({run_of(planned.evaluation): planned.epochs for planned in evaluate.evaluations if planned.known}.values())
        for evaluate in evaluates
    )


def _in_epochs(evaluates: Iterable[Evaluate]) -> Iterator[_Offer]:
    """What is new of the trainings; a second try comes on top."""
    for evaluate in evaluates:
        tried = {run_of(planned.evaluation) for planned in evaluate.evaluations if planned.known}
        for planned in evaluate.evaluations:
            if planned.is_new:
                yield _Offer(planned, 0.0 if run_of(planned.evaluation) in tried else float(planned.epochs))
