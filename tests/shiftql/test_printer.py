"""The printer and the parser undo each other."""

from __future__ import annotations

import random
import runpy
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shiftql import ast
from shiftql.parser import AGGREGATES, MAX_NESTING, parse
from shiftql.printer import to_text
from shiftql.vocabulary import KEYWORDS
from storage.errors import QuerySyntaxError

FUZZ = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "fuzz.py"))
QUERIES = FUZZ["QUERIES"]
NOWHERE = ast.Position(line=1, column=1, start=0, end=0)


def node(kind, /, **fields):
    return st.builds(partial(kind, position=NOWHERE), **fields)


def many(strategy, least=0, most=2):
    return st.lists(strategy, min_size=least, max_size=most).map(tuple)


keywords = st.sampled_from(sorted({word for keyword in KEYWORDS for word in keyword.phrase.split()}))
names = st.one_of(
    st.sampled_from(["a", "name", "num_params", "digits-train", "./photos", "Cosine NN", "a.b", "", "10M", "ſelect"]),
    keywords | keywords.map(str.lower),
    st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=6),
)
qualifiers = st.none() | st.sampled_from(["m", "readers", "from-x", "é", "_1"])


def qualified(kind):
    bare = node(kind, name=names, qualifier=st.none())
    return bare | node(kind, name=st.sampled_from(["a", "from", "ALL", "b-c"]), qualifier=qualifiers)


columns = qualified(ast.Column)
numbers = st.integers(-(2**62), 2**62) | st.floats(-1e18, 1e18)
literals = node(ast.Literal, value=names | numbers | st.booleans())
arguments = node(
    ast.Argument, name=st.none() | names, value=literals | node(ast.Values, values=many(literals, least=1))
)
callables = names.filter(lambda name: name.lower() not in AGGREGATES)
calls = node(ast.RankerCall, name=callables, arguments=many(arguments))
aggregates = node(ast.Aggregate, function=st.sampled_from(AGGREGATES), metric=names)
order_keys = node(ast.OrderKey, key=qualified(ast.Name) | calls | aggregates, descending=st.booleans())


@st.composite
def changes(draw):
    rows = tuple(draw(st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True)))
    by_rows = draw(many(st.integers(0, 10**9), least=len(rows), most=len(rows)))
    return draw(node(ast.Change, rows=st.just(rows), by=names, by_rows=st.just(by_rows)))


dataset_names = node(ast.DatasetName, name=names, role=st.sampled_from([None, "task", "benchmark"]))
datasets = dataset_names | node(ast.ChangedDataset, name=names, changes=many(changes(), least=1))
counts = st.integers(1, 10**12)
seconds = st.floats(1e-9, 1e9, exclude_min=True) | st.integers(1, 10**6).map(lambda minutes: minutes * 60.0)
budgets = (
    node(ast.Budget, amount=st.none())
    | node(ast.Budget, amount=seconds, unit=st.just("seconds"))
    | node(ast.Budget, amount=counts, unit=st.sampled_from(["pulls", "epochs"]))
)
items = node(ast.Star) | node(ast.SelectItem, expression=columns, alias=st.none() | names)
relations = node(ast.Relation, name=names, alias=st.none() | names)
declared = node(ast.DeclaredName, name=names)


queries = st.deferred(lambda: st.one_of(*[declared] * 4, selects, selects, set_operations))
conditions = st.deferred(lambda: st.one_of(columns, columns, comparisons, tests, tests, ands, ors, nots))
operators = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
compared = literals | columns.filter(lambda column: column.qualifier) | node(ast.SubSelect, query=queries)
comparisons = node(ast.Comparison, operator=operators, left=columns, right=compared)
tests = st.one_of(
    node(ast.Between, operand=columns, low=literals, high=literals),
    node(ast.InList, operand=columns, values=many(literals, least=1)),
    node(ast.InQuery, operand=columns, query=queries),
    node(ast.IsNull, operand=columns),
    node(ast.Like, operand=columns, pattern=names),
)
ands = node(ast.And, operands=many(conditions, least=2))
ors = node(ast.Or, operands=many(conditions, least=2))
nots = node(ast.Not, operand=conditions)
sources = relations | relations | node(ast.SubSelect, query=queries, alias=st.none() | names)
CLAUSES = {
    "where": conditions,
    "order_by": many(order_keys, least=1),
    "classified_by": many(calls | node(ast.RankerCall, name=names), least=1),
    "trained_on": many(datasets, least=1),
    "tested_on": many(datasets, least=1),
    "other_than": queries,
    "limit": st.integers(0, 10**9),
    "retrieve": node(ast.Retrieve, count=counts, group=columns, order=columns, descending=st.booleans()),
    "chunk": node(ast.Chunk, rows=st.none() | counts),
    "budget": budgets,
    "within": seconds,
    "wait": st.booleans(),
}


@st.composite
def select_statements(draw):
    clauses = draw(st.sets(st.sampled_from(sorted(CLAUSES)), max_size=2))
    return ast.Select(
        position=NOWHERE,
        items=draw(many(items, least=1)),
        sources=draw(many(sources, least=1)),
        distinct=draw(st.booleans()),
        **{clause: draw(CLAUSES[clause]) for clause in sorted(clauses)},
    )


