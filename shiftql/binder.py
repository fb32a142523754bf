"""The binder: every name of a statement looked up, every value checked, filters compiled to bound parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

from sqlalchemy import ColumnElement, and_, asc, bindparam, desc, not_, or_
from sqlalchemy import Select as SqlSelect
from sqlalchemy import select as sql_select
from sqlalchemy.sql import sqltypes

from shiftql import ast
from shiftql.relations import RELATION_NAMES, RELATIONS, Relation
from storage.catalog import Catalog, DatasetRecord, ModelRecord
from storage.database import Database
from storage.errors import BindingError
from storage.names import fold, near
from tasks.rankers.specs import RANKERS, RankerSpec, bind_arguments, find_ranker

# What every row of a ranking says besides the selected columns.
RANKING_COLUMNS = frozenset(
    {"rank", "model", "score", "metric", "higher_is_better", "low", "high", "tied", "n_test", "layer", "baseline"}
)

_ERROR_NAMES = {"err", "error"}
_ACCURACY_NAMES = {"acc", "accuracy"}


@dataclass(frozen=True)
class BoundRows:
    """A question the database answers alone. `columns` are the result's names in order."""

    text: str
    relation: str
    columns: tuple[str, ...]
    select: SqlSelect[Any] = field(compare=False)
    condition: str | None
    order: str | None
    limit: int | None


@dataclass(frozen=True)
class BoundRanker:
    """A ranker with all its arguments; `label` is how people read it."""

    spec: RankerSpec
    params: Mapping[str, Any]

    @property
    def label(self) -> str:
        arguments = ", ".join(f"{name}={value}" for name, value in self.params.items() if value is not None)
        return f"{self.spec.label}({arguments})" if arguments else self.spec.label


@dataclass(frozen=True)
class BoundRanking:
    """A question that depends on a dataset. `models` are those that meet the condition, by name."""

    text: str
    models: tuple[ModelRecord, ...]
    condition: str | None
    rankers: tuple[BoundRanker, ...]
    train: tuple[DatasetRecord, ...]
    test: tuple[DatasetRecord, ...]
    descending: bool
    limit: int | None
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class BoundExplain:
    """The plan of a question is asked for."""

    text: str
    question: BoundRows | BoundRanking


Bound = BoundRows | BoundRanking | BoundExplain


def bind(statement: ast.Statement, database: Database, text: str = "") -> Bound:
    """Look up every name of a statement in the catalog.

    `text` is the whole query, for the carets of errors. Raises BindingError at the place that does not fit,
    with what is allowed there and the near names.
    """
    return _Binder(database, text).bind(statement)


