"""What a REGISTER statement asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shiftql import ast
from shiftql.places import Places
from storage.names import fold

_LOCATIONS = ("location", "path", "url", "handle")
_FORMATS = {"model": ("source",), "dataset": ("reader", "type")}
# Columns of a model that its files do not tell.
_TOLD: Mapping[str, type] = {
    "upstream_dataset": str,
    "upstream_accuracy": float,
    "licence": str,
    "tags": str,
    "finetuned": bool,
    "trusted": bool,
}
_ALIASES = {"upacc": "upstream_accuracy", "license": "licence"}


@dataclass(frozen=True)
class Registration:
    """`format` is a model's source or a dataset's reader, found out where it is None."""

    name: str
    location: str
    format: str | None
    columns: Mapping[str, Any]
    options: Mapping[str, str]


def registration(statement: ast.Register, text: str) -> Registration:
    """The registration of one model or dataset.

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
                columns[column] = converted
    if not (statement.name or "").strip():
        places.fail(
            statement,
            f"a {statement.kind} is registered under a name",
            fix=f"write REGISTER {statement.kind.upper()} \"name\" FROM '{location}'",
        )
    if location is None:
        places.fail(
            statement, f"it is not said where the {statement.kind} lies", fix="add the column path and its value"
        )
    assert statement.name is not None
    return Registration(statement.name, location, source, columns, options)


def _column(setting: ast.Argument, value: Any, places: Places) -> tuple[str, Any]:
    by_fold = {fold(name): name for name in _TOLD} | _ALIASES
    column = by_fold.get(fold(setting.name or ""))
    if column is None:
        allowed = ["path", "source", *_TOLD]
        places.fail(setting, f"a model has no setting {setting.name!r}", setting.name, allowed)
    kind = _TOLD[column]
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool):
        words, example = {str: ("text", "'text'"), float: ("a number", "0.5"), bool: ("TRUE or FALSE", "TRUE")}[kind]
        places.fail(setting, f"{column} is {value!r}, and must be {words}", fix=f"write for example {column}={example}")
    return column, value
