"""Binding rankers: which one is called, and its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from shiftql import ast
from shiftql.bound import BoundRanker
from shiftql.places import Places
from shiftql.scope import Table
from storage.errors import BindingError
from storage.names import fold
from tasks.rankers.specs import RankerSpec, all_rankers, bind_arguments, find_ranker

ERROR_NAMES = {"err", "error"}
ACCURACY_NAMES = {"acc", "accuracy"}


class RankerBinder(Places):
    """Looks up the rankers that are called in one text."""

    def bind(self, call: ast.RankerCall | ast.Name, table: Table | None = None) -> BoundRanker:
        """The ranker that is called; in place of one a column of `table` may have been meant."""
        try:
            spec = find_ranker(call.name)
        except BindingError as error:
            if isinstance(call, ast.Name) and table is not None:
                self._fail_key(call, table)
            raise self.placed(error, call) from None
        arguments = call.arguments if isinstance(call, ast.RankerCall) else ()
        return BoundRanker(spec, self.arguments(spec, arguments, call))

    def _fail_key(self, key: ast.Name, table: Table) -> NoReturn:
        if fold(key.name) in ERROR_NAMES | ACCURACY_NAMES:
            self.fail(
                key,
                f"{table.name} has no column {key.name!r}, and no ranker says what to classify by",
                allowed=[spec.label for spec in all_rankers()],
                fix=f"write ORDER BY Linear, or ORDER BY {key.name} … CLASSIFIED BY Linear",
            )
        self.fail(
            key,
            f"there is neither a column nor a ranker {key.name!r}",
            key.name,
            [*table.columns, *(spec.label for spec in all_rankers())],
        )

    def arguments(self, spec: RankerSpec, arguments: Sequence[ast.Argument], call: ast.Node) -> dict[str, Any]:
        """Every argument of the ranker by name, defaults filled in."""
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for argument in arguments:
            if isinstance(argument.value, ast.Values):
                self.fail(argument, f"{spec.label} takes one value here, not a list", fix="write one value")
            if argument.name is None:
                if named:
                    self.fail(argument, "an argument by place stands after one by name", fix="name it, or put it first")
                positional.append(argument.value.value)
            elif argument.name in named:
                self.fail(argument, f"{spec.label} is given {argument.name} twice", fix="give it once")
            else:
                named[argument.name] = argument.value.value
        try:
            return bind_arguments(spec, positional, named)
        except BindingError as error:
            names = (argument.name for argument in spec.arguments)
            guilty = [each for each in arguments if error.subject == (each.name or next(names, None))]
            raise self.placed(error, guilty[-1] if guilty else call) from None
