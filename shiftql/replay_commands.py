"""The command `shiftql replay`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shiftql.options import format_option
from shiftql.render import render_records
from shiftql.terminal import shown_progress
from storage.errors import BindingError

if TYPE_CHECKING:
    from shiftql.recorded import Records
    from shiftql.replaying import Outcome
    from shiftql.strategies.specs import NamedStrategy

_FIGURES = ("final_regret", "search_regret", "cost_fraction", "fine_tunes", "epochs", "top_k_mean")
_SHARES = ("final_regret", "search_regret", "cost_fraction", "top_k_mean")
_SUMMARY = ("mean", "standard_error", "max")
# Formats that hold more of a target than its figures.
_FULL = ("json", "csv")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)


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
@click.option(
    "--pictures", type=_DIRECTORY, metavar="DIR", help="Draw regret against cost and estimates against truth."
)
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
    pictures: Path | None,
    format: str,
) -> None:
    """Let strategies choose on recorded results, each dataset in turn with the others as history.

    Regrets are relative to the target's best test accuracy, costs to fine-tuning all its models. Every table is
    replayed by itself: accuracies of different protocols do not compare.

    \b
      shiftql replay --records vision.csv --strategy "BestAverage(k=10)" --all
      shiftql replay --records full.csv --low-fidelity quick.csv --strategy "Proxy('low_fidelity', k=5)"
      shiftql replay --records vision.csv --strategy Auto --strategy Enumerate --pictures ./pictures
    """
    from shiftql.recorded import load_records
    from shiftql.replay_choices import check_names, choose_targets
    from shiftql.replaying import summarize
    from shiftql.strategies.specs import read_strategy

    if all_targets and targets:
        raise click.UsageError("--all and --target exclude each other")
    strategies = {str(named): named for named in map(read_strategy, strategy)}
    if pictures is not None:
        from shiftql.pictures.files import make_directory

        make_directory(pictures)
    tables = [load_records(path) for path in (*records, *more)]
    check_names(tables)
    cheap = None if low_fidelity is None else load_records(low_fidelity)
    _check_families(families, tables)
    with shown_progress():
        chosen = choose_targets(tables, cheap, targets)
    _try(list(strategies.values())[1:], *chosen[0], cheap, families)
    replayed, answers = {}, []
    for name, named in strategies.items():
        runs = [(table, target, each) for table, target in chosen for each in _with_seeds(named, seeds)]
        replayed[name] = _replay(name, runs, cheap, families, top)
        rows = [_row(outcome, table, each, len(tables) > 1, format) for table, each, outcome in replayed[name]]
        answers.append({"strategy": name, "targets": rows, **summarize(rows, _FIGURES)})
        if format == "json":
            click.echo(json.dumps(answers[-1]))
        elif format != "csv":
            click.echo("\n" * (len(answers) > 1) + _worded_answer(answers[-1], format))
    if format == "csv":
        click.echo(_as_csv(answers))
    if pictures is not None:
        _draw(pictures, tables, cheap, replayed)


def _check_families(families: Sequence[str], tables: Sequence[Records]) -> None:
    """Refuse a pattern that means no dataset: what it was to hold out would be history unnoticed."""
    names = sorted({name for table in tables for name in table.datasets})
    for family in families:
        if not any(fnmatchcase(name, family) for name in names):
            raise BindingError(
                f"--hold-out {family!r} is no dataset's name", subject=family, allowed=names, fix="name some of those"
            )


def _try(
    strategies: Sequence[NamedStrategy], table: Records, target: str, cheap: Records | None, families: Sequence[str]
) -> None:
    """Make strategies for a target, so that one that cannot be is told before others are replayed for long."""
    from shiftql.replaying import problem_of

    for named in strategies:
        named.make(problem_of(table, target, cheap, families))


def _replay(
    name: str,
    runs: Sequence[tuple[Records, str, NamedStrategy]],
    cheap: Records | None,
    families: Sequence[str],
    top: int,
) -> list[tuple[Records, NamedStrategy, Outcome]]:
    from shiftql.replaying import replay as replay_one

    done = []
    with click.progressbar(
        runs,
        label=name,
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
        item_show_func=lambda run: run and run[1],
    ) as shown:
        for table, target, each in shown:
            outcome = replay_one(table, target, each.make, low_fidelity=cheap, families=families, top=top)
            done.append((table, each, outcome))
    return done


def _with_seeds(named: NamedStrategy, seeds: int | None) -> list[NamedStrategy]:
    if seeds is None or not named.takes_seed:
        return [named]
    return [named.with_seed(seed) for seed in range(seeds)]


def _row(
    outcome: Outcome, table: Records, strategy: NamedStrategy, is_one_of_several: bool, format: str
) -> dict[str, Any]:
    from shiftql.agreement import agreement

    row = {"records": table.name} if is_one_of_several else {}
    row |= {name: getattr(outcome, name) for name in ("dataset", "picked", *_FIGURES, "coverage", "chance")}
    if format in _FULL:
        estimates = outcome.estimates
        row |= asdict(agreement([each.tested for each in estimates], [each.utility for each in estimates]))
    if "seed" in strategy.arguments:
        row["seed"] = strategy.arguments["seed"]
    return row


def _draw(
    directory: Path,
    tables: Sequence[Records],
    cheap: Records | None,
    replayed: Mapping[str, Sequence[tuple[Records, NamedStrategy, Outcome]]],
) -> None:
    """Write the pictures, and say which."""
    from shiftql.pictures.files import Replayed, write_pictures

    replays = []
    for table in tables:
        by_strategy: dict[str, dict[str, list[Outcome]]] = {}
        for name, outcomes in replayed.items():
            for of_table, _, outcome in outcomes:
                if of_table is table:
                    by_strategy.setdefault(name, {}).setdefault(outcome.dataset, []).append(outcome)
        if by_strategy:
            replays.append(Replayed(table, cheap, by_strategy))
    for path in write_pictures(directory, replays):
        click.echo(f"{path} is written", err=True)


def _as_csv(answers: Sequence[Mapping[str, Any]]) -> str:
    """All targets of all strategies and what sums them up, under one header."""
    rows = [{"strategy": answer["strategy"], **row} for answer in answers for row in _rows(answer)]
    columns = dict.fromkeys(name for row in rows for name in row)
    return render_records([{name: row.get(name) for name in columns} for row in rows], (), "csv")


def _worded_answer(answer: Mapping[str, Any], format: str) -> str:
    """A table of a strategy's targets, and below it what sums them up; shares are per cent."""
    several = [name for name in ("records", "seed") if name in answer["targets"][0]]
    columns = [*several, "dataset", "picked", *_FIGURES]
    rows = [{name: _worded(name, row.get(name)) for name in columns} for row in _rows(answer)]
    return f"{answer['strategy']}\n{render_records(rows, columns, format)}"


def _rows(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*answer["targets"], *({"dataset": name, **answer[name]} for name in _SUMMARY)]


def _worded(name: str, value: Any) -> str:
    if value is None or value != value:
        return ""
    if name in _SHARES:
        return f"{100 * value:.2f} %"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
