"""Another order of the models of a ranking, which is the one that they are evaluated in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from shiftql.plan import Evaluate, PlannedEvaluation, Rank


def reordered(rank: Rank, key: Callable[[PlannedEvaluation], float]) -> Rank:
    """The ranking with the evaluations that are no baselines sorted by a key, which is equal for copies of a model.

    Where a strategy chooses, or models are halved, it is for these to say what comes first.
    """
    evaluates = tuple(_reordered(evaluate, key) for evaluate in rank.evaluates)
    if all(new is old for new, old in zip(evaluates, rank.evaluates, strict=True)):
        return rank
    return replace(rank, evaluates=evaluates)


def _reordered(evaluate: Evaluate, key: Callable[[PlannedEvaluation], float]) -> Evaluate:
    if evaluate.choice is not None or evaluate.rounds:
        return evaluate
    models = [planned for planned in evaluate.evaluations if not planned.baseline]
    baselines = [planned for planned in evaluate.evaluations if planned.baseline]
    ordered = (*sorted(models, key=key), *baselines)
    return evaluate if ordered == evaluate.evaluations else replace(evaluate, evaluations=ordered)
