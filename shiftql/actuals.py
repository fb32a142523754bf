"""What the steps of a plan really took, for EXPLAIN ANALYZE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shiftql.answers import Answer, RankingAnswer, RowsAnswer
from shiftql.plan import Download, Embed, Evaluate, PlanNode
from storage.database import Database
from storage.results import ResultStore


@dataclass(frozen=True)
class Actual:
    """Figures of one step: rows it yielded, seconds of its own, and how much of it was computed or reused.

    `total_seconds` are those of the whole plan by the clock, told of its first step.
    """

    rows: int | None = None
    seconds: float | None = None
    new: int | None = None
    reused: int | None = None
    total_seconds: float | None = None


def measure_plan(
    plan: PlanNode, followed: PlanNode, answer: Answer, work: Mapping[str, Any], database: Database, seconds: float
) -> dict[int, Actual]:
    """What is known of the steps of an executed plan, by the id() of the node.

    `followed` is the plan of the same question at the end: with the rounds that halving came to, and models by what
    they are since they were downloaded. `seconds` is what the run took by the clock.
    """
    evaluates = iter([node for node in followed.walk() if isinstance(node, Evaluate)])
    embedding = work.get("embed_seconds", {})
    actual: dict[int, Actual] = {}
    for node in plan.walk():
        if isinstance(node, Embed):
            new = work.get("embedded_rows", 0)
            actual[id(node)] = Actual(
                rows=node.rows, seconds=sum(embedding.values()), new=new, reused=max(0, node.rows - new)
            )
        elif isinstance(node, Evaluate):
            actual[id(node)] = _of_evaluations(next(evaluates, node), work, database)
        elif isinstance(node, Download):
            actual[id(node)] = Actual(seconds=work.get("download_seconds", 0.0))
    match answer:
        case RowsAnswer(rows=rows):
            actual[id(plan)] = Actual(rows=len(rows), total_seconds=seconds)
        case RankingAnswer():
            models = [row for row in answer.ranking if not row.get("baseline")]
            actual[id(plan)] = Actual(rows=len(models), total_seconds=seconds)
    return actual


def _of_evaluations(node: Evaluate, work: Mapping[str, Any], database: Database) -> Actual:
    computed, embedding = set(work.get("computed", ())), work.get("embed_seconds", {})
    evaluations = {planned.evaluation.fingerprint: planned.evaluation for planned in node.evaluations}.values()
    measured = ResultStore(database).outcomes(evaluation.fingerprint for evaluation in evaluations)
    new = [evaluation for evaluation in evaluations if evaluation.fingerprint in computed]
    seconds = sum(
        max(0.0, measured[each.fingerprint].cost_seconds - embedding.get(each.model.fingerprint, 0.0))
        for each in new
        if each.fingerprint in measured
    )
    return Actual(rows=len(measured), seconds=seconds, new=len(new), reused=len(measured) - len(new))
