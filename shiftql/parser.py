"""Text to syntax tree: `parse` is the only way into the language."""

from __future__ import annotations

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
    And,
    Argument,
    Between,
    Column,
    Comparison,
    DatasetName,
    Explain,
    InList,
    IsNull,
    Like,
    Literal,
    Name,
    Not,
    Or,
    OrderKey,
    Position,
    Predicate,
    RankerCall,
    Relation,
    Select,
    SelectItem,
    Star,
    Statement,
)
from shiftql.syntax_errors import Place, explain_unexpected, syntax_error
from storage.errors import QuerySyntaxError

# Later stages walk conditions recursively; Python's own limit is about 1,000 frames.
MAX_NESTING = 100
# What a column of the catalog can hold: 64 bits with sign.
NUMBER_LIMIT = 2.0**63
MAX_DIGITS = 40

SUFFIXES = {"K": 10**3, "M": 10**6, "B": 10**9}
CANONICAL_OPERATORS = {"==": "=", "<>": "!="}
MIRRORED_OPERATORS = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}

_Nested = TypeVar("_Nested", And, Or, Not)


def parse(text: str) -> tuple[Statement, ...]:
    """The statements of `text`, one or more, in order.

    Raises QuerySyntaxError, with its place in `text`, if any of them is not SHiFT-QL or if there is none.
    """
    try:
        tree = _lark().parse(text)
    except UnexpectedInput as error:
        raise explain_unexpected(_lark(), text, error) from None
    try:
        statements: tuple[Statement, ...] = _TreeBuilder(text).transform(tree)
    except VisitError as error:
        raise error.orig_exc from None
    if not statements:
        raise syntax_error(text, Place(0, 1), "there is no query", fix="ask something: SELECT name FROM models")
    return statements


@cache
def _lark() -> Lark:
    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    # The tables are unpickled, so they are kept where Python keeps bytecode, which whoever could change could change
    # this module too; lark's own choice is a guessable name in the shared temporary directory. Where nothing can be
    # written they are built anew, in a tenth of a second.
    tables = Path(cache_from_source(__file__)).with_name("grammar.pickle")
    return Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=True, cache=str(tables))


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

    def start(self, meta: Meta, *statements: Statement | None) -> tuple[Statement, ...]:
        return tuple(statement for statement in statements if statement is not None)

    def explain(self, meta: Meta, statement: Select) -> Explain:
        return Explain(statement=statement, text=self._written(meta), position=_position(meta))

    def select(
        self,
        meta: Meta,
        distinct: Token | None,
        items: tuple[Star | SelectItem, ...],
        relation: Relation,
        *clauses: tuple[str, Any, Meta],
    ) -> Select:
        given: dict[str, Any] = {}
        for clause, value, place in clauses:
            if clause in given:
                phrase = clause.replace("_", " ").upper()
                raise self._error(place, f"{phrase} is given twice", f"keep one {phrase}")
            given[clause] = value
        return Select(
            items=items,
            relation=relation,
            distinct=distinct is not None,
            **given,
            text=self._written(meta),
            position=_position(meta),
        )

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

    def classified_by(self, meta: Meta, *rankers: RankerCall) -> tuple[str, tuple[RankerCall, ...], Meta]:
        return "classified_by", rankers, meta

    def trained_on(self, meta: Meta, *datasets: DatasetName) -> tuple[str, tuple[DatasetName, ...], Meta]:
        return "trained_on", datasets, meta

    def tested_on(self, meta: Meta, *datasets: DatasetName) -> tuple[str, tuple[DatasetName, ...], Meta]:
        return "tested_on", datasets, meta

    def limit(self, meta: Meta, token: Token) -> tuple[str, int, Meta]:
        value = self._number(token)
        if not isinstance(value, int) or value < 0:
            raise self._error(token, f"LIMIT takes a whole number, not {token}", "write how many rows, as LIMIT 10")
        return "limit", value, meta

    def order_key(self, meta: Meta, key: Name | RankerCall, direction: Token | None) -> OrderKey:
        descending = direction is not None and direction.type == "DESC"
        return OrderKey(key=key, descending=descending, position=_position(meta))

    def name(self, meta: Meta, token: Token) -> Name:
        qualifier, name = _split(token)
        return Name(name=name, qualifier=qualifier, position=_position(meta))

    def ranker_name(self, meta: Meta, name: Token) -> RankerCall:
        return RankerCall(name=str(name), position=_position(meta))

    def ranker_call(self, meta: Meta, name: Token, *arguments: Argument) -> RankerCall:
        return RankerCall(name=str(name), arguments=arguments, position=_position(meta))

    def argument(self, meta: Meta, name: Token | None, value: Literal) -> Argument:
        return Argument(name=_text(name), value=value, position=_position(meta))

    def dataset_name(self, meta: Meta, name: Token) -> DatasetName:
        return DatasetName(name=str(name), position=_position(meta))

    def disjunction(self, meta: Meta, *operands: Predicate) -> Or:
        return self._nested(meta, Or(operands=operands, position=_position(meta)), operands)

    def conjunction(self, meta: Meta, *operands: Predicate) -> And:
        return self._nested(meta, And(operands=operands, position=_position(meta)), operands)

    def negation(self, meta: Meta, _not: Token, operand: Predicate) -> Not:
        return self._nested(meta, Not(operand=operand, position=_position(meta)), (operand,))

    def comparison(self, meta: Meta, left: Column, operator: Token, right: Column | Literal) -> Comparison:
        canonical = CANONICAL_OPERATORS.get(operator, str(operator))
        return Comparison(operator=canonical, left=left, right=right, position=_position(meta))

    def mirrored_comparison(self, meta: Meta, left: Literal, operator: Token, right: Column) -> Comparison:
        mirrored = Token("OPERATOR", MIRRORED_OPERATORS.get(operator, str(operator)))
        return self.comparison(meta, right, mirrored, left)

    def between(self, meta: Meta, operand: Column, negation: Token | None, low: Literal, high: Literal) -> Predicate:
        return _negated(Between(operand=operand, low=low, high=high, position=_position(meta)), negation)

    def in_list(self, meta: Meta, operand: Column, negation: Token | None, *values: Literal) -> Predicate:
        return _negated(InList(operand=operand, values=values, position=_position(meta)), negation)

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

    def _nested(self, meta: Meta, predicate: _Nested, operands: tuple[Predicate, ...]) -> _Nested:
        depth = 1 + max(self._depths.get(id(operand), 0) for operand in operands)
        if depth > MAX_NESTING:
            raise self._error(
                meta,
                f"this condition is nested more than {MAX_NESTING} deep",
                "use IN, or fewer NOTs and parentheses",
            )
        self._depths[id(predicate)] = depth
        return predicate

    def _written(self, meta: Meta) -> str:
        return self._text[meta.start_pos : meta.end_pos]

    def _error(self, place: Meta | Token, message: str, fix: str) -> QuerySyntaxError:
        return syntax_error(self._text, place, message, fix=fix)
