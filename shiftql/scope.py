"""What a statement selects from: tables with the columns that can be named, joined and nested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    FromClause,
    Integer,
    and_,
    asc,
    column,
    desc,
    except_,
    false,
    func,
    intersect,
    literal_column,
    union,
    union_all,
    values,
)
from sqlalchemy import Select as SqlSelect
from sqlalchemy import select as sql_select
from sqlalchemy.sql.expression import CompoundSelect

from shiftql.probes import Vectors
from shiftql.relations import RELATIONS, Relation, precedence
from storage.catalog import ModelRecord
from storage.names import fold

# The entities that tell models, datasets, and where results are from.
MODEL, MODEL_NAME = "model.model_id", "model.name"
DATASET, DATASET_NAME = "dataset.dataset_id", "dataset.name"
ORIGIN = "result.origin"


@dataclass(frozen=True)
class Column:
    """A column that can be named. `entity` is what it tells apart, see Relation."""

    expression: ColumnElement[Any]
    entity: str | None = None


@dataclass(frozen=True)
class Sort:
    """One sort key in SQL. Rows without a value come last either way."""

    expression: ColumnElement[Any]
    descending: bool = False

    @property
    def clause(self) -> ColumnElement[Any]:
        return (desc if self.descending else asc)(self.expression).nulls_last()


@dataclass(frozen=True)
class Table:
    """What is selected from, by whatever it is made of.

    `columns` are what `*` shows; `hidden` can be named too. `parts` are the tables joined, by the folded names
    they go by, `order` is how rows come when nothing else is said, and `inputs` are the rankings it is made of.
    `vectors` are what the computed columns among the hidden ones take.
    """

    name: str
    source: FromClause
    columns: Mapping[str, Column]
    hidden: Mapping[str, Column] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    order: tuple[Sort, ...] = ()
    condition: ColumnElement[bool] | None = None
    parts: Mapping[str, Table] = field(default_factory=dict)
    inputs: tuple[Any, ...] = ()
    vectors: Vectors | None = None

    @property
    def nameable(self) -> Mapping[str, Column]:
        return {**self.hidden, **self.columns}

    def label_of(self, name: str) -> str | None:
        """The label of the column that a name in any spelling stands for."""
        wanted = fold(name)
        for label in (*self.columns, *self.hidden):
            if fold(label) == wanted:
                return label
        for alias, label in self.aliases.items():
            if fold(alias) == wanted and label in self.nameable:
                return label
        return None

    def with_entity(self, entity: str) -> ColumnElement[Any] | None:
        """The column that tells apart such entities, as "model.model_id"."""
        return next((each.expression for each in self.nameable.values() if each.entity == entity), None)


def open_relation(relation: Relation, name: str, number: int = 0) -> Table:
    """A relation, going by `name`. Openings of other `number`s are other aliases, so that one may stand in another's
    sub-select."""
    table = _opened(relation.name, number)
    return replace(table, parts={fold(name): table})


# Making the columns of an alias takes longer than all the rest of binding.
@cache
def _opened(name: str, number: int) -> Table:
    relation = RELATIONS[name]
    alias = relation.table.alias()
    vectors = Vectors.of(alias) if relation.computed else None
    origins = () if relation.origin is None else (Sort(precedence(alias.c[relation.origin])),)
    return Table(
        name=relation.name,
        source=alias,
        columns={label: Column(alias.c[label], relation.entities[label]) for label in relation.columns},
        hidden={label: Column(getattr(vectors, label), f"task2vec.{label}") for label in relation.computed},
        aliases=relation.aliases,
        order=(*origins, *(Sort(alias.c[column]) for column in relation.order)),
        condition=None if relation.modality is None else alias.c.modality == relation.modality,
        vectors=vectors,
    )


def common_columns(left: Table, right: Table) -> list[str]:
    """The labels a natural join compares: of both, and of the same thing."""
    return [
        label
        for label, each in left.columns.items()
        if label in right.columns and each.entity == right.columns[label].entity
    ]


def join(left: Table, right: Table, common: Sequence[str]) -> Table:
    """The natural join. Columns of one label that are of different things keep their tables' names before them."""
    onclause = and_(*(left.columns[label].expression == right.columns[label].expression for label in common))
    conditions = [table.condition for table in (left, right) if table.condition is not None]
    clashing = (left.columns.keys() & right.columns.keys()) - set(common)
    columns = {
        f"{_owner(table, each)}.{label}" if label in clashing else label: each
        for table in (left, right)
        for label, each in table.columns.items()
        if not (table is right and label in common)
    }
    return Table(
        name=f"{left.name} and {right.name}",
        source=left.source.join(right.source, onclause),
        columns=columns,
        hidden={**right.hidden, **left.hidden},
        aliases={**right.aliases, **left.aliases},
        order=(*left.order, *right.order),
        condition=and_(*conditions) if conditions else None,
        parts={**left.parts, **right.parts},
        inputs=(*left.inputs, *right.inputs),
        vectors=left.vectors or right.vectors,
    )


