"""What a REGISTER statement asks for, and what is told of many models that were registered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shiftql import ast
from shiftql.answers import RowsAnswer
from shiftql.places import Places
from storage.catalog import TOLD
from storage.names import fold

if TYPE_CHECKING:
    from flows.registration import Outcome

_LOCATIONS = ("location", "path", "url", "handle")
_FORMATS = {"model": ("source",), "models": ("source",), "dataset": ("reader", "type")}
_ALIASES = {"upacc": "upstream_accuracy", "license": "licence"}


@dataclass(frozen=True)
class Registration:
    """`format` is a model's source or a dataset's reader, found out where it is None.

    For many models `name` stands before the names that they have where they lie; it is empty where nothing does.
    """

    name: str
    location: str
    format: str | None
    columns: Mapping[str, Any]
    options: Mapping[str, str]


def registration(statement: ast.Register, text: str) -> Registration:
    """The registration of one model or dataset, or of many models.

    Raises BindingError at a setting that does not exist or fit, and where the name or location is missing.
    """
    places = Places(text)
    location, source = statement.location, None
    columns: dict[str, Any] = {}
    options: dict[str, str] = {}
    given: set[str] = set()
    for setting in statement.settings:
        if setting.name is None or isinstance(setting.value, ast.Values):
            places.fail(setting, "a setting is a name and one value", fix="write for example WITH (source=tfhub)")
        key, value = fold(setting.name), setting.value.value
        if key in given:
            places.fail(setting, f"{setting.name} is given twice", fix="give it once")
        given.add(key)
        if key == "name" and value != statement.name:
            places.fail(setting, f"the {statement.kind} is named twice", fix="write the same name in both places")
        if key in _LOCATIONS:
            location = str(value)
        elif key in _FORMATS[statement.kind]:
            source = str(value)
        elif key != "name":
            if statement.kind == "dataset":
                options[setting.name] = str(value)
            else:
                column, converted = _column(setting, value, places)
                if column == "trusted" and statement.kind == "models":
                    places.fail(
                        setting, "trust is given model by model", fix="REGISTER MODEL … WITH (trusted=TRUE) trusts one"
                    )
                columns[column] = converted
    if statement.kind != "models" and not (statement.name or "").strip():
        places.fail(
            statement,
            f"a {statement.kind} is registered under a name",
            fix=f"write REGISTER {statement.kind.upper()} \"name\" FROM '{location}'",
        )
    if location is None:
        places.fail(
            statement, f"it is not said where the {statement.kind} lies", fix="add the column path and its value"
        )
    return Registration(statement.name or "", location, source, columns, options)


def told_of(outcomes: Iterable[Outcome]) -> RowsAnswer:
    """What became of each of many models."""
    rows = [
        {
            "name": outcome.name,
            "status": outcome.status,
            "modality": outcome.model and outcome.model.modality,
            "num_params": outcome.model and outcome.model.num_params,
            "size_bytes": outcome.model and outcome.model.size_bytes,
            "is_local": outcome.model and outcome.model.is_local,
            "reason": outcome.reason,
        }
        for outcome in outcomes
    ]
    return RowsAnswer(statement="", seconds=0.0, columns=tuple(rows[0]), rows=tuple(rows))


def _column(setting: ast.Argument, value: Any, places: Places) -> tuple[str, Any]:
    by_fold = {fold(name): name for name in TOLD} | _ALIASES
    column = by_fold.get(fold(setting.name or ""))
    if column is None:
        allowed = ["path", "source", *TOLD]
        places.fail(setting, f"a model has no setting {setting.name!r}", setting.name, allowed)
    kind = TOLD[column]
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool):
        words, example = {str: ("text", "'text'"), float: ("a number", "0.5"), bool: ("TRUE or FALSE", "TRUE")}[kind]
        places.fail(setting, f"{column} is {value!r}, and must be {words}", fix=f"write for example {column}={example}")
    return column, value