class _Binder:
    def __init__(self, database: Database, text: str) -> None:
        self._database = database
        self._catalog = Catalog(database)
        self._text = text

    def bind(self, statement: ast.Statement) -> Bound:
        if isinstance(statement, ast.Explain):
            return BoundExplain(statement.text, self._select(statement.statement))
        return self._select(statement)

    def _select(self, select: ast.Select) -> BoundRows | BoundRanking:
        relation = self._relation(select.relation)
        scope = _Scope(self, relation, select.relation)
        rankers = self._rankers(select, scope)
        if rankers:
            return self._ranking(select, scope, rankers)
        return self._rows(select, scope)

    def _relation(self, written: ast.Relation) -> Relation:
        by_fold = {fold(alias): name for alias, name in RELATION_NAMES.items()}
        name = by_fold.get(fold(written.name))
        if name is None:
            self.fail(written, f"there is no relation {written.name!r}", written.name, RELATION_NAMES)
        return RELATIONS[name]

    def _rankers(self, select: ast.Select, scope: _Scope) -> list[BoundRanker]:
        """The rankers that order the result, from ORDER BY or CLASSIFIED BY; none for a task-agnostic question."""
        if select.classified_by:
            if len(select.order_by) != 1 or not _is_loss_or_accuracy(select.order_by[0].key):
                where = select.order_by[0] if select.order_by else select.classified_by[0]
                self.fail(where, "CLASSIFIED BY goes with ORDER BY err or ORDER BY acc", fix="write ORDER BY acc")
            return [self._ranker(call) for call in select.classified_by]
        calls = [key for key in select.order_by if not scope.is_column(key.key)]
        if not calls:
            if select.trained_on or select.tested_on:
                self.fail(
                    (select.trained_on or select.tested_on)[0],
                    "TRAINED ON and TESTED ON rank by a ranker, and ORDER BY names none",
                    allowed=[spec.label for spec in RANKERS.values()],
                    fix="add for example ORDER BY Linear",
                )
            return []
        if len(select.order_by) > 1:
            self.fail(
                select.order_by[1],
                "a ranker is the only sort key of its ranking",
                fix="for several rankings write ORDER BY acc … CLASSIFIED BY [ranker, ranker]",
            )
        return [self._ranker(calls[0].key, scope)]

    def _ranker(self, call: ast.RankerCall | ast.Name, scope: _Scope | None = None) -> BoundRanker:
        try:
            spec = find_ranker(call.name)
        except BindingError as error:
            if isinstance(call, ast.Name) and scope is not None:
                columns = list(scope.relation.columns)
                rankers = [spec.label for spec in RANKERS.values()]
                self.fail(
                    call,
                    f"there is neither a column nor a ranker {call.name!r}",
                    call.name,
                    [*columns, *rankers],
                )
            raise self._placed(error, call) from None
        arguments = call.arguments if isinstance(call, ast.RankerCall) else ()
        positional = [argument.value.value for argument in arguments if argument.name is None]
        named: dict[str, Any] = {}
        for argument in arguments:
            if argument.name is None and named:
                self.fail(argument, "an argument by place stands after one by name", fix="name it, or put it first")
            if argument.name is not None:
                if argument.name in named:
                    self.fail(argument, f"{spec.label} is given {argument.name} twice", fix="give it once")
                named[argument.name] = argument.value.value
        try:
            return BoundRanker(spec, bind_arguments(spec, positional, named))
        except BindingError as error:
            guilty = [argument for argument in arguments if argument.name and error.subject == argument.name]
            raise self._placed(error, guilty[0] if guilty else call) from None

    def _ranking(self, select: ast.Select, scope: _Scope, rankers: list[BoundRanker]) -> BoundRanking:
        if scope.relation.table is not RELATIONS["models"].table:
            self.fail(
                select.relation,
                f"a ranker ranks models, and {scope.relation.name} holds a {scope.relation.row} each",
                allowed=["models", "image_models", "text_models"],
            )
        if select.distinct:
            self.fail(select, "DISTINCT is for columns; a ranking holds each model once", fix="leave DISTINCT out")
        place = select.order_by[0] if select.order_by else select
        for ranker in rankers:
            needs = [("TRAINED ON", select.trained_on)]
            if ranker.spec.needs_test:
                needs.append(("TESTED ON", select.tested_on))
            for clause, given in needs:
                if not given:
                    self.fail(
                        place,
                        f"{ranker.spec.label} needs {clause} a dataset",
                        allowed=[dataset.name for dataset in self._catalog.datasets()],
                        fix=f"add {clause} <dataset>; 'shiftql datasets list' shows them",
                    )
        train = self._datasets(select.trained_on)
        test = self._datasets(select.tested_on)
        self._check_fit(select, rankers, train, test)
        key = select.order_by[0]
        # The highest accuracy is the best, so neither direction of ORDER BY acc asks for the worst first.
        by_accuracy = isinstance(key.key, ast.Name) and fold(key.key.name) in _ACCURACY_NAMES
        descending = key.descending and not by_accuracy
        condition = scope.predicate(select.where) if select.where else None
        modality = train[0].modality
        statement = sql_select(ModelRecord).where(scope.table.c.modality == modality).order_by(scope.table.c.name)
        for part in (scope.relation.condition, condition):
            if part is not None:
                statement = statement.where(part)
        with self._database.session() as session:
            models = tuple(session.exec(statement).scalars())  # type: ignore[call-overload]
        return BoundRanking(
            text=select.text,
            models=models,
            condition=self._source_of(select.where),
            rankers=tuple(rankers),
            train=tuple(train),
            test=tuple(test),
            descending=descending,
            limit=select.limit,
            columns=self._beside_scores(select.items, scope),
        )

    def _beside_scores(self, items: Sequence[ast.Star | ast.SelectItem], scope: _Scope) -> tuple[tuple[str, str], ...]:
        """The selected columns that stand beside a ranking's own; `*` adds none."""
        selected = [item for item in items if isinstance(item, ast.SelectItem)]
        found = scope.items(selected)
        for item, (label, _) in zip(selected, found, strict=True):
            if label in RANKING_COLUMNS:
                self.fail(item, f"a ranking has a column {label!r} of its own", fix="choose another name after AS")
        return tuple(found)

    def _datasets(self, names: Sequence[ast.DatasetName]) -> list[DatasetRecord]:
        registered = {dataset.name: dataset for dataset in self._catalog.datasets()}
        found = []
        for written in names:
            if written.name not in registered:
                self.fail(
                    written,
                    f"there is no dataset {written.name!r}",
                    written.name,
                    registered,
                    fix=f"register it with 'shiftql datasets add {written.name} PATH'",
                )
            found.append(registered[written.name])
        return found

    def _check_fit(
        self,
        select: ast.Select,
        rankers: Iterable[BoundRanker],
        train: Sequence[DatasetRecord],
        test: Sequence[DatasetRecord],
    ) -> None:
        places = [*select.trained_on, *select.tested_on]
        for place, dataset in zip(places, [*train, *test], strict=True):
            if dataset.modality != train[0].modality:
                self.fail(
                    place, f"{dataset.name} holds {dataset.modality} rows and {train[0].name} {train[0].modality}"
                )
            for ranker in rankers:
                if dataset.task not in ranker.spec.tasks:
                    self.fail(
                        place,
                        f"{ranker.spec.label} is not defined for {dataset.task}, the task of {dataset.name}",
                        allowed=[spec.label for spec in RANKERS.values() if dataset.task in spec.tasks],
                    )

    def _rows(self, select: ast.Select, scope: _Scope) -> BoundRows:
        items = scope.items(select.items)
        statement = sql_select(*[scope.relation.columns[column].label(label) for label, column in items])
        for part in (scope.relation.condition, scope.predicate(select.where) if select.where else None):
            if part is not None:
                statement = statement.where(part)
        if select.distinct:
            statement = statement.distinct()
        for key in select.order_by:
            name = scope.column(key.key)
            column = scope.relation.columns[name]
            statement = statement.order_by((desc if key.descending else asc)(column).nulls_last())
        if not select.distinct:
            statement = statement.order_by(scope.relation.columns[scope.relation.order])
        if select.limit is not None:
            statement = statement.limit(select.limit)
        return BoundRows(
            text=select.text,
            relation=scope.relation.name,
            columns=tuple(label for label, _ in items),
            select=statement,
            condition=self._source_of(select.where),
            order=", ".join(
                f"{scope.column(key.key)} {'descending' if key.descending else 'ascending'}" for key in select.order_by
            )
            or None,
            limit=select.limit,
        )

    def _source_of(self, node: ast.Node | None) -> str | None:
        if node is None:
            return None
        return " ".join(self._text[node.position.start : node.position.end].split())

    def fail(
        self,
        node: ast.Node,
        message: str,
        name: str | None = None,
        candidates: Iterable[str] = (),
        *,
        allowed: Sequence[str] = (),
        fix: str | None = None,
    ) -> NoReturn:
        """Raise a BindingError at a node; with `name`, near candidates are proposed and all are allowed."""
        candidates = list(candidates)
        if name is not None and (matches := near(name, candidates)):
            fix = f"did you mean {' or '.join(matches)}?"
        raise self._placed(BindingError(message, subject=name, allowed=allowed or candidates, fix=fix), node)

    def _placed(self, error: BindingError, node: ast.Node) -> BindingError:
        return BindingError(
            error.message,
            text=self._text,
            line=node.position.line,
            column=node.position.column,
            length=node.position.length,
            subject=error.subject,
            allowed=error.allowed,
            fix=error.fix,
        )


