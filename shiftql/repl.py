"""The prompt: statements over several lines, with history and completion, answered one by one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.styles import Style

import shiftql
from shiftql import shortcuts
from shiftql.asking import NO_MODELS, ask, tell
from shiftql.completion import suggest
from shiftql.highlighting import ShiftQLLexer
from shiftql.shortcuts import is_shortcut, statement_of
from storage.errors import ShiftError
from storage.settings import current_settings

if TYPE_CHECKING:
    from shiftql.engine import Session

LEAVE = {"exit", "quit", shortcuts.LEAVE}

# The terminal's own colours, of those that can be read on dark and on light.
_COLOURS = Style.from_dict(
    {
        "pygments.keyword": "bold",
        "pygments.name.function": "ansimagenta",
        "pygments.name.class": "ansicyan",
        "pygments.literal.string": "ansigreen",
        "pygments.literal.number": "ansicyan",
        "pygments.comment": "ansibrightblack",
        "pygments.error": "underline",
    }
)
_STRING_OR_COMMENT = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`|(?P<comment>(--|#)[^\n]*)")


def run_repl(session: Session, format: str) -> None:
    """Answer what is typed until `exit`, `quit`, `\\q` or Ctrl-D; Ctrl-C gives up the line or the query."""
    home = current_settings().home
    click.echo(_banner(session, str(home)))
    prompt: PromptSession[str] = PromptSession(
        history=_History(str(home / "history")),
        multiline=True,
        lexer=PygmentsLexer(ShiftQLLexer),
        style=_COLOURS,
        include_default_pygments_style=False,
        key_bindings=_bindings(),
        prompt_continuation=lambda width, line, wrapped: "... ".rjust(width),
    )
    while True:
        names = Names(session)
        try:
            text = prompt.prompt(_prompt(session), completer=QueryCompleter(names))
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if _command(text) in LEAVE:
            return
        if _command(text):
            _ask(session, text, format, names)


def is_complete(text: str) -> bool:
    """Whether Enter ends the input: at a `;` outside strings and comments, and where one line says it all."""
    bare = _STRING_OR_COMMENT.sub(lambda found: "" if found["comment"] else "''", text)
    first_word = text.split(maxsplit=1)[:1]
    return (
        bare.rstrip().endswith(";")
        or _command(text) in LEAVE
        or is_shortcut(text)
        or [word.upper() for word in first_word] == ["HELP"]
    )


def _ask(session: Session, text: str, format: str, names: Names) -> None:
    try:
        ask(session, statement_of(text, names) if is_shortcut(text) else text, format)
    except ShiftError as error:
        tell(error)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)


def _command(text: str) -> str:
    return text.strip().rstrip(";").strip().lower()


class _History(FileHistory):
    """What was typed, kept between starts; only until the end of this one where the file cannot be used."""

    def load_history_strings(self) -> Iterable[str]:
        try:
            return list(super().load_history_strings())
        except OSError:
            return []

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            super().store_string(string)


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


class Names:
    """The catalog's and the session's names as they are at one prompt, fetched once and only when asked for.

    Of a server's catalog none are known.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @cached_property
    def models(self) -> list[str]:
        return [] if self._session.server else [model.name for model in self._session.catalog.models()]

    @cached_property
    def datasets(self) -> list[str]:
        return [] if self._session.server else [dataset.name for dataset in self._session.catalog.datasets()]

    @cached_property
    def declared(self) -> list[str]:
        return [declaration.name for declaration in self._session.declared.values()]


class QueryCompleter(Completer):
    """Suggests while a word is typed, and whatever can follow when asked with Tab."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        for suggestion in suggest(document.text, document.cursor_position, self._names):
            is_asked_for = complete_event.completion_requested or suggestion.replaces
            if is_asked_for or suggestion.kind != "keyword":
                yield Completion(suggestion.text, -suggestion.replaces, display_meta=suggestion.kind)


def _prompt(session: Session) -> str:
    """What stands before the line that is typed, with the server that answers it."""
    return "shiftql> " if session.server is None else f"shiftql@{urlsplit(session.server).netloc}> "


def _banner(session: Session, home: str) -> str:
    hint = "a statement ends with ; · HELP explains the language · \\? lists shortcuts · Ctrl-D leaves"
    if session.server is not None:
        return f"SHiFT {shiftql.__version__} · answered at {session.server}\n{hint}"
    models, datasets = len(session.catalog.models()), len(session.catalog.datasets())
    title = f"SHiFT {shiftql.__version__} · home {home} · {models} models, {datasets} datasets"
    return "\n".join([title, hint] if models else [title, NO_MODELS, hint])
