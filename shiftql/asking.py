"""Asks a session and shows its answers: results on standard output, everything else on standard error."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, TypedDict

import click

from shiftql.answers import Answer, ErrorAnswer, MatrixAnswer, RankingAnswer, RowsAnswer
from shiftql.interrupts import INTERRUPTED
from shiftql.render import render
from shiftql.terminal import shown_progress
from storage.errors import BindingError, PositionedError, ShiftError

if TYPE_CHECKING:
    from shiftql.engine import Session

ANSWERED, NOT_ANSWERED, BAD_QUERY = 0, 1, 2

NO_MODELS = (
    "there are no models yet: 'shiftql playground DIR' makes an offline pool of models and datasets, "
    "'shiftql models add NAME LOCATION' registers a model of yours"
)
NO_RESULTS = "no model was measured on all of these datasets: fine-tune some with ORDER BY FineTune"
NO_MODEL_FITS = "no model meets the condition and takes the dataset's kind of input: 'shiftql models list' shows all"


class Surface(TypedDict):
    """What rendering has to know of standard output."""

    width: int | None
    colour: bool


def surface() -> Surface:
    """Standard output as it is: a terminal's width and colours, or neither."""
    if sys.stdout.isatty():
        return {"width": shutil.get_terminal_size().columns, "colour": True}
    return {"width": None, "colour": False}


def ask(session: Session, text: str, format: str) -> int:
    """Show the answer to each statement as it is found. Returns the exit status of the command."""
    worst = ANSWERED
    without_result: Answer | None = None
    with shown_progress():
        for number, answer in enumerate(session.run(text)):
            if number and format != "json" and not isinstance(answer, ErrorAnswer):
                click.echo()
            show(answer, format)
            worst = max(worst, status(answer))
            if _found_nothing(answer):
                without_result = answer
    if without_result is not None and session.server is None:
        _explain_nothing(session, without_result)
    return worst


def tell(error: ShiftError) -> int:
    """Say what is wrong on standard error. Returns the exit status it calls for."""
    click.echo(f"error: {error}", err=True)
    return _status_of(error)


def show(answer: Answer, format: str) -> None:
    """Print an answer on standard output, and on standard error what is wrong or does not fit the format."""
    if isinstance(answer, ErrorAnswer):
        tell(answer.error)
        if format == "json":
            click.echo(render(answer, format))
        return
    click.echo(render(answer, format, **surface()))
    if format == "csv" and isinstance(answer, RankingAnswer | MatrixAnswer):
        for failure in answer.failed:
            on = f" on {failure['dataset']}" if "dataset" in failure else ""
            click.echo(f"failed: {failure['model']}{on}: {failure['reason']}", err=True)


def status(answer: Answer) -> int:
    """The exit status an answer calls for."""
    match answer:
        case ErrorAnswer():
            return _status_of(answer.error)
        case RankingAnswer(running=None) if (answer.failed or answer.partial) and not _has_models(answer):
            return INTERRUPTED if answer.interrupted else NOT_ANSWERED
        case MatrixAnswer() if not answer.has_values:
            return INTERRUPTED if answer.interrupted else NOT_ANSWERED
        case _:
            return ANSWERED


def _status_of(error: ShiftError) -> int:
    return BAD_QUERY if isinstance(error, PositionedError) else NOT_ANSWERED


def _has_models(answer: RankingAnswer) -> bool:
    return any(not row.get("baseline") for ranking in answer.rankings.values() for row in ranking)


def _found_nothing(answer: Answer) -> bool:
    match answer:
        case RowsAnswer():
            return not answer.rows
        case RankingAnswer():
            return not answer.failed and not answer.partial and not _has_models(answer)
        case ErrorAnswer():
            return isinstance(answer.error, BindingError)
        case _:
            return False


def _explain_nothing(session: Session, answer: Answer) -> None:
    if not session.catalog.has_models():
        click.echo(NO_MODELS, err=True)
    elif isinstance(answer, RankingAnswer):
        baselines = any(answer.rankings.values())
        click.echo(NO_MODEL_FITS if baselines else NO_RESULTS, err=True)
