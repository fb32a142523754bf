"""The one printer of plans: a tree of steps with their estimates, the same text for the same plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shiftql import ast
from shiftql.actuals import Actual
from shiftql.answers import ExplainAnswer
from shiftql.cost import worded_bytes
from shiftql.plan import PlanNode, Saving
from shiftql.wording import worded_seconds

_NOTHING = Actual()
# What rounds to less is told as nothing.
_TOLD_SECONDS = 0.05


def explained(statement: ast.Explain, plan: PlanNode, actual: Mapping[int, Actual] | None) -> ExplainAnswer:
    """The answer to an EXPLAIN, with the figures of a run where there was one."""
    return ExplainAnswer(
        statement=statement.text,
        seconds=0.0,
        text="\n\n".join(filter(None, (plan_as_tree(plan, actual), rules_as_text(plan)))),
        plan={**plan_as_json(plan, actual), "total": total_as_json(plan, actual), "rules": rules_as_json(plan)},
        as_json=statement.json,
    )


def plan_as_tree(plan: PlanNode, actual: Mapping[int, Actual] | None = None) -> str:
    """The plan as lines of a tree; each step says its own estimate, the first line the total.

    `actual` are the figures of a run, by the id() of the node; they stand beside the estimates.
    """
    actual = actual or {}
    lines = [f"{_line(plan, actual)}  total {_total(plan, actual.get(id(plan), _NOTHING))}"]
    _append_children(plan, "", lines, actual)
    return "\n".join(lines)


def plan_as_json(plan: PlanNode, actual: Mapping[int, Actual] | None = None) -> dict[str, Any]:
    """The plan as nested objects with the figures of every step, and those of a run where there was one."""
    found = (actual or {}).get(id(plan), _NOTHING)
    measured = {
        "actual_rows": found.rows,
        "actual_seconds": None if found.seconds is None else round(found.seconds, 3),
        "new": found.new,
        "reused": found.reused,
    }
    return {
        "step": plan.description,
        "rows": plan.rows,
        "estimated_seconds": round(plan.cost.seconds, 3),
        "estimated_bytes": plan.cost.size_bytes,
        "estimated_download_bytes": plan.cost.download_bytes,
        **(measured if actual is not None else {}),
        "children": [plan_as_json(child, actual) for child in plan.children],
    }


def total_as_json(plan: PlanNode, actual: Mapping[int, Actual] | None = None) -> dict[str, Any]:
    """What is waited for the whole plan by the clock, and what it is made of; what a run took where there was one."""
    waiting = plan.waiting
    found = (actual or {}).get(id(plan), _NOTHING)
    measured = {"actual_seconds": None if found.total_seconds is None else round(found.total_seconds, 3)}
    return {
        "estimated_seconds": round(plan.seconds, 3),
        "estimated_starting_seconds": round(waiting.starting_seconds, 3) if waiting is not None else 0.0,
        "starts": list(waiting.starts) if waiting is not None else [],
        "estimated_work_seconds": round(plan.total_cost.seconds, 3),
        **(measured if actual is not None else {}),
    }


def rules_as_text(plan: PlanNode) -> str:
    """The rules that rewrote the plan, a line each, with what they saved; empty where none did."""
    return "\n".join(f"Rule {saving.rule} {_worded(saving)}" for saving in plan.savings)


def rules_as_json(plan: PlanNode) -> list[dict[str, Any]]:
    """The rules that rewrote the plan, in turn, with what each saved."""
    return [
        {
            "rule": saving.rule,
            "saved_seconds": round(saving.seconds, 3),
            "saved_evaluations": saving.evaluations,
            "saved_rows": saving.rows,
        }
        for saving in plan.savings
    ]


def _worded(saving: Saving) -> str:
    parts = list(_parts(saving))
    return f"saved {', '.join(parts)}" if parts else "put the same work in another order"


def _parts(saving: Saving) -> Iterator[str]:
    for number, noun in ((saving.evaluations, "evaluation"), (saving.rows, "row")):
        if number:
            yield f"{number} {noun}{'' if number == 1 else 's'}"
    if saving.seconds >= _TOLD_SECONDS:
        yield worded_seconds(saving.seconds)


def _total(plan: PlanNode, actual: Actual) -> str:
    """What is waited for, what is stored and what is downloaded."""
    total = plan.total_cost
    took = "" if actual.total_seconds is None else f" (actual {actual.total_seconds:.1f} s)"
    waiting = plan.waiting
    starts = ""
    if waiting is not None and waiting.starts:
        starts = f", {worded_seconds(waiting.starting_seconds)} of it to start {waiting.started}"
    download = f", {worded_bytes(total.download_bytes)} to download" if total.download_bytes else ""
    return f"{worded_seconds(plan.seconds)}{took}{starts}, {worded_bytes(total.size_bytes)}{download}"


def _append_children(node: PlanNode, indent: str, lines: list[str], actual: Mapping[int, Actual]) -> None:
    for child in node.children:
        last = child is node.children[-1]
        lines.append(f"{indent}{'└─ ' if last else '├─ '}{_line(child, actual)}")
        _append_children(child, indent + ("   " if last else "│  "), lines, actual)


def _line(node: PlanNode, actual: Mapping[int, Actual]) -> str:
    rows = "" if node.rows is None else f"{node.rows} rows, "
    estimate = f"{rows}{worded_seconds(node.cost.seconds)}"
    found = actual.get(id(node))
    return f"{node.description}  [{estimate}{'' if found is None else f'; actual {_figures(found)}'}]"


def _figures(actual: Actual) -> str:
    figures = []
    if actual.rows is not None:
        figures.append(f"{actual.rows} rows")
    if actual.seconds is not None:
        figures.append(f"{actual.seconds:.1f} s")
    if actual.new is not None:
        figures.append(f"{actual.new} new and {actual.reused} reused")
    return ", ".join(figures)
