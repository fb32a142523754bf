"""Evaluations that would cost more than a budget of seconds is left for are not begun."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from shiftql.plan import Embed, Evaluate, PlannedEvaluation, Rank
from shiftql.rules.knowledge import Knowledge
from shiftql.rules.rewriting import PlanT, rewrite
from storage.evaluations import Subject


def keep_within_budget(plan: PlanT, knowledge: Knowledge) -> PlanT:
    """Keep, the cheapest first, the new evaluations that what is known has left the budget for.

    What is known counts at what it took, whoever paid: the same question asked again computes nothing. Strategies
    that choose keep account themselves, and baselines cost next to nothing.
    """
    return rewrite(plan, Rank, lambda rank: rank if rank.budget is None else _kept(rank, rank.budget, knowledge))


def _kept(rank: Rank, budget: float, knowledge: Knowledge) -> Rank:
    of_models = [evaluate for evaluate in rank.evaluates if evaluate.choice is None]
    known = {
        planned.evaluation.fingerprint
        for evaluate in of_models
        for planned in evaluate.evaluations
        if planned.known and not planned.baseline
    }
    left = budget - sum(knowledge.spent.get(fingerprint, 0.0) for fingerprint in known)
    opened: set[Subject] = set()
    kept: set[str] = set()
    beyond: set[str] = set()
    for price, model, planned in sorted(_priced(of_models), key=lambda each: each[0]):
        # A model is embedded with once for all that rests on it.
        price = planned.cost.seconds if model in opened else price
        if price <= left:
            left -= price
            opened.add(model)
            kept.add(planned.evaluation.fingerprint)
        else:
            beyond.add(planned.evaluation.fingerprint)
    beyond -= kept

    def keep(evaluate: Evaluate) -> Evaluate:
        within = tuple(each for each in evaluate.evaluations if each.evaluation.fingerprint not in beyond)
        left_out = evaluate.left_out + len(evaluate.evaluations) - len(within)
        return replace(evaluate, evaluations=within, left_out=left_out)

    return replace(rank, evaluates=tuple(map(keep, rank.evaluates))) if beyond else rank


def _priced(evaluates: Iterable[Evaluate]) -> Iterable[tuple[float, Subject, PlannedEvaluation]]:
    """What is new of the evaluations, each at its price with the embeddings that it rests on."""
    for evaluate in evaluates:
        embeddings = evaluate.below.embeddings if isinstance(evaluate.below, Embed) else ()
        passes: dict[Subject, float] = {}
        for each in embeddings:
            if each.new_rows:
                passes.setdefault(each.model, each.opening_seconds)
                passes[each.model] += each.row_cost.seconds * each.new_rows
        for planned in evaluate.evaluations:
            if planned.is_new and not planned.baseline:
                model = planned.evaluation.model
                yield planned.cost.seconds + passes.get(model, 0.0), model, planned
