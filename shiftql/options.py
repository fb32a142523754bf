"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

FORMATS = ("table", "json", "csv", "markdown")

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Duration(click.ParamType[float]):
    """A duration as the language writes it, in seconds."""

    name = "duration"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        from shiftql.parser import read_duration

        if isinstance(value, float):
            return value
        seconds = read_duration(value)
        if seconds is None:
            self.fail(f"{value!r} is not a duration: write for example 12h or 30d", parameter, context)
        return seconds


def format_option(command: _Command) -> _Command:
    """Add `--format` to a command; where it is not given there, what was given to `shiftql` itself holds."""
    return click.option(
        "--format",
        type=click.Choice(FORMATS),
        callback=_inherit,
        help="How answers are printed (default: table).",
    )(command)


def _inherit(context: click.Context, _: click.Parameter, value: str | None) -> str:
    return value or context.find_root().params.get("format") or FORMATS[0]
