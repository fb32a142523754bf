"""The command `shiftql replay`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shiftql.options import format_option
from shiftql.render import render_records

if TYPE_CHECKING:
    from shiftql.recorded import Records
    from shiftql.replaying import Outcome
    from shiftql.strategies.specs import NamedStrategy

_FIGURES = ("final_regret", "search_regret", "cost_fraction", "fine_tunes", "epochs", "top_k_mean")
_SHARES = ("final_regret", "search_regret", "cost_fraction", "top_k_mean")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--records", required=True, multiple=True, type=_FILE, metavar="F.csv", help="A table of fine-tunings.")
@click.argument("more", nargs=-1, type=_FILE, metavar="[F.csv]...")
@click.option("--strategy", required=True, multiple=True, metavar="NAME", help='Such as "Auto" or "Random(k=5)".')
@click.option("--low-fidelity", type=_FILE, metavar="F.csv", help="A table of cheap runs of the same models.")
@click.option("--target", "targets", multiple=True, metavar="D", help="Choose for this dataset only.")
@click.option("--all", "all_targets", is_flag=True, help="Choose for every dataset (the default).")
@click.option("--hold-out", "families", multiple=True, metavar="'D*'", help="Are no history of each other.")
@click.option("--seeds", type=click.IntRange(min=1), help="Replay what depends on a seed with so many.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="The k of top_k_mean.")
@format_option
def replay(
    records: Sequence[Path],
    more: Sequence[Path],
    strategy: Sequence[str],
    low_fidelity: Path | None,
    targets: Sequence[str],
    all_targets: bool,
    families: Sequence[str],
    seeds: int | None,
    top: int,
    format: str,
) -> None:
    """Let strategies choose on recorded results, each dataset in turn with the others as history.

    Regrets are relative to the target's best test accuracy, costs to fine-tuning all its models. Every table is
    replayed by itself: accuracies of different protocols do not compare.

    \b
      shiftql replay --records vision.csv --strategy "BestAverage(k=10)" --all
      shiftql replay --records full.csv --low-fidelity quick.csv --strategy "Proxy('low_fidelity', k=5)"
    """
    from shiftql.recorded import load_records
    from shiftql.replaying import replay as replay_one
    from shiftql.replaying import summarize
    from shiftql.strategies.specs import read_strategy

    if all_targets and targets:
        raise click.UsageError("--all and --target exclude each other")
    tables = [load_records(path) for path in (*records, *more)]
    cheap = None if low_fidelity is None else load_records(low_fidelity)
    pairs = [(table, target) for table in tables for target in _targets(table, cheap, targets)]
    answers = []
    for named in [read_strategy(text) for text in strategy]:
        rows = []
        runs = [(*pair, each) for pair in pairs for each in _with_seeds(named, seeds)]
        with click.progressbar(runs, label=str(named), file=sys.stderr, hidden=not sys.stderr.isatty()) as shown:
            for table, target, each in shown:
                outcome = replay_one(table, target, each.make, low_fidelity=cheap, families=families, top=top)
                rows.append(_row(outcome, table.name if len(tables) > 1 else None, each))
        answers.append({"strategy": str(named), "targets": rows, **summarize(rows, _FIGURES)})
    if format == "json":
        for answer in answers:
            click.echo(json.dumps(answer))
    else:
        click.echo(_shown(answers, format))


def _targets(table: Records, cheap: Records | None, wanted: Sequence[str]) -> Sequence[str]:
    """The datasets to choose for: those that are named, or all that the cheap runs know too."""
    from storage.errors import BindingError
    from storage.names import near

    for target in wanted:
        if target not in table.datasets:
            meant = near(target, table.datasets, 1)
            fix = f"did you mean {meant[0]}?" if meant else "name one of those"
            raise BindingError(f"{table.name} has no dataset {target}", subject=target, allowed=table.datasets, fix=fix)
    return wanted or [name for name in table.datasets if cheap is None or name in cheap.datasets]


def _with_seeds(named: NamedStrategy, seeds: int | None) -> list[NamedStrategy]:
    if seeds is None or not named.takes_seed:
        return [named]
    return [named.with_seed(seed) for seed in range(seeds)]


def _row(outcome: Outcome, table: str | None, strategy: NamedStrategy) -> dict[str, Any]:
    row = {key: value for key, value in asdict(outcome).items() if key != "path"}
    if table is not None:
        row = {"records": table, **row}
    if "seed" in strategy.arguments:
        row["seed"] = strategy.arguments["seed"]
    return row


def _shown(answers: Sequence[Mapping[str, Any]], format: str) -> str:
    """A table of each strategy's targets, and below it their mean and the largest figure; shares are per cent."""
    parts = []
    for answer in answers:
        rows = [*answer["targets"], *({"dataset": name, **answer[name]} for name in ("mean", "standard_error", "max"))]
        if format == "csv":
            parts.append(render_records([{"strategy": answer["strategy"], **row} for row in rows], (), "csv"))
            continue
        columns = ["dataset", "picked", *_FIGURES]
        worded = [{name: _worded(name, row.get(name)) for name in columns} for row in rows]
        parts.append(f"{answer['strategy']}\n{render_records(worded, columns, format)}")
    return "\n\n".join(parts)


def _worded(name: str, value: Any) -> str:
    if value is None or value != value:
        return ""
    if name in _SHARES:
        return f"{100 * value:.2f} %"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
