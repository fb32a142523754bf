"""The commands `shiftql watches …`."""

from __future__ import annotations

from pathlib import Path

import click

from shiftql.options import Duration, format_option


@click.group()
def watches() -> None:
    """Standing questions: list them, ask them again, draw what they answered.

    WATCH best AS SELECT … makes one, UNWATCH best ends it.
    """


@watches.command("list")
@format_option
@click.pass_context
def list_watches(context: click.Context, format: str) -> None:
    """All standing questions, who is first now, and when they were last asked; as SHOW WATCHES does."""
    from shiftql.asking import ask
    from shiftql.engine import Session

    context.exit(ask(Session(), "SHOW WATCHES", format))


@watches.command("refresh")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--budget",
    metavar="30m",
    type=Duration(),
    default=600.0,
    help="Spend no more than so much on the rows of new models in the performance matrix (default: 10m).",
)
@format_option
@click.pass_context
def refresh(context: click.Context, names: tuple[str, ...], budget: float, format: str) -> None:
    """Ask standing questions again now; what is known is not computed again.

    Exit status 1 when one could not be asked.
    """
    from shiftql.asking import ANSWERED, NOT_ANSWERED, show
    from shiftql.engine import Session
    from shiftql.terminal import shown_progress

    with shown_progress():
        answer = Session().refresh_watches(names, budget=budget)
    show(answer, format)
    context.exit(NOT_ANSWERED if any(row["failure"] for row in answer.rows) else ANSWERED)


@watches.command("picture")
@click.argument("name")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), metavar="OUT.png")
def picture(name: str, path: Path) -> None:
    """Draw the places of the models of a standing question over time; who came to be first is marked."""
    from shiftql.engine import Session
    from shiftql.pictures.standing import draw_history

    draw_history(path, name, Session().watch_history(name))
    click.echo(f"drawn in {path}")