class _Scope:
    """The columns that can be named in a statement, and predicates over them."""

    def __init__(self, binder: _Binder, relation: Relation, written: ast.Relation) -> None:
        self._binder = binder
        self.relation = relation
        self.table = relation.table
        self._qualifiers = {fold(written.alias or written.name)}
        self._by_fold = {fold(name): name for name in relation.columns}
        self._by_fold |= {fold(alias): name for alias, name in relation.aliases.items()}

    def is_column(self, key: ast.Name | ast.RankerCall) -> bool:
        return isinstance(key, ast.Name) and (key.qualifier is not None or fold(key.name) in self._by_fold)

    def column(self, node: Any) -> str:
        """The name of a column that is written at a node."""
        if node.qualifier is not None and fold(node.qualifier) not in self._qualifiers:
            self._binder.fail(node, f"{node.qualifier!r} is not what is selected from", allowed=[self.relation.name])
        name = self._by_fold.get(fold(node.name))
        if name is None:
            self._binder.fail(
                node, f"{self.relation.name} has no column {node.name!r}", node.name, self.relation.columns
            )
        return name

    def items(self, items: Sequence[ast.Star | ast.SelectItem]) -> list[tuple[str, str]]:
        """(label, column) of every result column."""
        found: list[tuple[str, str]] = []
        for item in items:
            if isinstance(item, ast.Star):
                found += [(name, name) for name in self.relation.columns]
            else:
                name = self.column(item.expression)
                found.append((item.alias or name, name))
        labels = [label for label, _ in found]
        for item, (label, _) in zip(items, found, strict=False):
            if labels.count(label) > 1 and isinstance(item, ast.SelectItem):
                self._binder.fail(item, f"two columns of the result are called {label!r}", fix="rename one with AS")
        return found

    def predicate(self, node: ast.Predicate) -> ColumnElement[bool]:
        """The predicate in SQL, every value a bound parameter."""
        match node:
            case ast.And(operands=operands):
                return and_(*map(self.predicate, operands))
            case ast.Or(operands=operands):
                return or_(*map(self.predicate, operands))
            case ast.Not(operand=operand):
                return not_(self.predicate(operand))
            case ast.Comparison(operator=operator, left=left, right=right):
                column = self.relation.columns[self.column(left)]
                if isinstance(right, ast.Column):
                    other: ColumnElement[Any] = self.relation.columns[self.column(right)]
                else:
                    other = self._value(column, right, left)
                return _COMPARE[operator](column, other)
            case ast.Between(operand=operand, low=low, high=high):
                column = self.relation.columns[self.column(operand)]
                return column.between(self._value(column, low, operand), self._value(column, high, operand))
            case ast.InList(operand=operand, values=values):
                column = self.relation.columns[self.column(operand)]
                return column.in_([self._value(column, value, operand) for value in values])
            case ast.IsNull(operand=operand):
                return self.relation.columns[self.column(operand)].is_(None)
            case ast.Like(operand=operand, pattern=pattern):
                column = self.relation.columns[self.column(operand)]
                if _kind_of(column.type)[0] != "text":
                    self._binder.fail(node, f"LIKE is for text, and {operand.name} is not text")
                return column.like(bindparam(None, pattern, unique=True))
            case ast.Column():
                column = self.relation.columns[self.column(node)]
                return column.is_(True) if isinstance(column.type, sqltypes.Boolean) else column.is_not(None)

    def _value(self, column: ColumnElement[Any], literal: ast.Literal, written: ast.Column) -> ColumnElement[Any]:
        value = literal.value
        kind, fits, example = _kind_of(column.type)
        if kind == "date" and isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)  # type: ignore[assignment]
            except ValueError:
                fits = ()
        if kind == "truth value" and isinstance(value, str) and value.lower() in {"true", "false"}:
            value = value.lower() == "true"
        # bool is a subclass of int.
        if not isinstance(value, fits) or (isinstance(value, bool) and kind != "truth value"):
            self._binder.fail(
                literal,
                f"{written.name} is compared with {literal.value!r}, but holds a {kind}",
                fix=f"write for example {example}",
            )
        if kind == "date" and value.tzinfo is None:  # type: ignore[union-attr]
            value = value.astimezone()  # type: ignore[union-attr]
        return bindparam(None, value, type_=column.type, unique=True)


_COMPARE: Mapping[str, Any] = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def _kind_of(column_type: Any) -> tuple[str, tuple[type, ...], str]:
    """What a column holds in words, the Python types that fit, and an example."""
    if isinstance(column_type, sqltypes.Boolean):
        return "truth value", (bool,), "TRUE"
    if isinstance(column_type, sqltypes.Numeric | sqltypes.Integer):
        return "number", (int, float), "10M"
    if isinstance(column_type, sqltypes.String) or getattr(column_type, "impl", None).__class__ is sqltypes.String:
        return "text", (str,), "'text'"
    return "date", (datetime,), "'2026-01-31'"


def _is_loss_or_accuracy(key: ast.Name | ast.RankerCall) -> bool:
    return isinstance(key, ast.Name) and fold(key.name) in _ERROR_NAMES | _ACCURACY_NAMES
