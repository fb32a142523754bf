"""The commands `shiftql purge` and `shiftql doctor`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from shiftql.options import Duration, format_option
from shiftql.vocabulary import PURGED


def is_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


@click.command()
@click.argument("what", type=click.Choice(list(PURGED)))
@click.option("--older-than", metavar="30d", type=Duration(), help="Only what was recorded, or last used, before that.")
@click.option("--model", metavar="NAME", help="Only what is of this model.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(what: str, older_than: float | None, model: str | None, dry_run: bool, yes: bool) -> None:
    """Delete measured results with their MLflow runs, stored features, or all of it.

    Models, datasets and their files stay. What is being computed right now is never deleted.
    """
    from shiftql.engine import Session
    from shiftql.upkeep import worded_purge

    session = Session()
    chosen: dict[str, Any] = {"model": model, "older_than": older_than}
    counted = session.purge(what, **chosen, dry_run=True)
    if dry_run or not (counted["results"] or counted["segments"]):
        click.echo(f"{'to be deleted' if dry_run else 'deleted'}: {worded_purge(counted)}")
        return
    if not yes:
        if not is_terminal():
            raise click.UsageError(f"{worded_purge(counted)} would be deleted: say --yes, or --dry-run to be told only")
        click.confirm(f"delete {worded_purge(counted)}?", abort=True, err=True)
    click.echo(f"deleted {worded_purge(session.purge(what, **chosen))}")


@click.command()
@click.option("--fix", is_flag=True, help="Put right what can be put right.")
@click.option("--rebuild", is_flag=True, help="First bring back every result that MLflow has and the index has not.")
@format_option
@click.pass_context
def doctor(context: click.Context, fix: bool, rebuild: bool, format: str) -> None:
    """Hold results, MLflow, stored features, catalog and files against each other.

    Exit status 1 when something is wrong that was not put right.
    """
    from shiftql.engine import Session
    from shiftql.upkeep import worded_finding

    found = Session().examine(fix=fix, rebuild=rebuild)
    if format == "json":
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        lines = [f"restored {found['restored']:,} results from MLflow"] if rebuild else []
        lines += map(worded_finding, found["findings"])
        click.echo("\n".join(lines if found["findings"] else [*lines, "nothing is wrong"]))
    context.exit(0 if all(finding["fixed"] for finding in found["findings"]) else 1)
