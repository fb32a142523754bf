"""Conditions as every database takes them: values, LIKE that ignores case, and any number of operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import BinaryExpression, BindParameter, Boolean, ColumnElement, Float, Integer, and_, bindparam, or_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

# SQLite refuses expressions deeper than 1,000, and takes `a OR b OR c OR d` for `((a OR b) OR c) OR d`.
_WIDEST = 64
_LARGEST_INTEGER = 2**63 - 1
_IS_PART = "is_part_of_a_wide_condition"


def value(literal: Any, type_: TypeEngine[Any]) -> BindParameter[Any]:
    """A literal as a bound parameter, to be compared with a column of that type.

    A number that a column of whole numbers cannot hold stays the number it is, as a float.
    """
    if isinstance(type_, Integer) and (isinstance(literal, float) or abs(literal) > _LARGEST_INTEGER):
        return _Value(None, _as_float(literal), type_=Float(), unique=True)
    return _Value(None, literal, type_=type_, unique=True)


def all_of(clauses: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    """The conjunction of one or more clauses; values that a column must not equal become one NOT IN."""
    return _balanced(and_, _folded(clauses, operators.ne, lambda column, values: column.not_in(values)))


def any_of(clauses: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    """The disjunction of one or more clauses; values that a column may equal become one IN."""
    return _balanced(or_, _folded(clauses, operators.eq, lambda column, values: column.in_(values)))


class _Condition(FunctionElement[bool]):
    inherit_cache = True
    type = Boolean()

    def self_group(self, against: Any = None) -> _Condition:
        """As it is: SQLAlchemy would ask SQLite whether it `= 1`, and then no index is used."""
        return self


class Like(_Condition):
    """`Like(column, pattern)`: LIKE that ignores the case of ASCII letters. Nothing escapes `%` and `_`."""

    inherit_cache = True


# SQLAlchemy's ilike() lowers both sides on SQLite, which takes longer and goes past indices.
@compiles(Like, "sqlite")
def _like_on_sqlite(element: Like, compiler: SQLCompiler, **options: Any) -> str:
    column, pattern = (compiler.process(each, **options) for each in element.clauses)
    return f"({column} LIKE {pattern})"


@compiles(Like, "postgresql")
def _like_on_postgresql(element: Like, compiler: SQLCompiler, **options: Any) -> str:
    column, pattern = (compiler.process(each, **options) for each in element.clauses)
    return f"({column} ILIKE {pattern} ESCAPE '')"


class _Part(_Condition):
    """Some operands of a wide condition, which neither SQLAlchemy nor a planner takes apart."""

    inherit_cache = True


@compiles(_Part)
def _part(element: _Part, compiler: SQLCompiler, **options: Any) -> str:
    (clause,) = element.clauses
    return f"COALESCE({compiler.process(clause, **options | {_IS_PART: True})}, NULL)"


class _Value(BindParameter[Any]):
    inherit_cache = True


# SQLite looks for every constant among all constants before it: 10,000 take seconds. A sub-select is none.
@compiles(_Value, "sqlite")
def _value_on_sqlite(element: _Value, compiler: SQLCompiler, **options: Any) -> str:
    text = compiler.visit_bindparam(element, **options)
    return f"(SELECT {text})" if options.get(_IS_PART) else text


def _balanced(join: Callable[..., ColumnElement[bool]], clauses: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    while len(clauses) > _WIDEST:
        clauses = [_Part(join(*clauses[start : start + _WIDEST])) for start in range(0, len(clauses), _WIDEST)]
    return join(*clauses)


def _folded(
    clauses: Sequence[ColumnElement[bool]],
    operator: Any,
    fold: Callable[[ColumnElement[Any], BindParameter[Any]], ColumnElement[bool]],
) -> list[ColumnElement[bool]]:
    """The clauses in order, with those that compare one column with values by `operator` folded into the first."""
    groups: dict[Any, list[Any]] = {}
    for clause in clauses:
        groups.setdefault(_column_compared(clause, operator) or clause, []).append(clause)
    folded = []
    for first, *others in groups.values():
        if others:
            values = [clause.right.value for clause in (first, *others)]
            values_in = bindparam(None, values, type_=first.right.type, expanding=True, unique=True)
            folded.append(fold(first.left, values_in))
        else:
            folded.append(first)
    return folded


def _column_compared(clause: ColumnElement[bool], operator: Any) -> Any:
    """The column, and the type of value, that a clause compares by `operator`; None when it does something else."""
    if isinstance(clause, BinaryExpression) and clause.operator is operator and isinstance(clause.right, BindParameter):
        return clause.left, type(clause.right.type)
    return None


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