def _owner(table: Table, column: Column) -> str:
    """The name of the one of the joined tables that holds a column."""
    return next(
        part.name
        for part in table.parts.values()
        if any(each.expression is column.expression for each in part.columns.values())
    )


@dataclass(frozen=True)
class Projection:
    """Rows of a table in SQL. `base` says from where and which; `columns` are the result's, by label.

    `hidden` columns can be named by whoever selects from the result. `sorts` order the rows.
    """

    base: SqlSelect[Any]
    columns: Mapping[str, Column]
    hidden: Mapping[str, Column]
    sorts: tuple[Sort, ...]
    limit: int | None = None
    distinct: bool = False

    @property
    def select(self) -> SqlSelect[Any]:
        """The rows with the columns of the result alone, in order and without their labels."""
        return self.select_columns(self.columns.values())

    def values(self) -> SqlSelect[Any]:
        """What the only column holds, in no order; rows without a value are left out, since NOT IN knows none."""
        (column,) = self.columns.values()
        if self.limit is None:
            return self.base.with_only_columns(column.expression, maintain_column_froms=True).where(
                column.expression.is_not(None)
            )
        (value,) = self.select.subquery().c
        return sql_select(value).where(value.is_not(None))

    def as_table(self, name: str) -> Table:
        """The rows as something to select from."""
        hidden = {} if self.distinct else self.hidden
        sorts = () if self.distinct else self.sorts
        shown = [*self.columns.values(), *hidden.values(), *(Column(sort.expression) for sort in sorts)]
        inner = self.select_columns(shown).subquery()
        found = iter(inner.c)
        columns = {label: Column(next(found), each.entity) for label, each in self.columns.items()}
        table = Table(
            name=name,
            source=inner,
            columns=columns,
            hidden={label: Column(next(found), each.entity) for label, each in hidden.items()},
            order=tuple(Sort(next(found), sort.descending) for sort in sorts)
            or tuple(Sort(each.expression) for each in columns.values()),
        )
        return replace(table, parts={fold(name): table})

    @property
    def nameable(self) -> Mapping[str, Column]:
        """Every column that can be named; none of distinct rows is hidden."""
        return self.columns if self.distinct else {**self.hidden, **self.columns}

    def only(self, entity: str) -> Projection | None:
        """The same rows with the one column that tells apart such entities, which may be a hidden one."""
        label = next((label for label, each in self.nameable.items() if each.entity == entity), None)
        if label is None:
            return None
        if not self.distinct:
            return replace(self, columns={label: self.nameable[label]}, hidden={})
        # It is a column of the distinct rows, which are others than the distinct values of one column.
        rows = self.as_table("")
        base = sql_select().select_from(rows.source)
        return Projection(base=base, columns={label: rows.columns[label]}, hidden={}, sorts=rows.order)

    def select_columns(self, columns: Iterable[Column]) -> SqlSelect[Any]:
        """The same rows with these columns of theirs, in order and without labels."""
        # Labels are the user's words and stay out of the SQL.
        select = self.base.with_only_columns(
            *(each.expression.label(f"c{number}") for number, each in enumerate(columns)), maintain_column_froms=True
        )
        if self.distinct:
            select = select.distinct()
        select = select.order_by(*(sort.clause for sort in self.sorts))
        return select if self.limit is None else select.limit(self.limit)


