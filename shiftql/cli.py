"""The command `shiftql`. Whatever takes time to import is imported inside the command that needs it."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast

import click

from shiftql.benchmark_commands import benchmark
from shiftql.catalog_commands import datasets, models
from shiftql.interrupts import INTERRUPTED, interrupts
from shiftql.options import format_option
from shiftql.prediction_commands import predict
from shiftql.replay_commands import replay
from shiftql.server_commands import deploy, trigger
from shiftql.simulate_commands import simulate
from shiftql.stack_commands import down, status, up
from shiftql.upkeep_commands import doctor, purge
from shiftql.watch_commands import watches
from storage.errors import ShiftError

if TYPE_CHECKING:
    from shiftql.engine import Session

EXAMPLES = """
Examples:

\b
  shiftql playground ./playground
  shiftql -c "SELECT name, num_params FROM image_models WHERE num_params < 10M ORDER BY upstream_accuracy DESC LIMIT 1"
  shiftql -c "SELECT name FROM models ORDER BY Linear TRAINED ON digits-train TESTED ON digits-test LIMIT 5"
  shiftql -c "EXPLAIN SELECT * FROM models ORDER BY 'Cosine NN'(k=5) TRAINED ON mine-train TESTED ON mine-test"
  shiftql questions.shiftql --format json
  shiftql datasets add mine-train ./photos/train
  shiftql --server host:4200 -c "SHOW MODELS"

Exit status: 0 answered, 1 ran and could not answer, 2 bad query or usage.
"""

# What a server may be named for; a file of queries is the command without a name.
_AT_A_SERVER = {"", "deploy", "trigger"}


class QueryGroup(click.Group):
    """Commands, in whose place a file of queries may stand."""

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = arguments[0]
        if word not in self.commands:
            if word == "-" or word.endswith(".shiftql") or Path(word).is_file():
                return "", ask_file, arguments
            if len(word.split()) > 1:
                raise click.UsageError(f"a query stands after -c: shiftql -c {json.dumps(word, ensure_ascii=False)}")
        return super().resolve_command(context, arguments)

    def invoke(self, context: click.Context) -> Any:
        from shiftql.asking import tell

        try:
            return super().invoke(context)
        except ShiftError as error:
            context.exit(tell(error))
        except KeyboardInterrupt:
            context.exit(INTERRUPTED)


class QueryFile(click.File):
    """A file of queries in UTF-8, `-` for standard input; its value is the text."""

    name = "file"

    def __init__(self) -> None:
        super().__init__(encoding="utf-8-sig")

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        opened = cast("IO[str]", super().convert(value, parameter, context))
        try:
            return opened.read()
        except UnicodeDecodeError as error:
            self.fail(f"{value!r} is not UTF-8 text: {error.reason} at byte {error.start}", parameter, context)


@click.group(cls=QueryGroup, invoke_without_command=True, epilog=EXAMPLES, context_settings={"max_content_width": 120})
@click.option("-c", "query", metavar="QUERY", help="Answer this query; several are separated by ;")
@format_option
@click.option("--server", metavar="URL", help="Let the Prefect server at this address answer, such as host:4200.")
@click.option("--no-wait", is_flag=True, help="Answer with what is known now; new work goes on in the background.")
@click.option(
    "--no-rule", "no_rules", multiple=True, metavar="NAME", help="Leave this rule out of every plan; see EXPLAIN."
)
@click.version_option(package_name="shiftql", prog_name="shiftql")
@click.pass_context
def main(
    context: click.Context,
    query: str | None,
    format: str,
    server: str | None,
    no_wait: bool,
    no_rules: tuple[str, ...],
) -> None:
    """Search engine for pre-trained models: which one should I fine-tune for my dataset?

    Without arguments it opens a prompt, or reads queries from standard input where that is no terminal.
    With a FILE (or - for standard input) it answers the queries in it.
    """
    if context.invoked_subcommand is not None:
        if query is not None:
            raise click.UsageError("-c takes the place of a file or command")
        if server is not None and context.invoked_subcommand not in _AT_A_SERVER:
            raise click.UsageError(f"--server is for queries, deploy and trigger, not for {context.invoked_subcommand}")
    elif query is not None:
        _answer(context, query, format)
    elif sys.stdin.isatty():
        from shiftql.repl import run_repl

        run_repl(_session(context), format)
    else:
        _answer(context, _read_standard_input(context), format)


@click.command()
@click.argument("text", type=QueryFile(), metavar="FILE")
@format_option
@click.pass_context
def ask_file(context: click.Context, text: str, format: str) -> None:
    """Answer the queries in a file; - is standard input."""
    _answer(context, text, format)


def _read_standard_input(context: click.Context) -> str:
    return cast(str, QueryFile().convert("-", None, context))


def _answer(context: click.Context, text: str, format: str) -> None:
    from shiftql.asking import ask

    interrupts.hear()
    # Who is told to end answers with what is known, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    context.exit(ask(_session(context), text, format))


def _session(context: click.Context) -> Session:
    """The session that was asked for before any command."""
    from shiftql.engine import Session

    options = context.find_root().params
    if options["server"] is not None and options["no_rules"]:
        raise click.UsageError("--no-rule is for plans that are made here, not at a server")
    return Session(wait=not options["no_wait"], no_rules=options["no_rules"], server=options["server"])


@main.command()
@click.argument("text", type=QueryFile(), metavar="[FILE]", required=False)
@click.option("-c", "query", metavar="QUERY", help="Parse this query.")
@click.pass_context
def parse(context: click.Context, text: str | None, query: str | None) -> None:
    """Print each statement's syntax tree as a line of JSON.

    It is read from FILE, or from standard input where that is left out or -.
    """
    from shiftql.ast import to_json
    from shiftql.parser import parse as parse_statements

    if query is not None and text is not None:
        raise click.UsageError("-c takes the place of a file")
    given = query if text is None else text
    for statement in parse_statements(_read_standard_input(context) if given is None else given):
        click.echo(json.dumps(to_json(statement), ensure_ascii=False))


main.add_command(models)
main.add_command(datasets)
main.add_command(benchmark)
main.add_command(watches)
main.add_command(purge)
main.add_command(doctor)
main.add_command(replay)
main.add_command(predict)
main.add_command(simulate)
main.add_command(deploy)
main.add_command(trigger)
main.add_command(up)
main.add_command(down)
main.add_command(status)


@main.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option("--size", type=click.Choice(["small", "full"]), default="small", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def playground(directory: Path, size: Literal["small", "full"], seed: int) -> None:
    """Make and register an offline pool of small trained models, and datasets to try them on."""
    from shiftql.engine import Session
    from shiftql.terminal import shown_progress

    with shown_progress():
        made = Session().make_playground(directory, size, seed)
    click.echo(f"{len(made.models)} models and {len(made.datasets)} dataset splits in {directory}:")
    click.echo("'shiftql models list' and 'shiftql datasets list' show them")
