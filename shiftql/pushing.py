"""Which filters of a question may be looked at before the ranking that it selects from is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from shiftql import ast
from shiftql.bound import BoundRanking
from storage.names import fold

# Who evaluates every model by itself. Where a strategy chooses, models of the pool are told by one another.
_BY_THEMSELVES = {"features", "finetune"}
_RANK = "rank"


def pushable(select: ast.Select) -> tuple[ast.Predicate, ...]:
    """The conditions that all have to be met; none where a rank is asked for.

    A filter before the ranking leaves scores as they are, and changes ranks.
    """
    if select.where is None or any(fold(name) == _RANK for name in _names(select)):
        return ()
    return select.where.operands if isinstance(select.where, ast.And) else (select.where,)


def is_each_by_itself(question: BoundRanking) -> bool:
    """Whether a model's score and its order among others do not depend on which other models there are."""
    is_cut = (question.limit, question.chunk, question.budget, question.within) != (None, None, None, None)
    return not is_cut and all(ranker.spec.kind in _BY_THEMSELVES for ranker in question.rankers)


def _names(select: ast.Select) -> Iterator[str]:
    """The names of columns that a select mentions, but for what is selected from."""
    return (node.name for node in _walk(select) if isinstance(node, ast.Column | ast.Name))


def _walk(value: Any) -> Iterator[ast.Node]:
    if isinstance(value, tuple):
        for each in value:
            yield from _walk(each)
    elif isinstance(value, ast.Node):
        yield value
        for each in fields(value):
            if each.name != "sources":
                yield from _walk(getattr(value, each.name))
