"""The binder of questions: every name looked up, every value checked, relational work compiled to SQL."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NoReturn

from sqlalchemy import ColumnElement, func
from sqlalchemy import Select as SqlSelect
from sqlalchemy import select as sql_select
from sqlalchemy.orm import aliased
from sqlmodel import col

from shiftql import ast
from shiftql.bound import (
    BoundAverage,
    BoundDataset,
    BoundDistances,
    BoundFinetune,
    BoundQuery,
    BoundRanker,
    BoundRanking,
    BoundRows,
    BoundSet,
    Declaration,
    Lookup,
    Question,
    nothing_known,
    steps_in,
)
from shiftql.dataset_binder import DatasetBinder
from shiftql.finetune_planner import finetunable, in_epochs
from shiftql.places import Places
from shiftql.predicates import Predicates, kind_of
from shiftql.probe_binder import ProbeBinder
from shiftql.pushing import is_each_by_itself, pushable
from shiftql.ranker_binder import ACCURACY_NAMES, ERROR_NAMES, RankerBinder
from shiftql.relations import RELATION_NAMES, RELATIONS, relation_named
from shiftql.scope import (
    DATASET,
    DATASET_NAME,
    MODEL,
    MODEL_NAME,
    ORIGIN,
    Column,
    Projection,
    Sort,
    Table,
    combine,
    common_columns,
    first_of_groups,
    join,
    open_relation,
    ranked_ids,
    with_models,
)
from shiftql.script import write_script
from shiftql.strategies.rungs import least_epochs
from shiftql.strategies.successive_halving import least_budget
from shiftql.tables import RANKING_KEYS
from storage.catalog import Catalog, DatasetRecord, ModelRecord
from storage.database import Database
from storage.errors import BindingError
from storage.lineage import Lineage, lineage_of, subject_of
from storage.names import fold
from tasks.rankers.specs import RankerSpec, all_rankers, bind_arguments, find_ranker

# What is not registered has no number: its name tells it apart.
_NAMES_OF = {MODEL: MODEL_NAME, DATASET: DATASET_NAME}
_AGGREGATED = {"accuracy", "error", "value", "cost_seconds"}
# Recorded figures of which more is better.
_HIGHER_IS_BETTER = {"accuracy", "value"}
_POOLED = aliased(ModelRecord)
_LISTED = aliased(DatasetRecord)
_VEC, _PROBE = "task2vec.vec", "task2vec.probe"
# Rankers that fine-tune models.
_TRAINED = {"finetune", "strategy"}
# What every row of a ranking of datasets says besides the selected columns.
_DISTANCE_KEYS = {"distance", "probe"}
_COMPUTED = {_VEC, _PROBE}


def bind(
    statement: ast.Query | ast.Finetune,
    database: Database,
    text: str = "",
    declared: Mapping[str, Declaration] | None = None,
    lookup: Lookup = nothing_known,
) -> Question:
    """Look up every name of a question in the catalog and among the declared ones.

    `text` is the whole query, for the carets of errors; `lookup` says what is known of rankings that the question
    rests on. Raises BindingError at the place that does not fit, with what is allowed there and the near names.
    """
    binder = _Binder(Catalog(database), database, text, declared or {}, lookup)
    if isinstance(statement, ast.Finetune):
        return binder.finetune(statement)
    return binder.query(statement)


@dataclass
class _Scope:
    """One select while it is bound: from what and which rows, and the rankings that found their way into it."""

    table: Table
    conditions: list[ColumnElement[bool]] = field(default_factory=list)
    inputs: list[BoundQuery] = field(default_factory=list)
    computed: set[str] = field(default_factory=set)

    @property
    def base(self) -> SqlSelect[Any]:
        """The rows in SQL, without columns."""
        vectors = self.table.vectors
        source = self.table.source if vectors is None or not self.computed else vectors.join(self.table.source)
        return sql_select().select_from(source).where(*self.conditions)

    def take(self, column: Column) -> Column:
        """The column as it is selected; what it takes to compute it is noted."""
        if column.entity not in _COMPUTED:
            return column
        self.computed.add(column.entity)
        return Column(column.expression)


class _Binder(Places):
    def __init__(
        self,
        catalog: Catalog,
        database: Database,
        text: str,
        declared: Mapping[str, Declaration],
        lookup: Lookup,
    ) -> None:
        super().__init__(text)
        self._catalog = catalog
        self._database = database
        self._declared = declared
        self._lookup = lookup
        self._datasets = DatasetBinder(catalog, text)
        self._calls = RankerBinder(text)
        self._probes = ProbeBinder(catalog, database, text)
        self._openings: Counter[str] = Counter()

    # --- queries ----------------------------------------------------------------------------------------------

    def query(self, query: ast.Query) -> BoundQuery:
        match query:
            case ast.Select():
                return self._select(query)
            case ast.SetOperation():
                return self._set_operation(query)
            case ast.DeclaredName():
                return self._declared_query(query)

    def _declared_query(self, written: ast.DeclaredName) -> BoundQuery:
        declaration = self._declared.get(fold(written.name))
        if declaration is None:
            relation = relation_named(written.name)
            self.fail(
                written,
                f"nothing is declared as {written.name!r}",
                written.name,
                self._declared_names(),
                fix=f"declare it first: DECLARE {written.name} AS SELECT …"
                if relation is None
                else f"it is a relation: SELECT * FROM {relation.name}",
            )
        binder = _Binder(self._catalog, self._database, declaration.text, declaration.declared, self._lookup)
        binder._openings = self._openings
        return binder.query(declaration.statement.query)

    def _declared_names(self) -> list[str]:
        return [declaration.name for declaration in self._declared.values()]

    def _set_operation(self, operation: ast.SetOperation) -> BoundSet:
        left, right = self.query(operation.left), self.query(operation.right)
        inputs: list[BoundQuery] = []
        ours, theirs = self._result(left, inputs, operation.left), self._result(right, inputs, operation.right)
        if operation.keeps_duplicates and operation.operator != "union":
            phrase = f"{operation.operator.upper()} ALL"
            place = self.part(operation, phrase, after=operation.left)
            self.fail(place, f"{phrase} is not in the language", fix="leave ALL out")
        if len(ours.columns) != len(theirs.columns):
            self.fail(
                operation.right,
                f"{operation.operator.upper()} is of the same columns, and the left side has {len(ours.columns)}, the"
                f" right side {len(theirs.columns)}",
                fix="select as many columns on both sides",
            )
        for label, mine, other in zip(ours.columns, ours.columns.values(), theirs.columns.values(), strict=True):
            kinds = [kind_of(each.expression.type)[0] for each in (mine, other)]
            if kinds[0] != kinds[1]:
                self.fail(
                    operation.right,
                    f"{label} is {kinds[0]} on the left and {kinds[1]} on the right",
                    fix="select the columns in the same order on both sides",
                )
        compound = combine(operation.operator, ours.select, theirs.select, keeps_duplicates=operation.keeps_duplicates)
        rows = compound.subquery()
        columns = {
            label: Column(expression, mine.entity if mine.entity == other.entity else None)
            for label, expression, mine, other in zip(
                ours.columns, rows.c, ours.columns.values(), theirs.columns.values(), strict=True
            )
        }
        return BoundSet(
            text=operation.text,
            title=operation.operator.upper(),
            projection=Projection(
                base=sql_select().select_from(rows),
                columns=columns,
                hidden={},
                sorts=tuple(Sort(each.expression) for each in columns.values()),
            ),
            inputs=tuple(inputs),
            operator=operation.operator,
            left=left,
            right=right,
        )

    def _result(self, question: BoundQuery, inputs: list[BoundQuery], place: ast.Node) -> Projection:
        """The rows of a nested question; what has to be known for them is added to `inputs`."""
        if isinstance(question, BoundRows) and question.embeddings:
            inputs.append(question)
            return question.projection
        if not isinstance(question, BoundRanking | BoundDistances):
            inputs += question.inputs
            return question.projection
        if isinstance(question, BoundRanking) and len(question.rankers) > 1:
            self.fail(
                place,
                f"this query has {len(question.rankers)} rankings, and one can be selected from",
                fix="name one ranker in CLASSIFIED BY",
            )
        inputs.append(question)
        ranked = ranked_ids(self._lookup(question).rows)
        projection = question.projection
        if isinstance(question, BoundRanking):
            number, score = projection.hidden["model_id"], "score"
        else:
            number, score = question.dataset_id, "distance"
        base = projection.base.join(ranked, number.expression == ranked.c.id)
        scores = {"rank": Column(ranked.c.rank), score: Column(ranked.c.score)}
        return replace(
            projection,
            base=base,
            hidden={**projection.hidden, **scores},
            sorts=(Sort(ranked.c.rank), *projection.sorts),
        )

    def _select(self, select: ast.Select) -> BoundQuery:
        scope = _Scope(_with_aliases(self._sources(select), select.items))
        if scope.table.condition is not None:
            scope.conditions.append(scope.table.condition)
        if select.where is not None:
            scope.conditions.append(self._predicates(scope).compile(select.where))
        if select.other_than is not None:
            scope.conditions.append(self._other_than(select.other_than, scope))
        rankers = self._rankers(select, scope)
        if select.retrieve is not None:
            if rankers:
                self.fail(
                    select.retrieve,
                    "RETRIEVE orders by a column, and a ranker orders this already",
                    fix="rank what a sub-select retrieves: FROM (SELECT * FROM … RETRIEVE …)",
                )
            self._retrieve(select.retrieve, scope)
        bound = self._answerable(select, scope, rankers)
        if scope.computed and not isinstance(bound, BoundRows):
            self.fail(
                select.order_by[0],
                "vec and probe are columns of datasets, and a ranking has none of them",
                fix="select vec by a query of its own; Task2Vec(probe='…') names the probe of a ranking",
            )
        return bound

    def _answerable(self, select: ast.Select, scope: _Scope, rankers: Sequence[BoundRanker]) -> BoundQuery:
        """The kind of question a select is, by what it orders by."""
        if any(isinstance(key.key, ast.Aggregate) for key in select.order_by):
            return self._average(select, scope, rankers)
        if rankers and rankers[0].spec.kind == "task2vec":
            return self._distances(select, scope, rankers)
        if rankers:
            return self._ranking(select, scope, rankers)
        return self._rows(select, scope)

    def _sources(self, select: ast.Select) -> Table:
        first, *others = select.sources
        table = self._source(first, () if others else pushable(select))
        for written in others:
            right = self._source(written)
            if table.parts.keys() & right.parts.keys():
                name = written.alias or (written.name if isinstance(written, ast.Relation) else right.name)
                self.fail(written, f"two sources go by the name {name!r}", fix="give one of them another name with AS")
            common = common_columns(table, right)
            if not common:
                self.fail(
                    written,
                    f"{table.name} and {right.name} have no column in common to join on",
                    fix="select a column that both have; benchmark_results has model_id and dataset_id",
                )
            table = join(table, right, common)
        return table

    def _source(self, written: ast.Relation | ast.SubSelect, filters: Sequence[ast.Predicate] = ()) -> Table:
        """What is selected from, by something that filters it so."""
        if isinstance(written, ast.SubSelect):
            if written.alias is None:
                self._openings["sub-select"] += 1
            return self._nested(written.query, written.alias or f"sub-select {self._openings['sub-select']}", filters)
        name = written.alias or written.name
        if fold(written.name) in self._declared:
            return self._nested(ast.DeclaredName(name=written.name, position=written.position), name, filters)
        relation = relation_named(written.name)
        if relation is None:
            self.fail(
                self.part(written, written.name),
                f"there is no relation {written.name!r}",
                written.name,
                [*RELATION_NAMES, *self._declared_names()],
            )
        self._openings[relation.name] += 1
        return open_relation(relation, name, self._openings[relation.name])

    def _nested(self, query: ast.Query, name: str, filters: Sequence[ast.Predicate]) -> Table:
        question = self.query(query)
        if isinstance(question, BoundRanking) and is_each_by_itself(question):
            question = replace(question, unneeded=self._unneeded(question, name, filters))
        inputs: list[BoundQuery] = []
        table = self._result(question, inputs, query).as_table(name)
        return replace(table, inputs=tuple(inputs))

    def _unneeded(self, question: BoundRanking, name: str, filters: Sequence[ast.Predicate]) -> frozenset[str]:
        """The fingerprints of models that filters on what the catalog says of them leave out of a ranking."""
        scope = _Scope(question.projection.as_table(name))

        def refuse(query: ast.Query) -> NoReturn:
            self.fail(query, "what another query results in may not be known yet")

        predicates = Predicates(
            self, lambda node: self._column(node, scope), refuse, lambda name: fold(name) in self._declared
        )
        for each in filters:
            # What is of the ranking itself, of other queries, or wrong is left to whoever filters.
            with contextlib.suppress(BindingError):
                scope.conditions.append(predicates.compile(each))
        if not scope.conditions:
            return frozenset()
        number = scope.table.with_entity(MODEL)
        assert number is not None
        with self._database.session() as session:
            found = session.connection().execute(scope.base.with_only_columns(number, maintain_column_froms=True))
            numbers = set(found.scalars())
        needed = {model.fingerprint for model in question.models if model.model_id in numbers}
        return frozenset(model.fingerprint for model in question.models) - needed

    def _predicates(self, scope: _Scope) -> Predicates:
        def project(query: ast.Query) -> Projection:
            return self._result(self.query(query), scope.inputs, query)

        return Predicates(
            self, lambda node: self._column(node, scope), project, lambda name: fold(name) in self._declared
        )

    def _other_than(self, query: ast.Query, scope: _Scope) -> ColumnElement[bool]:
        """Not one of the models, or datasets, that a query results in; the query may be the name of a single one."""
        table = scope.table
        if isinstance(query, ast.DeclaredName) and fold(query.name) not in self._declared:
            catalog = self._catalog
            kind, find, records = (
                ("dataset", catalog.find_datasets, catalog.datasets)
                if table.with_entity(MODEL_NAME) is None
                else ("model", catalog.find_models, catalog.models)
            )
            name = table.with_entity(f"{kind}.name")
            if name is None or not find([query.name]):
                self.fail(
                    query,
                    f"nothing is declared as {query.name!r}, and no {kind} is called so",
                    query.name,
                    [*self._declared_names(), *(record.name for record in records())],
                )
            return name != query.name
        others = self._result(self.query(query), scope.inputs, query)
        for entity in (MODEL, MODEL_NAME, DATASET, DATASET_NAME):
            ours, theirs = table.with_entity(entity), others.only(entity)
            if ours is not None and theirs is not None:
                return ours.not_in(theirs.values())
        self.fail(
            query,
            f"this does not tell which rows of {table.name} are meant",
            fix="select model_id or dataset_id, or the name, on both sides",
        )

    def _retrieve(self, written: ast.Retrieve, scope: _Scope) -> None:
        """Leave only the first rows of every group in the scope."""
        if scope.computed:
            self.fail(
                written,
                "RETRIEVE is of what the catalog holds, and vec and probe are computed",
                fix="retrieve first and select vec by name: WHERE name IN (SELECT name FROM datasets RETRIEVE …)",
            )
        parts = {name: _without_computed(part) for name, part in scope.table.parts.items()}
        scope.table = replace(_without_computed(scope.table), parts=parts)
        group, order = (self._column(node, scope) for node in (written.group, written.order))
        name = scope.table.with_entity(_NAMES_OF.get(group.entity or "", ""))
        groups = [group.expression, *([] if name is None else [name])]
        sort = Sort(order.expression, written.descending)
        scope.table = first_of_groups(scope.base, scope.table, groups, sort, written.count)
        assert scope.table.condition is not None
        scope.conditions = [scope.table.condition]

    # --- columns ----------------------------------------------------------------------------------------------

    def _column(self, node: Any, scope: _Scope) -> Column:
        """The column that is written at a node."""
        table = scope.table
        if node.qualifier is not None:
            part = table.parts.get(fold(node.qualifier))
            if part is None:
                self.fail(
                    node, f"{node.qualifier!r} is not what is selected from", node.qualifier, _names_of(table.parts)
                )
            table = part
        label = table.label_of(node.name)
        if label is not None:
            return scope.take(table.nameable[label])
        clashing = [
            f"{name}.{label}"
            for name, part in zip(_names_of(table.parts), table.parts.values(), strict=True)
            if (label := part.label_of(node.name)) is not None
        ]
        if clashing:
            self.fail(
                node,
                f"{node.name!r} could be either of {len(clashing)} columns",
                allowed=clashing,
                fix="name its relation",
            )
        others = [each.name for each in RELATIONS.values() if each.modality is None and node.name in each.columns]
        self.fail(
            node,
            f"{table.name} has no column {node.name!r}",
            node.name,
            table.columns,
            fix=f"it is a column of {' and '.join(others)}" if others else None,
        )

    def _is_column(self, key: ast.Name | ast.RankerCall | ast.Aggregate, table: Table) -> bool:
        if not isinstance(key, ast.Name):
            return False
        return key.qualifier is not None or table.label_of(key.name) is not None

    def _items(self, items: Sequence[ast.Star | ast.SelectItem], scope: _Scope) -> dict[str, Column]:
        """Every result column by its label."""
        found: dict[str, Column] = {}
        for item in items:
            if isinstance(item, ast.Star):
                new = dict(scope.table.columns)
            else:
                column = self._column(item.expression, scope)
                new = {item.alias or self._label(item.expression, scope.table): column}
            for label, column in new.items():
                if fold(label) in map(fold, found):
                    self.fail(item, f"two columns of the result are called {label!r}", fix="rename one with AS")
                found[label] = column
        return found

    def _label(self, written: ast.Column, table: Table) -> str:
        part = table if written.qualifier is None else table.parts[fold(written.qualifier)]
        label = part.label_of(written.name)
        assert label is not None
        return label

    def _sorts(self, keys: Iterable[ast.OrderKey], scope: _Scope) -> tuple[Sort, ...]:
        return tuple(Sort(self._column(key.key, scope).expression, key.descending) for key in keys)

    # --- questions the database answers -------------------------------------------------------------------------

    def _rows(self, select: ast.Select, scope: _Scope) -> BoundRows:
        for clause, node in (("CHUNK", select.chunk), ("BUDGET", select.budget)):
            if node is not None:
                self.fail(node, f"{clause} is for rankers, and ORDER BY names none", fix=f"leave {clause} out")
        columns = self._items(select.items, scope)
        sorts = self._sorts(select.order_by, scope)
        condition = self._condition(select)
        if _VEC in scope.computed and _PROBE not in scope.computed:
            assert scope.table.vectors is not None
            chosen = self._probes.choose(select)
            scope.conditions.append(scope.table.vectors.probe.in_(chosen))
            named = f"probe = {' or '.join(chosen)}"
            condition = f"{condition} and {named}" if condition else named
        if select.distinct:
            shown = [each.expression for each in columns.values()]
            for key, sort in zip(select.order_by, sorts, strict=True):
                if not any(sort.expression is expression for expression in shown):
                    self.fail(
                        key,
                        "DISTINCT rows can be ordered by their own columns only",
                        allowed=list(columns),
                        fix="select this column too",
                    )
            sorts += tuple(Sort(expression) for expression in shown)
        else:
            sorts += scope.table.order
            if scope.table.vectors is not None and scope.computed:
                sorts += (Sort(scope.table.vectors.probe),)
        projection = Projection(
            base=scope.base,
            columns=columns,
            hidden=self._hidden(scope, columns),
            sorts=sorts,
            limit=select.limit,
            distinct=select.distinct,
        )
        return BoundRows(
            text=select.text,
            title=scope.table.name,
            projection=projection,
            inputs=(*scope.table.inputs, *scope.inputs),
            condition=condition,
            order=", ".join(
                f"{self._label(key.key, scope.table)} {'descending' if key.descending else 'ascending'}"  # type: ignore[arg-type]
                for key in select.order_by
            )
            or None,
            retrieve=self._retrieve_text(select.retrieve),
            limit=select.limit,
            embeddings=self._probes.embeddings(select, scope.table.vectors, projection)
            if scope.computed and scope.table.vectors is not None
            else (),
        )

    def _condition(self, select: ast.Select) -> str | None:
        """What a row must meet, as it was written."""
        parts = [self.written(select.where)]
        if select.other_than is not None:
            parts.append(f"{'and ' if select.where else ''}not one of {self.written(select.other_than)}")
        return " ".join(part for part in parts if part) or None

    def _hidden(self, scope: _Scope, columns: Mapping[str, Column]) -> dict[str, Column]:
        """What tells the rows apart for whoever selects from them, though it is not selected here."""
        kept = {each.entity for each in columns.values()}
        return {
            label: each
            for label, each in scope.table.nameable.items()
            if each.entity in {MODEL, DATASET, ORIGIN} and each.entity not in kept and label not in columns
        }

    def _retrieve_text(self, written: ast.Retrieve | None) -> str | None:
        if written is None:
            return None
        direction = "highest" if written.descending else "lowest"
        return f"{written.count} of {direction} {written.order.name} for each {written.group.name}"

    # --- rankers ------------------------------------------------------------------------------------------------

    def _rankers(self, select: ast.Select, scope: _Scope) -> list[BoundRanker]:
        """The rankers that order the result, from ORDER BY or CLASSIFIED BY; none for a task-agnostic question."""
        if select.classified_by:
            key = select.order_by[0].key if len(select.order_by) == 1 else None
            if not isinstance(key, ast.Aggregate) and not _is_loss_or_accuracy(key):
                where = select.order_by[0] if select.order_by else select.classified_by[0]
                self.fail(where, "CLASSIFIED BY goes with ORDER BY err or ORDER BY acc", fix="write ORDER BY acc")
            return [self._calls.bind(call) for call in select.classified_by]
        keys = [key for key in select.order_by if not self._is_column(key.key, scope.table)]
        if any(isinstance(key.key, ast.Aggregate) for key in keys):
            if len(select.order_by) > 1:
                self.fail(select.order_by[1], "a statistic is the only sort key of its ranking", fix="keep one")
            return []
        if not keys:
            datasets = select.trained_on or select.tested_on
            if datasets and select.order_by:
                self.fail(
                    datasets[0],
                    "TRAINED ON and TESTED ON rank by a ranker, and ORDER BY names none",
                    allowed=[spec.label for spec in all_rankers()],
                    fix="add for example ORDER BY Linear",
                )
            return [self._calls.bind(ast.Name(name="Auto", position=select.position))] if datasets else []
        if len(select.order_by) > 1:
            self.fail(
                select.order_by[1],
                "a ranker is the only sort key of its ranking",
                fix="for several rankings write ORDER BY acc … CLASSIFIED BY [ranker, ranker]",
            )
        key = keys[0].key
        assert not isinstance(key, ast.Aggregate)
        return [self._calls.bind(key, scope.table)]

    def _ranking(self, select: ast.Select, scope: _Scope, rankers: Sequence[BoundRanker]) -> BoundRanking:
        table = scope.table = self._models_of(select, scope)
        if select.distinct:
            self.fail(
                self.part(select, "DISTINCT"),
                "DISTINCT is for columns; a ranking holds each model once",
                fix="leave DISTINCT out",
            )
        train, test = self._datasets.splits(select, rankers)
        key = select.order_by[0] if select.order_by else None
        # The highest accuracy is the best, so neither direction of ORDER BY acc asks for the worst first.
        by_accuracy = key is not None and isinstance(key.key, ast.Name) and fold(key.key.name) in ACCURACY_NAMES
        model_id = table.with_entity(MODEL)
        assert model_id is not None
        columns = self._items(select.items, scope)
        beside = self._beside(select, columns)
        models, values = self._pool(scope.base, model_id, train[0].record.modality if train else None, beside)
        self._check_limits(select, rankers, models, train)
        hidden = {**self._hidden(scope, {}), "model_id": Column(model_id, MODEL)}
        return BoundRanking(
            text=select.text,
            title=table.name,
            projection=Projection(base=scope.base, columns=columns, hidden=hidden, sorts=table.order),
            inputs=(*table.inputs, *scope.inputs),
            models=models,
            condition=self._condition(select),
            rankers=tuple(rankers),
            train=train,
            test=test,
            descending=key is not None and key.descending and not by_accuracy,
            limit=select.limit,
            beside=values,
            chunk=select.chunk,
            budget=select.budget,
            within=select.within,
            is_unordered=not select.order_by,
        )

    def _check_limits(
        self,
        select: ast.Select,
        rankers: Sequence[BoundRanker],
        models: Sequence[ModelRecord],
        train: Sequence[BoundDataset],
    ) -> None:
        budget = select.budget
        halved = select.chunk or (budget if budget is not None and budget.unit == "pulls" else None)
        trained = next((ranker for ranker in rankers if ranker.spec.kind in _TRAINED), None)
        if halved is not None and trained is not None:
            self.fail(
                halved,
                f"CHUNK and pulls halve what a proxy sees of the training rows, and {trained.spec.label} is none",
                fix="write a budget in epochs or time, as BUDGET 500 epochs or BUDGET 2h",
            )
        if budget is not None and budget.unit == "epochs" and trained is None:
            self.fail(
                budget,
                f"{rankers[0].spec.label} trains no epochs",
                fix="write a budget in time or pulls, as BUDGET 10m or BUDGET 160, or ORDER BY FineTune",
            )
        if budget is not None and trained is not None and trained.spec.kind == "finetune" and budget.unit == "epochs":
            arms = {model.fingerprint for model in finetunable(models, trained)}
            self._check_epochs(budget, _epochs_of(trained, train), len(arms))
        num_models = len({model.fingerprint for model in models})
        least = least_budget(num_models)
        if budget is not None and budget.unit == "pulls" and budget.amount is not None and budget.amount < least:
            self.fail(
                budget,
                f"{budget.amount:g} pulls are too few to halve {num_models} models",
                fix=f"give at least {least}, a pull for each model in each round",
            )

    def _check_epochs(self, budget: ast.Budget, epochs: int, num_models: int) -> None:
        """Refuse a budget that is too small for any race of so many models over so many epochs."""
        least = least_epochs(num_models, epochs)
        if num_models and budget.amount is not None and budget.amount < least:
            self.fail(
                budget,
                f"{budget.amount:g} epochs are too few to choose among {num_models} models trained for {epochs}",
                fix=f"give at least {least}, train for fewer epochs, or narrow the models down by WHERE",
            )

    def _models_of(self, select: ast.Select, scope: _Scope) -> Table:
        table = with_models(scope.table)
        if table is None:
            self.fail(
                select.sources[0],
                f"a ranker ranks models, and {scope.table.name} holds none",
                allowed=["models", "image_models", "text_models"],
                fix="select from models, or from a query that has model_id or the models' names",
            )
        return table

    def _pool(
        self,
        base: Any,
        model_id: ColumnElement[Any],
        modality: str | None,
        beside: Mapping[str, ColumnElement[Any]] = MappingProxyType({}),
    ) -> tuple[tuple[ModelRecord, ...], dict[str, dict[str, Any]]]:
        """The models of a query in the order of their names, and the columns beside each, of its first row."""
        model = _POOLED
        labelled = [each.label(f"c{number}") for number, each in enumerate(beside.values())]
        statement = base.join(model, col(model.model_id) == model_id).with_only_columns(
            model, *labelled, maintain_column_froms=True
        )
        if modality is not None:
            statement = statement.where(col(model.modality) == modality)
        models: dict[str, ModelRecord] = {}
        found: dict[str, dict[str, Any]] = {}
        with self._database.session() as session:
            for record, *values in session.execute(statement.order_by(col(model.name))):
                models.setdefault(record.name, record)
                found.setdefault(record.name, dict(zip(beside, values, strict=True)))
        return tuple(models.values()), found if beside else {}

    def _beside(self, select: ast.Select, columns: Mapping[str, Column]) -> dict[str, ColumnElement[Any]]:
        """The selected columns that stand beside a ranking's own; `*` adds none."""
        if select.selects_all:
            return {}
        for item, label in zip(select.items, columns, strict=True):
            if label in RANKING_KEYS:
                self.fail(item, f"a ranking has a column {label!r} of its own", fix="choose another name after AS")
        return {label: each.expression for label, each in columns.items()}

    def _average(self, select: ast.Select, scope: _Scope, rankers: Sequence[BoundRanker]) -> BoundAverage:
        (order,) = select.order_by
        key = order.key
        assert isinstance(key, ast.Aggregate)
        results = open_relation(RELATIONS["benchmark_results"], "results")
        label = results.label_of(key.metric)
        if label not in _AGGREGATED:
            self.fail(self.part(key, key.metric), f"no results hold {key.metric!r}", key.metric, sorted(_AGGREGATED))
        table = self._models_of(select, scope)
        if len(rankers) > 1 or any(ranker.params != bind_arguments(ranker.spec, (), {}) for ranker in rankers):
            self.fail(
                select.classified_by[0],
                "recorded results are of one ranker as it is",
                fix="name one, without arguments",
            )
        if select.trained_on:
            self.fail(
                select.trained_on[0],
                "a statistic is of recorded results, and nothing is trained for it",
                fix="leave TRAINED ON out",
            )
        if not select.tested_on:
            self.fail(
                order,
                f"{key.function.upper()}({key.metric}) is over a set of datasets",
                fix="add TESTED ON BENCHMARK and a declared set, or datasets in […]",
            )
        datasets = self._benchmark(select.tested_on, scope)
        method = rankers[0].spec.name if rankers else "finetune"
        model_id = table.with_entity(MODEL)
        assert model_id is not None
        measured = results.columns
        value = measured[label].expression
        higher = label in _HIGHER_IS_BETTER
        best = (func.max if higher else func.min)(value)
        each = (
            sql_select(measured["model_id"].expression, measured["dataset_id"].expression, best.label("value"))
            .select_from(results.source)
            .where(measured["method"].expression == method, value.is_not(None))
            .where(measured["dataset_id"].expression.in_(datasets.values()))
            .group_by(measured["model_id"].expression, measured["dataset_id"].expression)
            .subquery()
        )
        statistic = (
            sql_select(
                each.c.model_id,
                getattr(func, key.function)(each.c.value).label("score"),
                func.count().label("n_datasets"),
            )
            .group_by(each.c.model_id)
            .subquery()
        )
        columns = self._items(select.items, scope)
        self._beside(select, columns)
        joined = sql_select().select_from(table.source.join(statistic, statistic.c.model_id == model_id))
        joined = joined.where(*scope.conditions)
        descending = order.descending and not higher
        complete = joined.where(statistic.c.n_datasets == len(datasets))
        hidden = {
            **self._hidden(scope, {}),
            "model_id": Column(model_id, MODEL),
            "name": Column(_name_of(table), MODEL_NAME),
            "score": Column(statistic.c.score),
            "n_datasets": Column(statistic.c.n_datasets),
        }
        return BoundAverage(
            text=select.text,
            title=table.name,
            projection=Projection(
                base=complete,
                columns=columns,
                hidden=hidden,
                sorts=(Sort(statistic.c.score, higher != descending), *table.order),
                limit=select.limit,
            ),
            inputs=(*table.inputs, *scope.inputs),
            shows_all=select.selects_all,
            function=key.function,
            metric=label,
            higher_is_better=higher,
            method=method,
            datasets=tuple(datasets),
            condition=self._condition(select),
            descending=descending,
            limit=select.limit,
            incomplete=joined.where(statistic.c.n_datasets < len(datasets)).with_only_columns(
                _name_of(table).label("name"), statistic.c.n_datasets, maintain_column_froms=True
            ),
        )

    def _benchmark(self, written: Sequence[ast.Dataset], scope: _Scope) -> dict[str, int | None]:
        """The ids of the datasets of a benchmark set, by name."""
        found: dict[str, int | None] = {}
        for dataset in written:
            if isinstance(dataset, ast.ChangedDataset):
                self.fail(dataset, "recorded results are of registered datasets", fix="name one without CHANGE")
            if fold(dataset.name) not in self._declared:
                record = self._datasets.record(dataset, dataset.name, self._declared_names())
                found[record.name] = record.dataset_id
                continue
            declared = ast.DeclaredName(name=dataset.name, position=dataset.position)
            table = self._result(self.query(declared), scope.inputs, dataset).as_table(dataset.name)
            name = table.with_entity(DATASET_NAME)
            number = table.with_entity(DATASET)
            if name is None and number is None:
                self.fail(
                    dataset,
                    f"{dataset.name} is not a set of datasets",
                    fix=f"DECLARE {dataset.name} AS SELECT name FROM datasets WHERE …",
                )
            records = DatasetRecord.__table__.alias()  # type: ignore[attr-defined]
            listed = (
                records.c.name.in_(sql_select(name))
                if name is not None
                else records.c.dataset_id.in_(sql_select(number))  # type: ignore[arg-type]
            )
            statement = sql_select(records.c.name, records.c.dataset_id).where(listed).order_by(records.c.name)
            with self._database.session() as session:
                found |= dict(session.connection().execute(statement).tuples().all())
        if not found:
            self.fail(written[0], "this set holds no dataset", fix=f"see what it selects: PRINT {written[0].name}")
        return found

    def _distances(self, select: ast.Select, scope: _Scope, rankers: Sequence[BoundRanker]) -> BoundDistances:
        if scope.table.with_entity(DATASET) is None:
            self.fail(
                select.sources[0],
                f"{rankers[0].spec.label} ranks datasets, and {scope.table.name} holds none",
                fix="select from datasets, or from a query that has dataset_id",
            )
        if not select.trained_on:
            self._datasets.fail_missing(rankers[0], "TRAINED ON", select.order_by[0])
        columns = self._items(select.items, scope)
        for item, label in zip(select.items, columns, strict=False):
            if label in _DISTANCE_KEYS:
                self.fail(item, f"a ranking of datasets has a column {label!r} of its own", fix="leave it out")
        train = tuple(map(self._datasets.bind, select.trained_on))
        for written, dataset in zip(select.trained_on, train, strict=True):
            self._datasets.check_fit(written, dataset.record, train[0].record, rankers)
        modality = train[0].record.modality
        probe = self._probes.bind(select.order_by[0], rankers[0].params["probe"], modality)
        dataset_id = scope.table.with_entity(DATASET)
        assert dataset_id is not None
        own_name = train[0].record.name if len(train) == 1 and not train[0].changes else None
        found = [dataset for dataset in self._datasets_of(scope.base, dataset_id) if dataset.name != own_name]
        reasons = {
            dataset.name: f"it is for {dataset.task} of {dataset.modality} rows, and {train[0].label} for"
            f" {train[0].record.task} of {modality} rows"
            for dataset in found
            if dataset.modality != modality or dataset.task not in rankers[0].spec.tasks
        }
        return BoundDistances(
            text=select.text,
            title=scope.table.name,
            projection=Projection(
                base=scope.base, columns=columns, hidden=self._hidden(scope, columns), sorts=scope.table.order
            ),
            inputs=(*scope.table.inputs, *scope.inputs),
            ranker=replace(rankers[0], params={**rankers[0].params, "probe": probe.name}),
            probe=probe,
            datasets=tuple(dataset for dataset in found if dataset.name not in reasons),
            left_out=tuple(reasons.items()),
            dataset_id=Column(dataset_id, DATASET),
            train=train,
            condition=self._condition(select),
            descending=select.order_by[0].descending,
            limit=select.limit,
        )

    def _datasets_of(self, base: SqlSelect[Any], dataset_id: ColumnElement[Any]) -> list[DatasetRecord]:
        """The datasets of a query in the order of their names."""
        statement = base.join(_LISTED, col(_LISTED.dataset_id) == dataset_id).with_only_columns(
            _LISTED, maintain_column_froms=True
        )
        with self._database.session() as session:
            found = session.execute(statement.order_by(col(_LISTED.name))).scalars()
            return list({dataset.name: dataset for dataset in found}.values())

    # --- fine-tuning --------------------------------------------------------------------------------------------

    def finetune(self, written: ast.Finetune) -> BoundFinetune:
        inputs: list[BoundQuery] = []
        train = tuple(map(self._datasets.bind, written.datasets))
        spec = find_ranker("FineTune")
        for place, dataset in zip(written.datasets, train, strict=True):
            self._datasets.check_fit(place, dataset.record, train[0].record, ())
            if dataset.record.task not in spec.tasks:
                self.fail(
                    place,
                    f"models are not fine-tuned for {dataset.record.task}, the task of {dataset.label}",
                    fix=f"name a dataset for {' or '.join(sorted(spec.tasks))}",
                )
        unlimited = replace(written, budget=None, within=None, wait=None)
        statement = write_script(unlimited, self._declared)
        earlier = self._kept_before(written)
        if earlier is not None and earlier.statement == statement:
            # What is in the pool by now, the model that was kept not least, is no part of the question.
            candidates = earlier.models
            found = self._catalog.find_models([each.name for each in candidates])
            models = tuple(model for model in found.values() if subject_of(model) in candidates)
        else:
            models = self._models_to_finetune(written, train[0].record, inputs)
            candidates = tuple(map(subject_of, models))
        grid = self._grid(spec, written)
        rankers = (BoundRanker(spec, params) for params in grid)
        self._check_budget(written, min(_epochs_of(ranker, train) for ranker in rankers))
        bound = BoundFinetune(
            text=written.text,
            statement=statement,
            spec=spec,
            models=models,
            candidates=candidates,
            train=train,
            grid=grid,
            name=written.name,
            budget=written.budget,
            within=written.within,
            inputs=tuple(inputs),
        )
        rankings = (each for each in steps_in(inputs) if isinstance(each, BoundRanking | BoundDistances))
        # Which models it is about is certain once all it rests on is known.
        is_other = earlier is not None and earlier.asked != bound.fingerprint
        if earlier is not None and is_other and all(self._lookup(each).is_known for each in rankings):
            self.fail(
                self.part(written, str(written.name)),
                f"there is a model {written.name!r} already, of another lineage: {' '.join(earlier.statement.split())}",
                fix=f"keep the result under another name, or first 'shiftql models remove {written.name}'",
            )
        return bound

    def _check_budget(self, written: ast.Finetune, epochs: int) -> None:
        """Refuse a budget that no training of so many epochs can end within."""
        budget = written.budget
        if budget is None:
            return
        if budget.unit == "pulls" or budget.amount is None:
            self.fail(
                budget,
                "models are fine-tuned for epochs, and pulls are rows that a proxy sees",
                fix="write a budget in epochs or time, as BUDGET 50 epochs or BUDGET 2h",
            )
        if budget.unit == "epochs" and budget.amount < epochs:
            self.fail(
                budget,
                f"{budget.amount:g} epochs are too few for a model that is trained for {epochs}",
                fix=f"give at least {epochs}, or train for fewer epochs, as (epochs={budget.amount:g})",
            )

    def _kept_before(self, written: ast.Finetune) -> Lineage | None:
        """The lineage of the model that has the name already. Refuses a name of one that FINETUNE did not make."""
        if written.name is None:
            return None
        if not written.name.strip():
            self.fail(written, "a model is kept under a name", fix="write for example AS 'mine'")
        model = self._catalog.find_models([written.name]).get(written.name)
        lineage = None if model is None else lineage_of(model)
        if model is not None and lineage is None:
            self.fail(
                self.part(written, written.name),
                f"there is a model {written.name!r} already",
                fix="keep the result under another name",
            )
        return lineage

    def _models_to_finetune(
        self, written: ast.Finetune, train: DatasetRecord, inputs: list[BoundQuery]
    ) -> tuple[ModelRecord, ...]:
        """The models that are named, and those of a query that take the dataset's kind of rows."""
        queries: list[ast.Query] = []
        if isinstance(written.models, tuple):
            registered = self._catalog.find_models(written.models)
            found = []
            for name in written.models:
                if fold(name) in self._declared:
                    queries.append(ast.DeclaredName(name=name, position=written.position))
                elif name in registered:
                    found.append(registered[name])
                    if found[-1].modality != train.modality:
                        self.fail(
                            self.part(written, name),
                            f"{name} takes {found[-1].modality} rows, and {train.name} holds {train.modality}",
                            fix="name a model of the same kind of rows: SHOW MODELS lists them",
                        )
                else:
                    self.fail(
                        self.part(written, name),
                        f"there is no model {name!r}",
                        name,
                        [*(model.name for model in self._catalog.models()), *self._declared_names()],
                        fix="SHOW MODELS lists them"
                        if relation_named(name) is None
                        else f"fine-tune its rows: FINETUNE (SELECT name FROM {name}) WITH …",
                    )
        else:
            queries, found = [written.models], []
        for query in queries:
            table = with_models(self._result(self.query(query), inputs, query).as_table("models"))
            model_id = None if table is None else table.with_entity(MODEL)
            if table is None or model_id is None:
                self.fail(query, "this query is not of models", fix="select model_id or the models' names")
            found += self._pool(sql_select().select_from(table.source), model_id, train.modality)[0]
        return tuple({model.name: model for model in found}.values())

    def _grid(self, spec: RankerSpec, written: ast.Finetune) -> tuple[Mapping[str, Any], ...]:
        """Every combination of the values given."""
        grid: list[tuple[ast.Argument, ...]] = [()]
        for argument in written.arguments:
            values = argument.value.values if isinstance(argument.value, ast.Values) else (argument.value,)
            grid = [(*chosen, replace(argument, value=value)) for chosen in grid for value in values]
        return tuple(self._calls.arguments(spec, chosen, written) for chosen in grid)


