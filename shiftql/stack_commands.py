"""The commands `shiftql up`, `shiftql down` and `shiftql status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from storage.settings import current_settings

if TYPE_CHECKING:
    from deployments.stack import Part


@click.command()
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="How many workers share the cores.  [default: 1]"
)
@click.option("--mlflow/--no-mlflow", default=None, help="Serve what is measured, for a browser.  [default: --mlflow]")
@click.option(
    "--port", type=click.IntRange(1, 65_535), help="Where Prefect's server is.  [default: 4200 if it is free]"
)
def up(workers: int | None, mlflow: bool | None, port: int | None) -> None:
    """Start the stack of this home: servers of Prefect and MLflow, and a worker for each device.

    What runs already is left alone, what died is started again, and what is not said stays as it was said before.
    Servers that PREFECT_API_URL and MLFLOW_TRACKING_URI name are used instead of own ones: so a machine joins a team.
    """
    from shiftql.engine import Session

    click.echo("starting what does not run yet, which may take half a minute", err=True)
    for part in Session().start_stack(workers, mlflow, port):
        click.echo(_line(part))
    click.echo(f"logs: {current_settings().home / 'logs'}")
    click.echo(
        "next: open the first address, or let the workers answer: shiftql trigger search --query 'SHOW MODELS' --wait"
    )
    click.echo("('shiftql down' stops all of it)")


@click.command()
def down() -> None:
    """Stop what runs in the background for this home: workers, and servers that were started here."""
    from shiftql.engine import Session

    stopped = Session().stop_stack()
    click.echo(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@click.command()
@click.pass_context
def status(context: click.Context) -> None:
    """Say what runs in the background for this home. Exit status 1 when something of it is dead."""
    from shiftql.engine import Session

    parts = Session().stack()
    for part in parts:
        click.echo(_line(part))
    if not parts:
        click.echo("nothing runs: 'shiftql up' starts the stack, and a query what it needs")
    if is_broken := any(part.state == "dead" for part in parts):
        click.echo("'shiftql up' starts what is dead")
    context.exit(int(is_broken))


def _line(part: Part) -> str:
    """A part as people read it; where it died, with its log.

    >>> from types import SimpleNamespace
    >>> _line(SimpleNamespace(name="mlflow", state="dead", url="http://127.0.0.1:5000", log="/home/logs/mlflow.log"))
    'mlflow             dead      see /home/logs/mlflow.log'
    """
    told = f"see {part.log}" if part.state == "dead" else part.url or ""
    return f"{part.name:<18} {part.state:<9} {told}".rstrip()
