"""The prompt: statements over several lines, with history and completion, answered one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

import shiftql
from shiftql.asking import NO_MODELS, ask, tell
from shiftql.completion import suggest
from shiftql.relations import RELATIONS
from shiftql.vocabulary import KEYWORDS
from storage.errors import ShiftError
from storage.settings import current_settings
from tasks.rankers.specs import RANKERS

if TYPE_CHECKING:
    from shiftql.engine import Session
    from storage.catalog import Catalog

LEAVE = {"exit", "quit"}
HELP = "help"

_STRING_OR_COMMENT = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`|(?P<comment>(--|#)[^\n]*)")


def run_repl(session: Session, format: str) -> None:
    """Answer what is typed until `exit`, `quit` or Ctrl-D; Ctrl-C gives up the line or the query."""
    home = current_settings().home
    click.echo(_banner(session.catalog, str(home)))
    prompt: PromptSession[str] = PromptSession(
        history=FileHistory(str(home / "history")),
        multiline=True,
        key_bindings=_bindings(),
        prompt_continuation=lambda width, line, wrapped: "... ".rjust(width),
    )
    while True:
        try:
            text = prompt.prompt("shiftql> ", completer=_QueryCompleter(_Names(session.catalog)))
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        command = _command(text)
        if command in LEAVE:
            return
        if command == HELP:
            click.echo(_help())
        elif command:
            _ask(session, text, format)


def is_complete(text: str) -> bool:
    """Whether Enter ends the input: at a `;` outside strings and comments, and after a word for the prompt itself."""
    bare = _STRING_OR_COMMENT.sub(lambda found: "" if found["comment"] else "''", text)
    return bare.rstrip().endswith(";") or _command(text) in {*LEAVE, HELP}


def _ask(session: Session, text: str, format: str) -> None:
    try:
        ask(session, text, format)
    except ShiftError as error:
        tell(error)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)


def _command(text: str) -> str:
    return text.strip().rstrip(";").strip().lower()


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state and buffer.complete_state.current_completion:
            buffer.complete_state = None
        elif is_complete(buffer.text):
            buffer.validate_and_handle()
        elif buffer.text.strip():
            buffer.newline()

    return bindings


class _Names:
    """The catalog's names as they are at one prompt, fetched once and only when asked for."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @cached_property
    def models(self) -> list[str]:
        return [model.name for model in self._catalog.models()]

    @cached_property
    def datasets(self) -> list[str]:
        return [dataset.name for dataset in self._catalog.datasets()]


class _QueryCompleter(Completer):
    def __init__(self, names: _Names) -> None:
        self._names = names

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        for suggestion in suggest(document.text, document.cursor_position, self._names):
            yield Completion(suggestion.text, -suggestion.replaces, display_meta=suggestion.kind)


def _banner(catalog: Catalog, home: str) -> str:
    models, datasets = len(catalog.models()), len(catalog.datasets())
    title = f"SHiFT {shiftql.__version__} · home {home} · {models} models, {datasets} datasets"
    hint = "a statement ends with ; · help explains the language · Ctrl-D leaves"
    return "\n".join([title, hint] if models else [title, NO_MODELS, hint])


def _help() -> str:
    sections = {
        "keywords": {keyword.phrase: keyword.help for keyword in KEYWORDS},
        "rankers": {spec.label: spec.summary for spec in RANKERS.values()},
        "relations": {name: f"one row per {relation.row}" for name, relation in RELATIONS.items()},
    }
    width = max(len(name) for entries in sections.values() for name in entries)
    return "\n\n".join(
        "\n".join([title, *(f"  {name.ljust(width)}  {meaning}" for name, meaning in entries.items())])
        for title, entries in sections.items()
    )