def first_of_groups(
    base: SqlSelect[Any], table: Table, group: Sequence[ColumnElement[Any]], order: Sort, count: int
) -> Table:
    """The first `count` rows of every group of a table in an order, group by group.

    Rows of several origins do not compare: of a group only those of one are there, see relations.precedence.
    """
    origin = table.with_entity(ORIGIN)
    of_origin = [] if origin is None else [precedence(origin)]
    first = (
        func.dense_rank().over(partition_by=group, order_by=of_origin) if of_origin else literal_column("1", Integer)
    )
    number = func.row_number().over(
        partition_by=group, order_by=[*of_origin, order.clause, *(sort.clause for sort in table.order)]
    )
    labels = {label: f"c{index}" for index, label in enumerate(table.nameable)}
    inner = base.with_only_columns(
        *(each.expression.label(labels[label]) for label, each in table.nameable.items()),
        *(each.label(f"_group{index}") for index, each in enumerate(group)),
        first.label("_origin"),
        number.label("_number"),
        maintain_column_froms=True,
    ).subquery()
    retrieved = Table(
        name=table.name,
        source=inner,
        columns={label: Column(inner.c[labels[label]], each.entity) for label, each in table.columns.items()},
        hidden={label: Column(inner.c[labels[label]], each.entity) for label, each in table.hidden.items()},
        aliases=table.aliases,
        order=(*(Sort(inner.c[f"_group{index}"]) for index in range(len(group))), Sort(inner.c._number)),
        condition=and_(inner.c._number <= count, inner.c._origin == 1),
    )
    parts = {
        name: replace(
            part,
            columns={
                label: next(
                    (
                        Column(inner.c[labels[outer]], each.entity)
                        for outer, candidate in table.nameable.items()
                        if candidate.expression is each.expression
                    ),
                    each,
                )
                for label, each in part.columns.items()
            },
        )
        for name, part in table.parts.items()
    }
    return replace(retrieved, parts=parts)


def combine(operator: str, left: SqlSelect[Any], right: SqlSelect[Any], *, keeps_duplicates: bool) -> CompoundSelect:
    """A set operation in SQL. Its operands are nested, since SQLite takes no ORDER BY or LIMIT in them otherwise."""
    inner = [sql_select(*operand.subquery().c) for operand in (left, right)]
    match operator:
        case "union":
            return union_all(*inner) if keeps_duplicates else union(*inner)
        case "intersect":
            return intersect(*inner)
        case _:
            return except_(*inner)


def ranked_ids(rows: Iterable[tuple[int, int, float]]) -> FromClause:
    """Ids, ranks and scores of models or datasets as a table in SQL; they are numbers, so they stand in its text."""
    listed = list(rows)
    columns = (column("id", Integer), column("rank", Integer), column("score", Float))
    if not listed:
        return sql_select(*(literal_column("0", each.type).label(each.name) for each in columns)).where(false()).cte()
    return values(*columns, literal_binds=True).data(listed).cte()


def with_models(table: Table) -> Table | None:
    """The table with the models' ids, which it may hold by name alone; None where it is not of models."""
    if table.with_entity("model.model_id") is not None:
        return table
    name = table.with_entity("model.name")
    if name is None:
        return None
    models = ModelRecord.__table__.alias()  # type: ignore[attr-defined]
    return replace(
        table,
        source=table.source.join(models, models.c.name == name),
        hidden={**table.hidden, "model_id": Column(models.c.model_id, "model.model_id")},
    )
