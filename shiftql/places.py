"""Errors at a place of a query."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NoReturn

from shiftql import ast
from storage.errors import BindingError
from storage.names import did_you_mean, fold


class Places:
    """Raises BindingErrors whose carets stand under nodes of one text."""

    def __init__(self, text: str) -> None:
        self.text = text

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
        if name is not None:
            fix = did_you_mean(name, candidates) or fix
        raise self.placed(BindingError(message, subject=name, allowed=allowed or candidates, fix=fix), node)

    def placed(self, error: BindingError, node: ast.Node) -> BindingError:
        """The same error, said of a node."""
        return BindingError(
            error.message,
            text=self.text,
            line=node.position.line,
            column=node.position.column,
            length=node.position.length,
            subject=error.subject,
            allowed=error.allowed,
            fix=error.fix,
        )

    def part(self, node: ast.Node, words: str, after: ast.Node | None = None) -> ast.Node:
        """Where in a node some words stand first; the whole node where they are written otherwise."""
        pattern = r"\s+".join(map(re.escape, words.split()))
        start = node.position.start if after is None else after.position.end
        found = re.compile(rf"(?<![\w-]){pattern}(?![\w-])", re.IGNORECASE).search(self.text, start, node.position.end)
        if found is None:
            return node
        line = self.text.count("\n", 0, found.start()) + 1
        column = found.start() - self.text.rfind("\n", 0, found.start())
        return ast.Node(position=ast.Position(line=line, column=column, start=found.start(), end=found.end()))

    def one_of(self, words: Iterable[str], written: str, statement: ast.Node) -> str:
        """The word of a statement that is written, in any spelling. Raises BindingError naming the near ones."""
        words = list(words)
        for word in words:
            if fold(word) == fold(written):
                return word
        kind = type(statement).__name__.upper()
        self.fail(self.part(statement, written), f"{kind} does not know {written!r}", written, words)

    def written(self, node: ast.Node | None) -> str | None:
        """A node as it was written, on one line."""
        if node is None:
            return None
        return " ".join(self.text[node.position.start : node.position.end].split())