selects = select_statements()
set_operations = node(
    ast.SetOperation,
    operator=st.sampled_from(["union", "except", "intersect"]),
    left=queries,
    right=queries,
    keeps_duplicates=st.booleans(),
)
finetunes = node(
    ast.Finetune,
    models=many(names, least=1) | queries,
    datasets=many(datasets, least=1),
    arguments=many(arguments),
    name=st.none() | names,
    budget=st.none() | budgets,
    within=st.none() | seconds,
    wait=st.sampled_from([None, True, False]),
)
registrations = node(
    ast.Register,
    kind=st.sampled_from(["model", "models", "dataset"]),
    name=st.none() | names,
    location=names,
    settings=many(arguments),
) | node(
    ast.Register,
    kind=st.sampled_from(["model", "dataset"]),
    name=names,
    location=st.none(),
    settings=many(node(ast.Argument, name=names, value=literals), least=1),
)
statements = st.one_of(
    queries,
    node(ast.Declare, name=names, query=queries),
    node(ast.Print, query=queries),
    finetunes,
    node(ast.Explain, statement=queries | finetunes, analyze=st.booleans(), json=st.booleans()),
    registrations,
    node(ast.Watch, name=names, query=queries, every=st.none() | seconds),
    node(ast.Unwatch, name=names),
    node(ast.Show, what=names),
    node(ast.Purge, what=st.none() | names),
    node(ast.Use, url=names),
    node(ast.Help, topic=st.sampled_from([None, "SELECT", "ORDER BY", "Cosine  NN", '"x"'])),
)


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(statements)
def test_text_of_a_statement_parses_to_that_statement(statement):
    parsed = parse(to_text(statement))
    assert parsed == (statement,)
    # 1, 1.0 and TRUE are equal in Python.
    assert repr(parsed) == repr((statement,))


def test_text_of_whatever_is_understood_parses_to_the_same():
    generator = random.Random(0)
    for _ in range(4000):
        try:
            understood = parse(FUZZ["random_input"](generator))
        except QuerySyntaxError:
            continue
        for statement in understood:
            assert repr(parse(to_text(statement))) == repr((statement,))


@pytest.mark.parametrize("query", QUERIES)
def test_text_is_the_same_for_every_spelling(query):
    for statement in parse(query):
        text = to_text(statement)
        assert parse(text) == (statement,)
        assert to_text(parse(text)[0]) == text


def test_strategies_and_printer_know_every_kind_of_node():
    kinds = {kind for kind in vars(ast).values() if isinstance(kind, type) and issubclass(kind, ast.Node)}
    written = {each for query in QUERIES for statement in parse(query) for each in _kinds(ast.to_json(statement))}
    assert written == {kind.__name__ for kind in kinds - {ast.Node, ast.Statement}}


def _kinds(json):
    if isinstance(json, dict):
        own = {json["node"]} if "node" in json else set()
        return own.union(*(_kinds(each) for each in json.values()))
    return set().union(*map(_kinds, json)) if isinstance(json, list) else set()


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("select all from models;", "SELECT * FROM models"),
        ("SELECT 'task', \"from\" FROM `text_models` m", 'SELECT task, "from" FROM text_models AS m'),
        ("SELECT a FROM m WHERE 10M > a", "SELECT a FROM m WHERE a < 10000000"),
        ("SELECT a FROM m WHERE NOT b = 'it''s'", "SELECT a FROM m WHERE NOT b = 'it''s'"),
        ("SELECT a FROM m WHERE NOT (b IS NULL)", "SELECT a FROM m WHERE b IS NOT NULL"),
        ("SELECT a FROM m WHERE (a OR b) AND NOT (c AND d)", "SELECT a FROM m WHERE (a OR b) AND NOT (c AND d)"),
        ("SELECT a FROM m WITHIN '1 h 30 m' BUDGET 90s", "SELECT a FROM m BUDGET 90s WITHIN 90m"),
        ("PRINT (a UNION b) INTERSECT c", "PRINT (a UNION b) INTERSECT c"),
        ("PRINT a UNION (b INTERSECT c)", "PRINT a UNION b INTERSECT c"),
        ("PRINT a EXCEPT (b EXCEPT c)", "PRINT a EXCEPT (b EXCEPT c)"),
        ("SELECT a FROM m ORDER BY Linear() TRAINED ON [d]", "SELECT a FROM m ORDER BY Linear() TRAINED ON d"),
        ("RANK models BY 'LEEP' TRAINED ON \"task\"", 'SELECT * FROM models ORDER BY LEEP() TRAINED ON "task"'),
    ],
)
def test_canonical_text_quotes_and_brackets_only_where_needed(text, canonical):
    (statement,) = parse(text)
    assert to_text(statement) == canonical


def test_long_condition_is_printed():
    text = "SELECT a FROM m WHERE " + " OR ".join(f"b = {number}" for number in range(10_000))
    assert to_text(parse(text)[0]) == text


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a FROM m WHERE " + "(a OR b AND " * (MAX_NESTING // 2 - 1) + "c" + ")" * (MAX_NESTING // 2 - 1),
        "SELECT a FROM (" * (MAX_NESTING // 2 - 1) + "SELECT a FROM m" + ")" * (MAX_NESTING // 2 - 1),
        "SELECT a FROM m WHERE b IN (" * (MAX_NESTING // 3 - 1) + "SELECT a FROM m" + ")" * (MAX_NESTING // 3 - 1),
        "PRINT " + " UNION ".join(["a"] * MAX_NESTING),
    ],
)
def test_deepest_statement_is_printed(text):
    (statement,) = parse(text)
    assert parse(to_text(statement)) == (statement,)
