"""Conditions of a query as SQL, every value a bound parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, not_
from sqlalchemy.sql import sqltypes

from shiftql import ast
from shiftql.conditions import Like, all_of, any_of
from shiftql.conditions import value as bound_value
from shiftql.places import Places
from shiftql.scope import Column, Projection
from storage.errors import BindingError

# SQLite takes 32,766 parameters.
_MOST_VALUES = 30_000

_COMPARE: Mapping[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


class Predicates:
    """Compiles the conditions of one select.

    `column` finds the column written at a node, `project` binds a nested query, and `is_declared` tells whether
    a word is the name of a query.
    """

    def __init__(
        self,
        places: Places,
        column: Callable[[ast.Column], Column],
        project: Callable[[ast.Query], Projection],
        is_declared: Callable[[str], bool],
    ) -> None:
        self._places = places
        self._find = column
        self._project = project
        self._is_declared = is_declared
        self._num_values = 0

    def compile(self, node: ast.Predicate) -> ColumnElement[bool]:
        """The predicate in SQL. Raises BindingError where a name or value does not fit."""
        match node:
            case ast.And(operands=operands):
                return all_of([self.compile(operand) for operand in operands])
            case ast.Or(operands=operands):
                return any_of([self.compile(operand) for operand in operands])
            case ast.Not(operand=ast.Not(operand=operand)):
                return self.compile(operand)
            case ast.Not(operand=operand):
                return not_(self.compile(operand))
            case ast.Comparison():
                return self._comparison(node)
            case ast.Between(operand=operand, low=low, high=high):
                column = self._column(operand)
                return column.between(self._value(column, low, operand), self._value(column, high, operand))
            case ast.InList(operand=operand, values=values):
                only = values[0].value if len(values) == 1 else None
                if isinstance(only, str) and self._is_declared(only):
                    name = ast.DeclaredName(name=only, position=values[0].position)
                    return self._membership(operand, name)
                column = self._column(operand)
                return column.in_([self._value(column, value, operand) for value in values])
            case ast.InQuery(operand=operand, query=query):
                return self._membership(operand, query)
            case ast.IsNull(operand=operand):
                return self._column(operand).is_(None)
            case ast.Like(operand=operand, pattern=pattern):
                column = self._column(operand)
                kind = kind_of(column.type)[0]
                if kind != "text":
                    self._places.fail(
                        operand,
                        f"LIKE is for text, and {operand.name} holds {kind}",
                        fix="compare it with =, < or BETWEEN",
                    )
                return Like(column, bound_value(pattern, column.type))
            case ast.Column():
                column = self._column(node)
                return column.is_(True) if isinstance(column.type, sqltypes.Boolean) else column.is_not(None)

    def _column(self, node: ast.Column) -> ColumnElement[Any]:
        return self._find(node).expression

    def _comparison(self, node: ast.Comparison) -> ColumnElement[bool]:
        column = self._column(node.left)
        match node.right:
            case ast.Literal():
                other: ColumnElement[Any] = self._value(column, node.right, node.left)
            case ast.Column():
                other = self._column(node.right)
                self._check_kinds(node.left, column, other, node.right)
            case ast.SubSelect(query=query):
                projection = self._only_column(query, node.right)
                (only,) = projection.columns.values()
                self._check_kinds(node.left, column, only.expression, node.right)
                if projection.limit is None or projection.limit > 1:
                    self._places.fail(
                        node.right,
                        "this query may result in several rows, and one is compared",
                        fix="add LIMIT 1, or compare with IN",
                    )
                other = projection.select.scalar_subquery()
        return _COMPARE[node.operator](column, other)

    def _membership(self, operand: ast.Column, query: ast.Query) -> ColumnElement[bool]:
        """IN of a query: the column of the same name or the only one; rows without a value are in nothing."""
        column = self._find(operand)
        projection = self._only_column(query, query, column)
        (values,) = projection.columns.values()
        self._check_kinds(operand, column.expression, values.expression, query)
        return column.expression.in_(projection.values())

    def _only_column(self, query: ast.Query, place: ast.Node, like: Column | None = None) -> Projection:
        projection = self._project(query)
        if len(projection.columns) == 1:
            return projection
        # Of a name or of all columns the one that is meant is clear; of columns written here one too many is a slip.
        is_any = isinstance(query, ast.DeclaredName) or (isinstance(query, ast.Select) and query.selects_all)
        if is_any and like is not None and like.entity is not None and not projection.distinct:
            same = projection.only(like.entity)
            if same is not None:
                return same
        self._places.fail(
            place,
            f"this query has {len(projection.columns)} columns, and one is compared",
            fix=f"select one of them: {' or '.join(list(projection.columns)[:3])}",
        )

    def _check_kinds(
        self, written: ast.Column, left: ColumnElement[Any], right: ColumnElement[Any], place: ast.Node
    ) -> None:
        ours, theirs = kind_of(left.type)[0], kind_of(right.type)[0]
        if ours != theirs and not isinstance(right.type, sqltypes.NullType):
            self._places.fail(
                place,
                f"{written.name} holds {ours}, and is compared with {theirs}",
                fix="compare columns that hold the same kind of value",
            )

    def _value(self, column: ColumnElement[Any], literal: ast.Literal, written: ast.Column) -> ColumnElement[Any]:
        value = literal.value
        kind, fits, example = kind_of(column.type)
        if kind == "a date" and isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)  # type: ignore[assignment]
            except ValueError:
                fits = ()
        if kind == "a truth value" and isinstance(value, str) and value.lower() in {"true", "false"}:
            value = value.lower() == "true"
        # bool is a subclass of int.
        if not isinstance(value, fits) or (isinstance(value, bool) and kind != "a truth value"):
            self._places.fail(
                literal,
                f"{written.name} is compared with {literal.value!r}, but holds {kind}",
                fix=f"write for example {example}" + self._hint_at_column(literal),
            )
        if kind == "a date" and value.tzinfo is None:  # type: ignore[union-attr]
            value = value.astimezone()  # type: ignore[union-attr]
        self._num_values += 1
        if self._num_values > _MOST_VALUES:
            self._places.fail(
                literal,
                f"a condition holds at most {_MOST_VALUES:,} values",
                fix="compare with a range, a pattern or a sub-select",
            )
        return bound_value(value, column.type)

    def _hint_at_column(self, literal: ast.Literal) -> str:
        if not isinstance(literal.value, str):
            return ""
        try:
            self._find(ast.Column(name=literal.value, position=literal.position))
        except BindingError:
            return ""
        return f"; a column on the right stands with its relation, as models.{literal.value}"


def kind_of(column_type: Any) -> tuple[str, tuple[type, ...], str]:
    """What a column holds in words, the Python types that fit, and an example."""
    if isinstance(column_type, sqltypes.Boolean):
        return "a truth value", (bool,), "TRUE"
    if isinstance(column_type, sqltypes.Numeric | sqltypes.Integer):
        return "a number", (int, float), "10M" if isinstance(column_type, sqltypes.Integer) else "0.5"
    if isinstance(column_type, sqltypes.String) or getattr(column_type, "impl", None).__class__ is sqltypes.String:
        return "text", (str,), "'text'"
    return "a date", (datetime,), "'2026-01-31'"
