"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

FORMATS = ("table", "json", "csv", "markdown")

_Command = TypeVar("_Command", bound=Callable[..., Any])


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
