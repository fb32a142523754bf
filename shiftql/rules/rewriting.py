"""Rewriting a plan, node by node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar, cast

from shiftql.plan import PlanNode

PlanT = TypeVar("PlanT", bound=PlanNode)
_Node = TypeVar("_Node", bound=PlanNode)


def rewrite(plan: PlanT, kind: type[_Node] | tuple[type[_Node], ...], change: Callable[[_Node], PlanNode]) -> PlanT:
    """The plan with every node of a kind changed, those below a node before itself; the same object if none changes."""
    plan = _with_nodes(plan, lambda node: rewrite(node, kind, change))
    return cast("PlanT", change(plan)) if isinstance(plan, kind) else plan


def _with_nodes(plan: PlanT, change: Callable[[PlanNode], PlanNode]) -> PlanT:
    """The node with every node that it holds changed."""

    def changed(value: Any) -> Any:
        if isinstance(value, PlanNode):
            return change(value)
        if isinstance(value, tuple):
            found = tuple(map(changed, value))
            return found if any(new is not old for new, old in zip(found, value, strict=True)) else value
        return value

    held = {each.name: getattr(plan, each.name) for each in fields(plan)}
    after = {name: new for name, value in held.items() if (new := changed(value)) is not value}
    return replace(plan, **after) if after else plan
