"""Statements that are answered elsewhere: sent to the deployment `search` of a server, and waited for."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from shiftql import ast
from shiftql.answers import Answer, ErrorAnswer, ExplainAnswer, RankingAnswer, RunAnswer, TextAnswer
from shiftql.bound import Declaration
from shiftql.printer import to_text
from shiftql.progress import progress
from shiftql.received import read_answer
from shiftql.remote import Ended, Remote, Run
from shiftql.script import declarations_for
from storage.errors import PositionedError, ShiftError, StoreError

SEARCH = "search/search"
_CANCELLED = {"CANCELLED", "CANCELLING"}
# What is said of a path where nothing lies.
_NO_FILE = ("there is no file or folder", "nothing lies at that path")


def ask_at(
    remote: Remote, statement: ast.Node, text: str, declared: Mapping[str, Declaration], *, wait: bool
) -> Answer:
    """The answer of a server to a statement of a text, with the declarations it needs.

    Without `wait` it is only said where it is being answered. Raises the error of a statement that fails, placed in the
    text, and KeyboardInterrupt when it is interrupted before anything is known.
    """
    written = text[statement.position.start : statement.position.end]
    before = [to_text(each) for each in declarations_for(statement, declared)]
    script = ";\n".join([*before, written])
    asked = remote.start(SEARCH, {"statement": script, "asked_at": time.time()})
    if not wait:
        return started(asked)
    progress.get().note(f"run {asked.url}")
    answer = followed(remote, asked, len(before) + 1)
    if isinstance(answer, ErrorAnswer):
        raise _placed(answer.error, statement, text, script, len(before))
    if isinstance(answer, ExplainAnswer) and isinstance(statement, ast.Explain):
        return replace(answer, as_json=statement.json)
    return answer


def started(run: Run) -> RunAnswer:
    """That a run goes on, and where."""
    text = f"run {run.identity} goes on: {run.url}"
    return RunAnswer(statement="", seconds=0.0, text=text, flow_run_id=run.identity, url=run.url)


def followed(remote: Remote, run: Run, statements: int = 1) -> Answer:
    """The answer that a run of so many statements gives to the last, or the error of one before.

    Of a run that has none to give, that it is completed.

    Raises StoreError when it ends without one, and KeyboardInterrupt when it is interrupted before anything is known.
    """
    ended = remote.follow(run, lambda so_far: _show(so_far, statements))
    answers = [read_answer(json.loads(line)) for line in ended.answers]
    if answers and isinstance(answers[-1], ErrorAnswer):
        return answers[-1]
    if ended.state == "COMPLETED" and not answers:
        return TextAnswer(statement="", seconds=0.0, text=f"run {run.identity} is completed: {run.url}")
    if len(answers) < statements:
        raise _unanswered(run, ended)
    answer = answers[-1]
    if isinstance(answer, RankingAnswer) and ended.state != "COMPLETED" and not answer.failed:
        return replace(answer, partial=True, interrupted=ended.state in _CANCELLED)
    return answer


def _show(lines: str, statements: int) -> None:
    answers = lines.splitlines()
    # What is under way may be half written, and nobody waits for it.
    with suppress(ValueError, KeyError):
        if len(answers) == statements:
            progress.get().show(read_answer(json.loads(answers[-1])))


def _unanswered(run: Run, ended: Ended) -> BaseException:
    if ended.state in _CANCELLED:
        return KeyboardInterrupt()
    message = f": {ended.message}" if ended.message else ""
    return StoreError(f"the run ended as {ended.state.lower()}{message}", subject=run.url, fix=f"see {run.url}")


def _placed(error: ShiftError, statement: ast.Node, text: str, script: str, declarations: int) -> ShiftError:
    """An error in a script as one of the text that the statement stands in."""
    if any(each in f"{error.message}\n{error.fix}" for each in _NO_FILE):
        error.fix = (
            "a path is looked for where the worker runs, not here: put it where workers find it, or register it there "
            "and name the dataset"
        )
    if not isinstance(error, PositionedError) or error.line is None or error.column is None:
        return error
    if error.line <= declarations:
        # Declarations stand one a line.
        error.text = script
        return error
    line = error.line - declarations
    error.text = text
    error.column += statement.position.column - 1 if line == 1 else 0
    error.line = line + statement.position.line - 1
    return error


def read_parameters(written: Sequence[str]) -> dict[str, Any]:
    """Parameters written as name=value; what is no JSON is text.

    >>> read_parameters(["models=vit", "epochs=3", "learning_rates=[0.1, 0.01]"])
    {'models': 'vit', 'epochs': 3, 'learning_rates': [0.1, 0.01]}
    """
    found: dict[str, Any] = {}
    for each in written:
        name, _, value = each.partition("=")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found
