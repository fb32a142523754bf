"""The commands `shiftql deploy` and `shiftql trigger`, for a Prefect server."""

from __future__ import annotations

import click

from shiftql.options import format_option


@click.command()
@click.pass_context
def deploy(context: click.Context) -> None:
    """Make work pools, queues, deployments and automations on a Prefect server, and say what changed.

    The server is the one that --server or PREFECT_API_URL names, or that runs in this home.
    """
    from shiftql.engine import Session

    if not Session(server=context.find_root().params["server"]).deploy(click.echo):
        click.echo("nothing changed")


@click.command()
@click.argument("deployment")
@click.option("--query", metavar="TEXT", help="The statements that the deployment search is to answer.")
@click.option("-p", "parameters", metavar="NAME=VALUE", multiple=True, help="A parameter; its value is JSON, or text.")
@click.option("--wait", is_flag=True, help="Wait for the answer, and print it.")
@format_option
@click.pass_context
def trigger(
    context: click.Context, deployment: str, query: str | None, parameters: tuple[str, ...], wait: bool, format: str
) -> None:
    """Start a deployment, such as search or benchmark, on a Prefect server.

    The server is the one that --server or PREFECT_API_URL names, or that runs in this home.

    \b
      shiftql trigger search --query "SHOW MODELS" --wait
      shiftql trigger benchmark -p budget_seconds=600
    """
    from shiftql.asking import show, status
    from shiftql.distant import read_parameters
    from shiftql.engine import Session
    from shiftql.terminal import shown_progress

    if unnamed := [each for each in parameters if "=" not in each]:
        raise click.UsageError(f"{unnamed[0]!r} is no parameter: write -p name=value")
    given = read_parameters(parameters) | ({} if query is None else {"statement": query})
    with shown_progress():
        answer = Session(server=context.find_root().params["server"]).trigger(deployment, given, wait=wait)
    show(answer, format)
    context.exit(status(answer))
