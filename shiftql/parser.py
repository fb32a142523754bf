"""Text to syntax tree: `parse` is the only way into the language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, TypeVar

from lark import Lark, Token, v_args
from lark.exceptions import UnexpectedInput, VisitError
from lark.tree import Meta
from lark.visitors import Transformer_NonRecursive

from shiftql.ast import (
    Aggregate,
    And,
    Argument,
    Between,
    Budget,
    Change,
    ChangedDataset,
    Chunk,
    Column,
    Comparison,
    Dataset,
    DatasetName,
    Declare,
    DeclaredName,
    Explain,
    Finetune,
    Help,
    InList,
    InQuery,
    IsNull,
    Like,
    Literal,
    Name,
    Node,
    Not,
    Or,
    OrderKey,
    Position,
    Predicate,
    Print,
    Purge,
    Query,
    RankerCall,
    Register,
    Relation,
    Retrieve,
    Select,
    SelectItem,
    SetOperation,
    Show,
    Star,
    Statement,
    SubSelect,
    Unwatch,
    Use,
    Values,
    Watch,
)
from shiftql.syntax_errors import Place, explain_unexpected, syntax_error
from storage.errors import QuerySyntaxError

# SQLite's parser takes about 90 levels of parentheses, of which a NOT is two.
MAX_NESTING = 40
# What a column of the catalog can hold: 64 bits with sign.
NUMBER_LIMIT = 2.0**63
MAX_DIGITS = 40

SUFFIXES = {"K": 10**3, "M": 10**6, "B": 10**9}
CANONICAL_OPERATORS = {"==": "=", "<>": "!="}
AGGREGATES = ("sum", "avg", "min", "max")
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MIRRORED_OPERATORS = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}

_Nested = TypeVar("_Nested", bound=Node)


_DURATION = re.compile(r"\s*((\d+(\.\d+)?)\s*([smhd])\s*)+")


def read_duration(text: str) -> float | None:
    """The seconds of a duration; None where the text is none.

    >>> read_duration("1h30m"), read_duration("soon")
    (5400.0, None)
    """
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(amount) * SECONDS[unit] for amount, unit in re.findall(r"([\d.]+)\s*([smhd])", text))


def parse(text: str) -> tuple[Query | Statement, ...]:
    """The statements of `text`, one or more, in order.

    Raises QuerySyntaxError, with its place in `text`, if any of them is not SHiFT-QL or if there is none.
    """
    try:
        tree = lark_parser().parse(text, start="start")
    except UnexpectedInput as error:
        raise explain_unexpected(lark_parser(), text, error) from None
    try:
        statements: tuple[Query | Statement, ...] = _TreeBuilder(text).transform(tree)
    except VisitError as error:
        raise error.orig_exc from None
    if not statements:
        raise syntax_error(text, Place(0, 1), "there is no query", fix="ask something: SELECT name FROM models")
    return statements


@cache
def lark_parser() -> Lark:
    """The parser that lark makes of the grammar, for its start rules `start` and `ranker_call`."""
    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    # The tables are unpickled, so they are kept where Python keeps bytecode, which whoever could change could change
    # this module too; lark's own choice is a guessable name in the shared temporary directory. Where nothing can be
    # written they are built anew, in a tenth of a second.
    tables = Path(cache_from_source(__file__)).with_name("grammar.pickle")
    return Lark(
        grammar,
        parser="lalr",
        start=["start", "ranker_call"],
        propagate_positions=True,
        maybe_placeholders=True,
        cache=str(tables),
    )


def _position(meta: Meta) -> Position:
    return Position(line=meta.line, column=meta.column, start=meta.start_pos, end=meta.end_pos)


def _text(token: Token | None) -> str | None:
    return None if token is None else str(token)


def _split(token: Token) -> tuple[str | None, str]:
    """Qualifier and name of a column; a quoted name may hold dots of its own."""
    if token.type != "QUALIFIED":
        return None, str(token)
    qualifier, _, name = token.partition(".")
    return qualifier, name


def _from(least: int) -> str:
    return f" from {least}" if least else ""


def _negated(predicate: Predicate, negation: Token | None) -> Predicate:
    return predicate if negation is None else Not(operand=predicate, position=predicate.position)


@v_args(inline=True, meta=True)
class _TreeBuilder(Transformer_NonRecursive):
    """Every method makes the node of the grammar's rule of the same name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self._depths: dict[int, int] = {}

    def STRING(self, token: Token) -> Token:
        quote = token[0]
        return token.update(value=token[1:-1].replace(quote * 2, quote))

    def start(self, meta: Meta, *statements: Query | Statement | None) -> tuple[Query | Statement, ...]:
        return tuple(statement for statement in statements if statement is not None)

    def explain(self, meta: Meta, analyze: Token | None, json: Token | None, statement: Query | Finetune) -> Explain:
        return Explain(statement=statement, analyze=analyze is not None, json=json is not None, **self._statement(meta))

    def declare(self, meta: Meta, name: Token, query: Query) -> Declare:
        return Declare(name=str(name), query=query, **self._statement(meta))

    def print(self, meta: Meta, query: Query) -> Print:
        return Print(query=query, **self._statement(meta))

    def finetune(
        self,
        meta: Meta,
        models: tuple[str, ...] | Query,
        datasets: tuple[Dataset, ...],
        arguments: tuple[Argument, ...] | None,
        name: Token | None,
        *limits: tuple[str, Any, Meta],
    ) -> Finetune:
        return Finetune(
            models=models,
            datasets=datasets,
            arguments=arguments or (),
            name=_text(name),
            **self._each_once(limits),
            **self._statement(meta),
        )

    def register(self, meta: Meta, kind: Token, *given: Any) -> Register:
        name, location, settings = given
        if isinstance(location, tuple):
            settings = self._assigned(meta, location, settings)
            location = None
        return Register(
            kind=kind.lower(),
            name=_text(name),
            location=_text(location),
            settings=settings or (),
            **self._statement(meta),
        )

    def _assigned(self, meta: Meta, names: Sequence[Token], values: Values) -> tuple[Argument, ...]:
        """`(name, …) VALUES (value, …)` as settings."""
        if len(names) != len(values.values):
            raise self._error(
                values,
                f"{len(names)} columns are given {len(values.values)} values",
                "write one value for every column",
            )
        return tuple(
            Argument(name=str(name), value=value, position=value.position)
            for name, value in zip(names, values.values, strict=True)
        )

    def watch(self, meta: Meta, name: Token, query: Query, every: float | None) -> Watch:
        return Watch(name=str(name), query=query, every=every, **self._statement(meta))

    def unwatch(self, meta: Meta, name: Token) -> Unwatch:
        return Unwatch(name=str(name), **self._statement(meta))

    def show(self, meta: Meta, what: Token) -> Show:
        return Show(what=str(what), **self._statement(meta))

    def purge(self, meta: Meta, what: Token | None) -> Purge:
        return Purge(what=_text(what), **self._statement(meta))

    def use(self, meta: Meta, url: Token) -> Use:
        return Use(url=str(url), **self._statement(meta))

    def help(self, meta: Meta, topic: Token | None) -> Help:
        return Help(topic=_text(topic), **self._statement(meta))

    def models(self, meta: Meta, *names: Token) -> tuple[str, ...]:
        return tuple(map(str, names))

    def location(self, meta: Meta, location: Token) -> Token:
        return location

    def names(self, meta: Meta, *names: Token) -> tuple[Token, ...]:
        return names

    def values(self, meta: Meta, *values: Literal) -> Values:
        return Values(values=values, position=_position(meta))

    def query(self, meta: Meta, *parts: Any) -> Query:
        """The parts and the operators between them; INTERSECT binds more tightly than the others."""
        operands: list[Query] = [parts[0]]
        loose: list[tuple[str, bool]] = []
        for (operator, keeps_duplicates), operand in zip(parts[1::2], parts[2::2], strict=True):
            if operator == "intersect":
                operands[-1] = self._combined(operator, keeps_duplicates, operands[-1], operand)
            else:
                loose.append((operator, keeps_duplicates))
                operands.append(operand)
        combined = operands[0]
        for (operator, keeps_duplicates), operand in zip(loose, operands[1:], strict=True):
            combined = self._combined(operator, keeps_duplicates, combined, operand)
        return combined

    named_query = query

    def others(self, meta: Meta, declared: DeclaredName, query: Query) -> Select:
        """All of a declared name but what a query results in."""
        return Select(
            items=(Star(position=declared.position),),
            sources=(Relation(name=declared.name, position=declared.position),),
            other_than=query,
            **self._statement(meta),
        )

    def _combined(self, operator: str, keeps_duplicates: bool, left: Query, right: Query) -> SetOperation:
        position = Position(
            line=left.position.line,
            column=left.position.column,
            start=left.position.start,
            end=right.position.end,
        )
        operation = SetOperation(
            operator=operator,
            keeps_duplicates=keeps_duplicates,
            left=left,
            right=right,
            text=self._text[position.start : position.end],
            position=position,
        )
        return self._nested(operation, operation, (left, right))

    def set_operator(self, meta: Meta, operator: Token, all_: Token | None) -> tuple[str, bool]:
        return operator.lower(), all_ is not None

    def declared_name(self, meta: Meta, name: Token) -> DeclaredName:
        return DeclaredName(name=str(name), position=_position(meta))

    def select(
        self,
        meta: Meta,
        distinct: Token | None,
        items: tuple[Star | SelectItem, ...],
        sources: tuple[Relation | SubSelect, ...],
        *clauses: tuple[str, Any, Meta],
    ) -> Select:
        given = self._each_once(clauses)
        select = Select(items=items, sources=sources, distinct=distinct is not None, **given, **self._statement(meta))
        inner = [source.query for source in sources if isinstance(source, SubSelect)]
        return self._nested(meta, select, (*inner, given.get("where"), given.get("other_than")), levels=2)

    def _each_once(self, clauses: Iterable[tuple[str, Any, Meta]]) -> dict[str, Any]:
        """The values of clauses by their names."""
        given: dict[str, Any] = {}
        for clause, value, place in clauses:
            if clause in given:
                phrase = clause.replace("_", " ").upper()
                raise self._error(place, f"{phrase} is given twice", f"keep one {phrase}")
            given[clause] = value
        return given

    def rank(self, meta: Meta, *parts: Any) -> Select:
        """RANK is a SELECT that says BY for ORDER BY and may leave out what is selected."""
        items, sources, *clauses = parts if isinstance(parts[0], tuple) else (None, (parts[0],), *parts[1:])
        star = (Star(position=sources[0].position),)
        select: Select = self.select(meta, None, items or star, sources, *clauses)
        if not select.order_by:
            raise self._error(meta, "RANK has no ranker", 'write RANK models BY "LEEP" TRAINED ON …')
        return select

    def ranked(self, meta: Meta, pool: Token | Query) -> Relation | SubSelect:
        if isinstance(pool, Token):
            return Relation(name=str(pool), position=_position(meta))
        return SubSelect(query=pool, position=_position(meta))

    def sources(self, meta: Meta, *sources: Relation | SubSelect) -> tuple[Relation | SubSelect, ...]:
        return sources

    def sub_relation(self, meta: Meta, query: Query, alias: Token | None) -> SubSelect:
        return SubSelect(query=query, alias=_text(alias), position=_position(meta))

    def sub_select(self, meta: Meta, query: Query) -> SubSelect:
        select = SubSelect(query=query, position=_position(meta))
        return self._nested(meta, select, (query,))

    def items(self, meta: Meta, *items: Star | SelectItem) -> tuple[Star | SelectItem, ...]:
        return items

    def star(self, meta: Meta, _star: Token) -> Star:
        return Star(position=_position(meta))

    def select_item(self, meta: Meta, column: Column, alias: Token | None) -> SelectItem:
        return SelectItem(expression=column, alias=_text(alias), position=_position(meta))

    def relation(self, meta: Meta, name: Token, alias: Token | None) -> Relation:
        return Relation(name=str(name), alias=_text(alias), position=_position(meta))

    def where(self, meta: Meta, predicate: Predicate) -> tuple[str, Predicate, Meta]:
        return "where", predicate, meta

    def order_by(self, meta: Meta, *keys: OrderKey) -> tuple[str, tuple[OrderKey, ...], Meta]:
        return "order_by", keys, meta

    def by(self, meta: Meta, ranker: RankerCall) -> tuple[str, tuple[OrderKey, ...], Meta]:
        return "order_by", (OrderKey(key=ranker, position=ranker.position),), meta

    def extension(self, meta: Meta, name: Token) -> RankerCall | Aggregate:
        """A ranker in quotes with its arguments, as `"LEEP(k=1)"`."""
        if "(" not in name:
            return self.ranker_call(meta, name, ())
        # Blanks up to the string keep the places within it right.
        before = re.sub(r"[^\n]", " ", self._text[: meta.start_pos + 1])
        words, _, arguments = name.partition("(")
        called = re.sub(r"(?<=\S)\s+(?=\S)", lambda blanks: "_" * len(blanks[0]), words)
        try:
            tree = lark_parser().parse(f"{before}{called}({arguments}", start="ranker_call")
        except UnexpectedInput:
            raise self._error(
                meta, f"{name!s} is not a ranker with arguments", 'write for example "Linear(learning_rate=0.1)"'
            ) from None
        try:
            call = _TreeBuilder(self._text).transform(tree)
        except VisitError as error:
            raise error.orig_exc from None
        return replace(call, position=_position(meta))

    def classified_by(self, meta: Meta, *rankers: RankerCall | Aggregate) -> tuple[str, Any, Meta]:
        for ranker in rankers:
            if isinstance(ranker, Aggregate):
                written = f"{ranker.function.upper()}({ranker.metric})"
                raise self._error(ranker, f"{written} is no ranker", f"write ORDER BY {written} CLASSIFIED BY Linear")
        return "classified_by", rankers, meta

    def trained_on(self, meta: Meta, datasets: tuple[Dataset, ...]) -> tuple[str, tuple[Dataset, ...], Meta]:
        return "trained_on", datasets, meta

    def tested_on(self, meta: Meta, datasets: tuple[Dataset, ...]) -> tuple[str, tuple[Dataset, ...], Meta]:
        return "tested_on", datasets, meta

    def other_than(self, meta: Meta, query: Query) -> tuple[str, Query, Meta]:
        return "other_than", query, meta

    def limit(self, meta: Meta, token: Token) -> tuple[str, int, Meta]:
        return "limit", self._whole(token, "LIMIT", "write how many rows, as LIMIT 10"), meta

    def retrieve(
        self, meta: Meta, token: Token, group: Column, order: Column, direction: Token | None
    ) -> tuple[str, Retrieve, Meta]:
        count = self._whole(token, "RETRIEVE", "write how many rows of each group, as RETRIEVE 2", least=1)
        descending = direction is not None and direction.type == "DESC"
        return (
            "retrieve",
            Retrieve(count=count, group=group, order=order, descending=descending, position=_position(meta)),
            meta,
        )

    def chunk(self, meta: Meta, size: Token) -> tuple[str, Chunk, Meta]:
        fix = "write how many rows a pull takes, as CHUNK 64, or CHUNK AUTO"
        rows = None if size.type == "AUTO" else self._whole(size, "CHUNK", fix, least=1)
        return "chunk", Chunk(rows=rows, position=_position(meta)), meta

    def budget(self, meta: Meta, size: Token, unit: Token | None = None) -> tuple[str, Budget, Meta]:
        if size.type == "AUTO":
            budget = Budget(amount=None, position=_position(meta))
        elif size.type == "DURATION":
            budget = Budget(amount=self._seconds(size), unit="seconds", position=_position(meta))
        else:
            fix = "write pulls as BUDGET 160, epochs as BUDGET 500 epochs, or time as BUDGET 2h"
            amount = self._whole(size, "BUDGET", fix, least=1)
            budget = Budget(amount=amount, unit=unit.type.lower() if unit else "pulls", position=_position(meta))
        return "budget", budget, meta

    def within(self, meta: Meta, seconds: float) -> tuple[str, float, Meta]:
        return "within", seconds, meta

    def duration(self, meta: Meta, token: Token) -> float:
        return self._seconds(token)

    def wait(self, meta: Meta, token: Token) -> tuple[str, bool, Meta]:
        return "wait", token.type == "WAIT", meta

    def order_key(self, meta: Meta, key: Name | RankerCall, direction: Token | None) -> OrderKey:
        descending = direction is not None and direction.type == "DESC"
        return OrderKey(key=key, descending=descending, position=_position(meta))

    def name(self, meta: Meta, token: Token) -> Name:
        qualifier, name = _split(token)
        return Name(name=name, qualifier=qualifier, position=_position(meta))

    def ranker_name(self, meta: Meta, name: Token) -> RankerCall:
        return RankerCall(name=str(name), position=_position(meta))

    def ranker_call(self, meta: Meta, name: Token, arguments: tuple[Argument, ...]) -> RankerCall | Aggregate:
        function = name.lower()
        if function not in AGGREGATES:
            return RankerCall(name=str(name), arguments=arguments, position=_position(meta))
        metric = arguments[0].value if len(arguments) == 1 and arguments[0].name is None else None
        if not isinstance(metric, Literal) or not isinstance(metric.value, str):
            raise self._error(meta, f"{name.upper()} is of one metric", f"write for example {name.upper()}(err)")
        return Aggregate(function=function, metric=metric.value, position=_position(meta))

    def arguments(self, meta: Meta, *arguments: Argument) -> tuple[Argument, ...]:
        return arguments

    def argument(self, meta: Meta, name: Token | None, value: Literal | Values) -> Argument:
        return Argument(name=_text(name), value=value, position=_position(meta))

    def datasets(self, meta: Meta, *parts: Token | Dataset | tuple[Change, Meta]) -> tuple[Dataset, ...]:
        """The datasets of a list; a change that names no dataset belongs to the one before it."""
        role = parts[0].lower() if isinstance(parts[0], Token) else None
        datasets: list[Dataset] = []
        for part in parts:
            if isinstance(part, Token):
                continue
            if isinstance(part, DatasetName) and role is not None:
                part = replace(part, role=role)
            if isinstance(part, DatasetName | ChangedDataset):
                datasets.append(part)
                continue
            change, place = part
            if not datasets or not isinstance(datasets[-1], ChangedDataset):
                raise self._error(
                    place, "these rows are of no dataset", "write (dataset CHANGE [0, 1] TO other [4, 5])"
                )
            datasets[-1] = replace(datasets[-1], changes=(*datasets[-1].changes, change))
        return tuple(datasets)

    def dataset_name(self, meta: Meta, role: Token | None, name: Token) -> DatasetName:
        return DatasetName(name=str(name), role=None if role is None else role.lower(), position=_position(meta))

    def changed_dataset(self, meta: Meta, role: Token | None, name: Token, change: Change) -> ChangedDataset:
        return ChangedDataset(name=str(name), changes=(change,), position=_position(meta))

    def further_change(self, meta: Meta, change: Change) -> tuple[Change, Meta]:
        return change, meta

    def change(self, meta: Meta, rows: tuple[int, ...], by: Token, by_rows: tuple[int, ...]) -> Change:
        if len(rows) != len(by_rows):
            raise self._error(
                meta, f"{len(rows)} rows are to be replaced by {len(by_rows)}", "list as many rows on both sides"
            )
        if len(set(rows)) != len(rows):
            raise self._error(meta, "a row is replaced twice", "list every row once")
        return Change(rows=rows, by=str(by), by_rows=by_rows, position=_position(meta))

    def row_numbers(self, meta: Meta, *tokens: Token) -> tuple[int, ...]:
        return tuple(self._whole(token, "a row", "rows count from 0, as [0, 1]") for token in tokens)

    def disjunction(self, meta: Meta, *operands: Predicate) -> Or:
        return self._nested(meta, Or(operands=operands, position=_position(meta)), operands)

    def conjunction(self, meta: Meta, *operands: Predicate) -> And:
        return self._nested(meta, And(operands=operands, position=_position(meta)), operands)

    def negation(self, meta: Meta, _not: Token, operand: Predicate) -> Not:
        return self._nested(meta, Not(operand=operand, position=_position(meta)), (operand,))

    def comparison(self, meta: Meta, left: Column, operator: Token, right: Column | Literal | SubSelect) -> Comparison:
        canonical = CANONICAL_OPERATORS.get(operator, str(operator))
        comparison = Comparison(operator=canonical, left=left, right=right, position=_position(meta))
        return self._nested(meta, comparison, (right,)) if isinstance(right, SubSelect) else comparison

    def mirrored_comparison(self, meta: Meta, left: Literal, operator: Token, right: Column) -> Comparison:
        mirrored = Token("OPERATOR", MIRRORED_OPERATORS.get(operator, str(operator)))
        return self.comparison(meta, right, mirrored, left)

    def between(self, meta: Meta, operand: Column, negation: Token | None, low: Literal, high: Literal) -> Predicate:
        return _negated(Between(operand=operand, low=low, high=high, position=_position(meta)), negation)

    def in_list(self, meta: Meta, operand: Column, negation: Token | None, *values: Literal) -> Predicate:
        return _negated(InList(operand=operand, values=values, position=_position(meta)), negation)

    def in_query(self, meta: Meta, operand: Column, negation: Token | None, query: Query) -> Predicate:
        membership = InQuery(operand=operand, query=query, position=_position(meta))
        return _negated(self._nested(meta, membership, (query,)), negation)

    def is_null(self, meta: Meta, operand: Column, negation: Token | None) -> Predicate:
        return _negated(IsNull(operand=operand, position=_position(meta)), negation)

    def like(self, meta: Meta, operand: Column, negation: Token | None, pattern: Token) -> Predicate:
        return _negated(Like(operand=operand, pattern=str(pattern), position=_position(meta)), negation)

    def column(self, meta: Meta, token: Token) -> Column:
        qualifier, name = _split(token)
        return Column(name=name, qualifier=qualifier, position=_position(meta))

    def number(self, meta: Meta, token: Token) -> Literal:
        return Literal(value=self._number(token), position=_position(meta))

    def truth(self, meta: Meta, token: Token) -> Literal:
        return Literal(value=token.type == "TRUE", position=_position(meta))

    def text(self, meta: Meta, token: Token) -> Literal:
        return Literal(value=str(token), position=_position(meta))

    def _number(self, token: Token) -> int | float:
        factor = SUFFIXES.get(token[-1].upper(), 1)
        digits = token if factor == 1 else token[:-1]
        if len(digits) > MAX_DIGITS or abs(float(digits) * factor) >= NUMBER_LIMIT:
            raise self._error(
                token, "this number is too large", f"numbers stay below 2^63 and have at most {MAX_DIGITS} digits"
            )
        if factor == 1:
            return float(digits) if set(digits) & set(".eE") else int(digits)
        # Fraction, because 1.1 * 1000 is not 1100 in binary.
        product = Fraction(digits) * factor
        return int(product) if product.denominator == 1 else float(product)

    def _whole(self, token: Token, phrase: str, fix: str, *, least: int = 0) -> int:
        value = self._number(token)
        if not isinstance(value, int) or value < least:
            raise self._error(token, f"{phrase} takes a whole number{_from(least)}, not {token}", fix)
        return value

    def _seconds(self, token: Token) -> float:
        seconds = read_duration(token)
        if seconds is None:
            raise self._error(token, f"{token!s} is not a duration", "write for example 90s, 30m, 2h or 1d")
        if not 0 < seconds < NUMBER_LIMIT:
            raise self._error(token, f"{token!s} is no time to wait", "write for example 90s, 30m, 2h or 1d")
        return seconds

    def _nested(self, place: Meta | Node, node: _Nested, inner: Sequence[object], levels: int = 1) -> _Nested:
        depth = levels + max((self._depths.get(id(each), 0) for each in inner), default=0)
        if depth > MAX_NESTING:
            raise self._error(
                place,
                f"this is nested more than {MAX_NESTING} deep",
                "use IN, fewer NOTs and parentheses, or DECLARE parts of it under names",
            )
        self._depths[id(node)] = depth
        return node

    def _statement(self, meta: Meta) -> dict[str, Any]:
        return {"text": self._text[meta.start_pos : meta.end_pos], "position": _position(meta)}

    def _error(self, place: Meta | Token | Node, message: str, fix: str) -> QuerySyntaxError:
        stretch = Place(place.position.start, place.position.end) if isinstance(place, Node) else place
        return syntax_error(self._text, stretch, message, fix=fix)