def _with_aliases(table: Table, items: Sequence[ast.Star | ast.SelectItem]) -> Table:
    """The table whose columns can be named by what they are selected as too."""
    aliases = dict(table.aliases)
    for item in items:
        if isinstance(item, ast.SelectItem) and item.alias and item.expression.qualifier is None:
            label = table.label_of(item.expression.name)
            if label is not None:
                aliases.setdefault(item.alias, label)
    return replace(table, aliases=aliases)


def _without_computed(table: Table) -> Table:
    return replace(table, hidden={label: each for label, each in table.hidden.items() if each.entity not in _COMPUTED})


def _names_of(parts: Mapping[str, Table]) -> list[str]:
    return [table.name if fold(table.name) == name else name for name, table in parts.items()]


def _epochs_of(ranker: BoundRanker, train: Sequence[BoundDataset]) -> int:
    """How many epochs a training of all rows of these datasets has."""
    return int(in_epochs(ranker, sum(each.record.num_rows for each in train)).params["epochs"])


def _name_of(table: Table) -> ColumnElement[Any]:
    name = table.with_entity(MODEL_NAME)
    model_id = table.with_entity(MODEL)
    assert model_id is not None
    return model_id if name is None else name


def _is_loss_or_accuracy(key: object) -> bool:
    return isinstance(key, ast.Name) and fold(key.name) in ERROR_NAMES | ACCURACY_NAMES
