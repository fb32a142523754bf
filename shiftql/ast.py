"""The syntax tree of SHiFT-QL: what was written, before any name is looked up.

Nodes are frozen and equal when they say the same: spelling of keywords, layout, comments and positions take
no part in equality. Names stand as they were written; the binder finds out what they name.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from functools import cache
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
    right: Column | Literal | SubSelect


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
class InQuery(Node):
    """The column equals a value in the one column that a query or a declared name results in."""

    operand: Column
    query: Query


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


Predicate: TypeAlias = And | Or | Not | Comparison | Between | InList | InQuery | IsNull | Like | Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Name(Node):
    """A sort key without arguments: a column or a ranker, which only the binder can tell."""

    name: str
    qualifier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Values(Node):
    """Several constants, as `[0.1, 0.01]`."""

    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument(Node):
    """An argument of a ranker, or a setting; `name` is None where it was given by place."""

    name: str | None = None
    value: Literal | Values


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerCall(Node):
    """A ranker and the arguments given to it; `Linear` and `Linear()` are the same in CLASSIFIED BY."""

    name: str
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate(Node):
    """`function` is one of sum avg min max, over the results of every dataset of a benchmark set."""

    function: str
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderKey(Node):
    """One key of ORDER BY."""

    key: Name | RankerCall | Aggregate
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetName(Node):
    """A registered dataset, the path of one, or a declared set; `role` is "task" or "benchmark" where written."""

    name: str
    role: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Node):
    """`rows` are replaced by rows `by_rows` of the dataset `by`, one by one; rows count from 0."""

    rows: tuple[int, ...]
    by: str
    by_rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedDataset(Node):
    """A dataset with some of its rows replaced."""

    name: str
    changes: tuple[Change, ...]


Dataset: TypeAlias = DatasetName | ChangedDataset


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
    """A relation or a declared name, selected from."""

    name: str
    alias: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubSelect(Node):
    """A query in parentheses whose result is selected from or compared with."""

    query: Query
    alias: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieve(Node):
    """The first `count` rows of every group, in the order of a column."""

    count: int
    group: Column
    order: Column
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Node):
    """What may be spent: `unit` is seconds, epochs or pulls; an `amount` of None leaves it to the optimizer."""

    amount: float | None
    unit: str = "pulls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk(Node):
    """Rows per pull of successive halving; None leaves them to the optimizer."""

    rows: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(Node):
    """A question; a clause that was left out is None or empty.

    `sources` are joined naturally. `within` is in seconds of wall time; `wait` is False for NOWAIT. `text` is
    the question as written.
    """

    items: tuple[Star | SelectItem, ...]
    sources: tuple[Relation | SubSelect, ...]
    distinct: bool = False
    where: Predicate | None = None
    order_by: tuple[OrderKey, ...] = ()
    classified_by: tuple[RankerCall, ...] = ()
    trained_on: tuple[Dataset, ...] = ()
    tested_on: tuple[Dataset, ...] = ()
    other_than: Query | None = None
    limit: int | None = None
    retrieve: Retrieve | None = None
    chunk: Chunk | None = None
    budget: Budget | None = None
    within: float | None = None
    wait: bool | None = None
    text: str = field(default="", compare=False, repr=False)

    @property
    def selects_all(self) -> bool:
        """Whether `*` is among what is selected."""
        return any(isinstance(item, Star) for item in self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOperation(Node):
    """`operator` is one of union except intersect; duplicates are dropped unless `keeps_duplicates`."""

    operator: str
    left: Query
    right: Query
    keeps_duplicates: bool = False
    text: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredName(Node):
    """A name that a query was declared under."""

    name: str


Query: TypeAlias = Select | SetOperation | DeclaredName


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement(Node):
    """What ends at a `;`, other than a question alone. `text` is the statement as written."""

    text: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declare(Statement):
    """Gives a name to a query."""

    name: str
    query: Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Print(Statement):
    """Answers a declared name, or a set operation that begins with one."""

    query: Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetune(Statement):
    """Fine-tunes models on datasets and keeps the result, under `name` where one is given.

    Its limits are those of a Select.
    """

    models: tuple[str, ...] | Query
    datasets: tuple[Dataset, ...]
    arguments: tuple[Argument, ...] = ()
    name: str | None = None
    budget: Budget | None = None
    within: float | None = None
    wait: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(Statement):
    """The plan of a question instead of its answer; with `analyze` also what it really took."""

    statement: Query | Finetune
    analyze: bool = False
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Statement):
    """Adds to the catalog. `kind` is model, models or dataset; `location` is None where VALUES were given."""

    kind: str
    name: str | None = None
    location: str | None = None
    settings: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch(Statement):
    """A standing query, asked again whenever models are added and `every` so many seconds."""

    name: str
    query: Query
    every: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwatch(Statement):
    """Ends a standing query."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Show(Statement):
    """Lists what there is: models, datasets, runs, watches or rankers."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge(Statement):
    """Deletes what was measured or stored."""

    what: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Use(Statement):
    """Sends the statements that follow to another server."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Help(Statement):
    """Explains the language or a topic of it."""

    topic: str | None = None


def children(node: Node) -> list[Node]:
    """The nodes right below a node, as written."""
    found: list[Node] = []
    for name in _names_of_fields(type(node)):  # type: ignore[arg-type]
        value = getattr(node, name)
        if isinstance(value, Node):
            found.append(value)
        elif isinstance(value, tuple):
            found += [part for part in value if isinstance(part, Node)]
    return found


@cache
def _names_of_fields(kind: Any) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


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
