"""What the steps of a plan really took, for EXPLAIN ANALYZE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shiftql.answers import Answer, RankingAnswer, RowsAnswer
from shiftql.plan import Embed, Evaluate, PlanNode
from storage.database import Database
from storage.results import ResultStore


@dataclass(frozen=True)
class Actual:
    """Figures of one step: rows it yielded, seconds of its own, and how much of it was computed or reused."""

    rows: int | None = None
    seconds: float | None = None
    new: int | None = None
    reused: int | None = None


def measure_plan(plan: PlanNode, answer: Answer, work: Mapping[str, Any], database: Database) -> dict[int, Actual]:
    """What is known of the steps of an executed plan, by the id() of the node."""
    embedding = work.get("embed_seconds", {})
    actual: dict[int, Actual] = {}
    for node in plan.walk():
        if isinstance(node, Embed):
            new = work.get("embedded_rows", 0)
            actual[id(node)] = Actual(
                rows=node.rows, seconds=sum(embedding.values()), new=new, reused=max(0, node.rows - new)
            )
        elif isinstance(node, Evaluate):
            actual[id(node)] = _of_evaluations(node, set(work.get("computed", ())), embedding, database)
    match answer:
        case RowsAnswer(rows=rows):
            actual[id(plan)] = Actual(rows=len(rows), seconds=None)
        case RankingAnswer():
            models = [row for row in answer.ranking if not row.get("baseline")]
            actual[id(plan)] = Actual(rows=len(models))
    return actual


def _of_evaluations(node: Evaluate, computed: set[str], embedding: Mapping[str, float], database: Database) -> Actual:
    measured = ResultStore(database).outcomes(planned.evaluation.fingerprint for planned in node.evaluations)
    new = [planned.evaluation for planned in node.evaluations if planned.evaluation.fingerprint in computed]
    seconds = sum(
        max(0.0, measured[each.fingerprint].cost_seconds - embedding.get(each.model.fingerprint, 0.0))
        for each in new
        if each.fingerprint in measured
    )
    return Actual(rows=len(measured), seconds=seconds, new=len(new), reused=len(measured) - len(new))
