"""Syntax tree to text: `parse(to_text(statement)) == (statement,)` for whatever `parse` results in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from shiftql import ast
from shiftql.parser import SECONDS
from shiftql.vocabulary import RESERVED

_BARE_NAME = re.compile(rf"(?!({'|'.join(sorted(RESERVED))})\Z)[^\W\d]\w*(-\w+)*", re.IGNORECASE)
# Keywords that only these places have, so that they are names elsewhere.
_BEFORE_ITEMS = ("all",)
_BEFORE_VALUES = ("true", "false")
_BEFORE_DATASETS = ("task", "benchmark", "change")
_AFTER_EXPLAIN = ("analyze", "json", "rank", "finetune")
_AFTER_SET_OPERATOR = ("all",)


def to_text(node: ast.Node) -> str:
    """The canonical text of a node: one line, keywords in capitals, names quoted only where they must be.

    The text of a part of a statement is what that part is written as within one.
    """
    match node:
        case ast.Select() | ast.SetOperation() | ast.DeclaredName():
            return _query(node, may_begin_with_name=False)
        case ast.Statement():
            return _statement(node)
        case ast.Star():
            return "*"
        case ast.SelectItem():
            return _column(node.expression, _BEFORE_ITEMS) + _alias(node.alias)
        case ast.Relation():
            return as_name(node.name) + _alias(node.alias)
        case ast.SubSelect():
            return f"({_query(node.query, may_begin_with_name=False)}){_alias(node.alias)}"
        case ast.OrderKey():
            return to_text(node.key) + _direction(node.descending)
        case ast.Column() | ast.Name():
            return _column(node)
        case ast.RankerCall():
            return f"{as_name(node.name)}({_listed(node.arguments)})"
        case ast.Aggregate():
            return f"{node.function.upper()}({as_name(node.metric, _BEFORE_VALUES)})"
        case ast.Argument():
            return (f"{as_name(node.name, _BEFORE_VALUES)}=" if node.name is not None else "") + to_text(node.value)
        case ast.Literal():
            return _literal(node.value)
        case ast.Values():
            return f"[{_listed(node.values)}]"
        case ast.DatasetName():
            role = f"{node.role.upper()} " if node.role else ""
            return role + as_name(node.name, _BEFORE_DATASETS)
        case ast.ChangedDataset():
            return f"({as_name(node.name, _BEFORE_DATASETS)} {_listed(node.changes)})"
        case ast.Change():
            return f"CHANGE {list(node.rows)} TO {as_name(node.by)} {list(node.by_rows)}"
        case ast.Retrieve():
            group, order = _column(node.group), _column(node.order)
            return f"RETRIEVE {node.count} GRP {group} ORD {order}{_direction(node.descending)}"
        case ast.Chunk():
            return f"CHUNK {'AUTO' if node.rows is None else node.rows}"
        case ast.Budget():
            return f"BUDGET {_budget(node)}"
        case _:
            return _predicate(node)


def as_name(name: str, keywords: Sequence[str] = ()) -> str:
    """The name bare, or quoted where it is no single word or would be read as a keyword."""
    is_keyword = re.fullmatch("|".join(keywords), name, re.IGNORECASE)
    return name if _BARE_NAME.fullmatch(name) and not is_keyword else quoted(name, '"')


def quoted(text: str, quote: str = "'") -> str:
    """The text in quotes, those within it doubled."""
    return quote + text.replace(quote, quote * 2) + quote


def _statement(node: ast.Statement) -> str:
    match node:
        case ast.Declare():
            return f"DECLARE {as_name(node.name)} AS {_query(node.query)}"
        case ast.Print():
            return f"PRINT {_query(node.query)}"
        case ast.Explain():
            kind = "EXPLAIN" + " ANALYZE" * node.analyze + " JSON" * node.json
            if isinstance(node.statement, ast.Finetune):
                return f"{kind} {_statement(node.statement)}"
            return f"{kind} {_query(node.statement, _AFTER_EXPLAIN)}"
        case ast.Finetune():
            return _finetune(node)
        case ast.Register():
            return _register(node)
        case ast.Watch():
            every = "" if node.every is None else f" EVERY {worded_duration(node.every)}"
            return f"WATCH {as_name(node.name)} AS {_query(node.query)}{every}"
        case ast.Unwatch():
            return f"UNWATCH {as_name(node.name)}"
        case ast.Show():
            return f"SHOW {as_name(node.what)}"
        case ast.Purge():
            return "PURGE" if node.what is None else f"PURGE {as_name(node.what)}"
        case ast.Use():
            return f"USE {quoted(node.url)}"
        case ast.Help():
            return "HELP" if node.topic is None else f"HELP {node.topic}"
        case _:
            raise AssertionError(node)


def _finetune(node: ast.Finetune) -> str:
    if isinstance(node.models, tuple):
        models = _one_or_list([as_name(name) for name in node.models])
    else:
        models = f"({_query(node.models)})"
    text = f"FINETUNE {models} WITH {_one_or_list(map(to_text, node.datasets))}"
    if node.arguments:
        text += f" ({_listed(node.arguments)})"
    return text + _alias(node.name) + _limits(node)


def _register(node: ast.Register) -> str:
    name = "" if node.name is None else f" {as_name(node.name)}"
    text = f"REGISTER {node.kind.upper()}{name}"
    if node.location is None:
        columns = ", ".join(as_name(setting.name or "") for setting in node.settings)
        return f"{text} ({columns}) VALUES ({_listed([setting.value for setting in node.settings])})"
    settings = f" WITH ({_listed(node.settings)})" if node.settings else ""
    return f"{text} FROM {as_name(node.location)}{settings}"


def _query(node: ast.Query, keywords: Sequence[str] = (), *, may_begin_with_name: bool = True) -> str:
    """A query whose first word may be a declared name, where that name is none of `keywords`, or may not."""
    match node:
        case ast.DeclaredName():
            return as_name(node.name, keywords) if may_begin_with_name else f"({as_name(node.name)})"
        case ast.SetOperation():
            left = _query(node.left, keywords, may_begin_with_name=may_begin_with_name)
            right = _query(node.right, _AFTER_SET_OPERATOR)
            # INTERSECT binds more tightly; equals are read from the left.
            is_tight = node.operator == "intersect"
            if is_tight and isinstance(node.left, ast.SetOperation) and node.left.operator != "intersect":
                left = f"({_query(node.left)})"
            if isinstance(node.right, ast.SetOperation) and (is_tight or node.right.operator != "intersect"):
                right = f"({_query(node.right)})"
            return f"{left} {node.operator.upper()}{' ALL' * node.keeps_duplicates} {right}"
        case ast.Select():
            return _select(node)


def _select(node: ast.Select) -> str:
    text = "SELECT DISTINCT" if node.distinct else "SELECT"
    text += f" {_listed(node.items)} FROM {' NATURAL JOIN '.join(map(to_text, node.sources))}"
    if node.where:
        text += f" WHERE {to_text(node.where)}"
    if node.order_by:
        text += f" ORDER BY {_listed(node.order_by)}"
    if node.classified_by:
        rankers = [to_text(ranker) if ranker.arguments else as_name(ranker.name) for ranker in node.classified_by]
        text += f" CLASSIFIED BY {_one_or_list(rankers)}"
    if node.trained_on:
        text += f" TRAINED ON {_one_or_list(map(to_text, node.trained_on))}"
    if node.tested_on:
        text += f" TESTED ON {_one_or_list(map(to_text, node.tested_on))}"
    if node.other_than:
        text += f" OTHER THAN {_name_or_query(node.other_than)}"
    if node.limit is not None:
        text += f" LIMIT {node.limit}"
    for clause in (node.retrieve, node.chunk):
        text += f" {to_text(clause)}" if clause else ""
    return text + _limits(node)


def _predicate(node: ast.Node) -> str:
    match node:
        case ast.Or():
            return " OR ".join(_operand(each, ast.Or) for each in node.operands)
        case ast.And():
            return " AND ".join(_operand(each, ast.Or, ast.And) for each in node.operands)
        case ast.Not(operand=ast.Between() | ast.InList() | ast.InQuery() | ast.IsNull() | ast.Like()):
            return _test(node.operand, "NOT ")
        case ast.Not():
            return f"NOT {_operand(node.operand, ast.Or, ast.And)}"
        case _:
            return _test(node, "")


def _operand(node: ast.Predicate, *bracketed: type[ast.Node]) -> str:
    return f"({to_text(node)})" if isinstance(node, bracketed) else to_text(node)


def _test(node: ast.Node, negation: str) -> str:
    match node:
        case ast.Comparison():
            return f"{_column(node.left)} {node.operator} {to_text(node.right)}"
        case ast.Between():
            return f"{_column(node.operand)} {negation}BETWEEN {to_text(node.low)} AND {to_text(node.high)}"
        case ast.InList():
            return f"{_column(node.operand)} {negation}IN ({_listed(node.values)})"
        case ast.InQuery():
            return f"{_column(node.operand)} {negation}IN {_name_or_query(node.query)}"
        case ast.IsNull():
            return f"{_column(node.operand)} IS {negation}NULL"
        case ast.Like():
            return f"{_column(node.operand)} {negation}LIKE {quoted(node.pattern)}"
        case _:
            raise AssertionError(node)


def _name_or_query(node: ast.Query) -> str:
    return as_name(node.name) if isinstance(node, ast.DeclaredName) else f"({to_text(node)})"


def _listed(nodes: Iterable[ast.Node]) -> str:
    return ", ".join(map(to_text, nodes))


def _one_or_list(texts: Iterable[str]) -> str:
    several = list(texts)
    return several[0] if len(several) == 1 else f"[{', '.join(several)}]"


def _column(node: ast.Column | ast.Name, keywords: Sequence[str] = ()) -> str:
    return as_name(node.name, keywords) if node.qualifier is None else f"{node.qualifier}.{node.name}"


def _alias(name: str | None) -> str:
    return "" if name is None else f" AS {as_name(name)}"


def _direction(is_descending: bool) -> str:
    return " DESC" if is_descending else ""


def _limits(node: ast.Select | ast.Finetune) -> str:
    text = f" {to_text(node.budget)}" if node.budget else ""
    if node.within is not None:
        text += f" WITHIN {worded_duration(node.within)}"
    return text if node.wait is None else f"{text} {'WAIT' if node.wait else 'NOWAIT'}"


def _literal(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    return quoted(value) if isinstance(value, str) else repr(value)


def _budget(budget: ast.Budget) -> str:
    if budget.amount is None:
        return "AUTO"
    if budget.unit == "seconds":
        return worded_duration(budget.amount)
    return f"{budget.amount}" + (" EPOCHS" if budget.unit == "epochs" else "")


def worded_duration(seconds: float) -> str:
    """In the largest unit that leaves no fraction; a fraction of a second stands without an exponent."""
    for unit in "dhms":
        if seconds % SECONDS[unit] == 0:
            return f"{int(seconds / SECONDS[unit])}{unit}"
    return f"{Decimal(repr(seconds)):f}s"
