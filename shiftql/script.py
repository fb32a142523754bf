"""Declared names: what a query means under the names that were declared before it, and how to write that down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shiftql import ast
from shiftql.bound import Declaration
from shiftql.parser import parse
from shiftql.places import Places
from shiftql.printer import to_text
from shiftql.relations import relation_named
from storage.errors import PlanError
from storage.names import fold


def declare(declared: Mapping[str, Declaration], statement: ast.Declare, text: str) -> dict[str, Declaration]:
    """The declared names after a DECLARE; a name declared again means the new query from here on.

    Raises BindingError where it is a relation's name.
    """
    if relation_named(statement.name) is not None:
        places = Places(text)
        places.fail(
            places.part(statement, statement.name),
            f"{statement.name!r} is a relation's name already",
            fix="declare the query under another name",
        )
    number = 1 + max((each.number for each in declared.values()), default=0)
    return {**declared, fold(statement.name): Declaration(statement.name, statement, text, dict(declared), number)}


def write_script(question: ast.Query | ast.Finetune, declared: Mapping[str, Declaration]) -> str:
    """One text with the question last and the declarations it needs before it."""
    statements = declarations_for(question, declared)
    asked: ast.Node = question
    if isinstance(question, ast.SetOperation | ast.DeclaredName):
        asked = ast.Print(query=question, position=question.position)
    return ";\n".join(to_text(statement) for statement in (*statements, asked))


def declarations_for(statement: ast.Node, declared: Mapping[str, Declaration]) -> list[ast.Declare]:
    """The declarations that a statement needs, in the order they were made."""
    needed: dict[int, Declaration] = {}
    _gather(statement, declared, needed)
    return [needed[number].statement for number in sorted(needed)]


def dataset_names(question: ast.Query | ast.Finetune, declared: Mapping[str, Declaration]) -> set[str]:
    """Everything a question names where a dataset may stand, also in what is declared."""
    names: set[str] = set()
    for node in _all_nodes(question, declared):
        match node:
            case ast.DatasetName(name=name) | ast.ChangedDataset(name=name) | ast.Change(by=name):
                names.add(name)
    return names


def relation_names(question: ast.Query | ast.Finetune, declared: Mapping[str, Declaration]) -> set[str]:
    """The relations that a question selects from, also in what is declared."""
    named = (relation_named(node.name) for node in _all_nodes(question, declared) if isinstance(node, ast.Relation))
    return {relation.name for relation in named if relation is not None}


def read_script(text: str) -> tuple[ast.Query | ast.Finetune, dict[str, Declaration]]:
    """The question at the end of a script and the names declared before it.

    Raises PlanError when it ends with something else.
    """
    declared: dict[str, Declaration] = {}
    *before, last = parse(text)
    for statement in before:
        if not isinstance(statement, ast.Declare):
            raise PlanError(
                "only DECLARE may stand before a question",
                text=text,
                line=statement.position.line,
                column=statement.position.column,
            )
        declared = declare(declared, statement, text)
    question = question_of(last)
    if question is None:
        raise PlanError("only a question is computed by a flow", text=text, fix="end with SELECT …")
    return question, declared


def question_of(statement: ast.Query | ast.Statement) -> ast.Query | ast.Finetune | None:
    """What a statement asks, with or without PRINT and EXPLAIN around it."""
    match statement:
        case ast.Print(query=query):
            return query
        case ast.Explain(statement=inner):
            return inner
        case ast.Select() | ast.SetOperation() | ast.DeclaredName() | ast.Finetune():
            return statement
    return None


def nodes(node: ast.Node) -> Iterator[ast.Node]:
    """A node and all below it."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        waiting += ast.children(current)


def _all_nodes(question: ast.Query | ast.Finetune, declared: Mapping[str, Declaration]) -> Iterator[ast.Node]:
    """Every node of a question and of what is declared that it needs."""
    needed: dict[int, Declaration] = {}
    _gather(question, declared, needed)
    for root in (question, *(declaration.statement for declaration in needed.values())):
        yield from nodes(root)


def _gather(node: ast.Node, declared: Mapping[str, Declaration], needed: dict[int, Declaration]) -> None:
    for each in nodes(node):
        names = [name for name in _names_in(each) if fold(name) in declared]
        for name in names:
            declaration = declared[fold(name)]
            if declaration.number not in needed:
                needed[declaration.number] = declaration
                _gather(declaration.statement.query, declaration.declared, needed)


def _names_in(node: ast.Node) -> tuple[str, ...]:
    """The names in a node that may be declared ones."""
    match node:
        case ast.DeclaredName(name=name) | ast.Relation(name=name) | ast.DatasetName(name=name):
            return (name,)
        case ast.InList(values=(ast.Literal(value=str(name)),)):
            return (name,)
        case ast.Finetune(models=tuple() as names):
            return names
    return ()
