"""The syntax tree of SHiFT-QL: what was written, before any name is looked up.

Nodes are frozen and equal when they say the same: spelling of keywords, layout, comments and positions take
no part in equality. Names stand as they were written; the binder finds out what they name.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a node stands: `line` and `column` count from 1, `start` and `end` are offsets into the text."""

    line: int
    column: int
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Anything written in a query."""

    position: Position = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Node):
    """A column. As a predicate it is true where a boolean column is true and any other is not null."""

    name: str
    qualifier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal(Node):
    """A constant; a bare word where a value belongs is a string."""

    value: str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Node):
    """`operator` is one of = != < <= > >=; a constant written on the left has been moved to the right."""

    operator: str
    left: Column
    right: Column | Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Between(Node):
    """Both ends included."""

    operand: Column
    low: Literal
    high: Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class InList(Node):
    """The column equals one of the values."""

    operand: Column
    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IsNull(Node):
    """The column has no value."""

    operand: Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Like(Node):
    """SQL's LIKE: `%` stands for any characters, `_` for one."""

    operand: Column
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class And(Node):
    """Two or more predicates, all true."""

    operands: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Or(Node):
    """Two or more predicates, at least one true."""

    operands: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Not(Node):
    """Also what NOT IN, NOT BETWEEN, NOT LIKE and IS NOT NULL are made of."""

    operand: Predicate


Predicate: TypeAlias = And | Or | Not | Comparison | Between | InList | IsNull | Like | Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Name(Node):
    """A sort key without arguments: a column or a ranker, which only the binder can tell."""

    name: str
    qualifier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument(Node):
    """An argument of a ranker; `name` is None where it was given by place."""

    name: str | None = None
    value: Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerCall(Node):
    """A ranker and the arguments given to it; `Linear` and `Linear()` are the same in CLASSIFIED BY."""

    name: str
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderKey(Node):
    """One key of ORDER BY."""

    key: Name | RankerCall
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetName(Node):
    """A registered dataset or the path of one."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Star(Node):
    """`*` or ALL: every column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectItem(Node):
    """One column of the result, under its own name or another."""

    expression: Column
    alias: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation(Node):
    """What is selected from."""

    name: str
    alias: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(Node):
    """A question; a clause that was left out is None or empty. `text` is the statement as written."""

    items: tuple[Star | SelectItem, ...]
    relation: Relation
    distinct: bool = False
    where: Predicate | None = None
    order_by: tuple[OrderKey, ...] = ()
    classified_by: tuple[RankerCall, ...] = ()
    trained_on: tuple[DatasetName, ...] = ()
    tested_on: tuple[DatasetName, ...] = ()
    limit: int | None = None
    text: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(Node):
    """The plan of a question instead of its answer. `text` is the statement as written, EXPLAIN included."""

    statement: Select
    text: str = field(default="", compare=False, repr=False)


Statement: TypeAlias = Select | Explain


def to_json(node: Node) -> dict[str, Any]:
    """The node as JSON objects: its kind under `node`, then its fields, without positions and what was not written."""
    written: dict[str, Any] = {"node": type(node).__name__}
    for each in fields(node):
        value = getattr(node, each.name)
        if each.compare and (each.default is MISSING or value != each.default):
            written[each.name] = _to_json_value(value)
    return written


def _to_json_value(value: Any) -> Any:
    if isinstance(value, Node):
        return to_json(value)
    if isinstance(value, tuple):
        return [_to_json_value(each) for each in value]
    return value
