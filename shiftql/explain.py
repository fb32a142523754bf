"""The one printer of plans: a tree of steps with their estimates, the same text for the same plan."""

from __future__ import annotations

from typing import Any

from shiftql.plan import PlanNode


def plan_as_tree(plan: PlanNode) -> str:
    """The plan as lines of a tree; each step says its own estimate, the first line the total."""
    total = plan.total_cost
    lines = [f"{plan.description}  [{_figures(plan)}]  total {_seconds(total.seconds)}, {_bytes(total.size_bytes)}"]
    _append_children(plan, "", lines)
    return "\n".join(lines)


def plan_as_json(plan: PlanNode) -> dict[str, Any]:
    """The plan as nested objects with the figures of every step."""
    return {
        "step": plan.description,
        "rows": plan.rows,
        "estimated_seconds": round(plan.cost.seconds, 3),
        "estimated_bytes": plan.cost.size_bytes,
        "children": [plan_as_json(child) for child in plan.children],
    }


def _append_children(node: PlanNode, indent: str, lines: list[str]) -> None:
    for child in node.children:
        last = child is node.children[-1]
        lines.append(f"{indent}{'└─ ' if last else '├─ '}{child.description}  [{_figures(child)}]")
        _append_children(child, indent + ("   " if last else "│  "), lines)


def _figures(node: PlanNode) -> str:
    rows = "" if node.rows is None else f"{node.rows} rows, "
    return f"{rows}{_seconds(node.cost.seconds)}"


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"~{seconds:.1f} s"
    if seconds < 6000:
        return f"~{seconds / 60:.0f} min"
    return f"~{seconds / 3600:.1f} h"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
