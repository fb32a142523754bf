"""The command `shiftql simulate`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shiftql.options import format_option
from shiftql.render import render_records

if TYPE_CHECKING:
    from shiftql.simulation import Expected, ModelCosts, Rounds, Setting, Simulated
    from shiftql.strategies.successive_halving import RowRace

_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_SECONDS = click.FloatRange(min=0)
_COUNT = click.IntRange(min=1)
# A fine-tuning passes a row forward, backward, and once more to update.
_TRAINING_FACTOR = 3.5
_COLUMNS = ("execution", "seconds", "at least", "at most", "devices idle")


@click.command()
@click.option("--models", metavar="NAME,'P*',…", help="Registered models, at what the cost model expects of them.")
@click.option("--trained-on", metavar="DATASET", help="A registered dataset: its rows, and the models that take them.")
@click.option("--by", metavar="RANKER", default="Linear", show_default=True, help="The proxy of registered models.")
@click.option("--pool", type=_COUNT, metavar="N", help="So many models, all at the costs below.")
@click.option("--load", type=_SECONDS, default=3.0, show_default=True, help="Seconds to open one.")
@click.option("--inference", type=_SECONDS, default=0.0175, show_default=True, help="Seconds of a row through it.")
@click.option("--fit", type=_SECONDS, default=0.0, show_default=True, help="Seconds of the proxy per training row.")
@click.option("--proxy", type=_SECONDS, default=0.005, show_default=True, help="Seconds of the proxy per test row.")
@click.option(
    "--training", type=_SECONDS, help="Seconds of fine-tuning, per row and epoch (default: 3.5 times --inference)."
)
@click.option("--rows", type=_COUNT, metavar="N", help="Training rows, where not those of a dataset.")
@click.option("--test-rows", type=_COUNT, metavar="N", help="Test rows, where not those of a dataset.")
@click.option("--classes", type=_COUNT, metavar="N", help="Classes of the rows, where not those of a dataset.")
@click.option("--limit", type=_COUNT, metavar="N", help="How many of the best are asked for, as LIMIT.")
@click.option("--devices", type=_COUNT, default=1, show_default=True)
@click.option("--chunk", type=_COUNT, metavar="N", help="Rows of a pull, as CHUNK.")
@click.option("--budget", type=_COUNT, metavar="N", help="Pulls, as BUDGET.")
@click.option("--epochs", type=_COUNT, default=25, show_default=True, help="Of fine-tuning every model.")
@click.option("--published", is_flag=True, help="Execute as in the published cost model of SHiFT.")
@click.option("--pictures", type=_DIRECTORY, metavar="DIR", help="Draw where halving is faster, over rows and pool.")
@format_option
def simulate(
    models: str | None,
    trained_on: str | None,
    by: str,
    pool: int | None,
    load: float,
    inference: float,
    fit: float,
    proxy: float,
    training: float | None,
    rows: int | None,
    test_rows: int | None,
    classes: int | None,
    limit: int | None,
    devices: int,
    chunk: int | None,
    budget: int | None,
    epochs: int,
    published: bool,
    pictures: Path | None,
    format: str,
) -> None:
    """What finding a model costs: all models on all rows, in rounds, or by fine-tuning every one.

    Rounds are those of the published successive halving (CHUNK, BUDGET), and of the optimizer's race (CHUNK AUTO).
    Devices take evaluations in order. Nothing is opened or run.

    \b
      shiftql simulate --pool 100 --rows 5000 --test-rows 1000 --devices 8
      shiftql simulate --models 'resnet-*' --trained-on drawn-digits --devices 4
      shiftql simulate --trained-on drawn-digits --rows 20000 --chunk 256 --pictures ./pictures
    """
    from shiftql.simulation import PUBLISHED, ModelCosts, Setting, ours

    is_registered = models is not None or trained_on is not None
    if is_registered == (pool is not None):
        raise click.UsageError("either --pool N, or registered models by --models or --trained-on")
    if pictures is not None:
        from shiftql.pictures.files import make_directory

        make_directory(pictures)
    if pool is None:
        from shiftql.engine import Session

        found = Session().pool_costs(models or "*", trained_on, by)
        costs: Sequence[ModelCosts] = found.costs
        rows, test_rows = rows or found.train_rows, test_rows or found.test_rows
        classes, system = classes or found.classes, found.system
    else:
        trained = _TRAINING_FACTOR * inference if training is None else training
        costs, system = [ModelCosts(load, inference, fit, proxy, trained)] * pool, ours()
    for option, value in (("--rows", rows), ("--test-rows", test_rows)):
        if value is None:
            raise click.UsageError(f"{option} N is missing, or --trained-on, whose rows are counted")
    assert rows is not None
    assert test_rows is not None
    setting = Setting(rows, test_rows, devices, PUBLISHED if published else system, classes or 0, limit)
    answer = _simulated(costs, setting, chunk, budget, epochs)
    click.echo(json.dumps(answer) if format == "json" else _worded(answer, format))
    if pictures is not None:
        from shiftql.pictures.break_even import write_pictures

        for path in write_pictures(pictures, costs, setting, chunk, epochs):
            click.echo(f"{path} is written", err=True)


def _simulated(
    costs: Sequence[ModelCosts], setting: Setting, chunk: int | None, budget: int | None, epochs: int
) -> dict[str, Any]:
    from shiftql.simulation import halved, published_rounds, raced, simulate_finetuning, simulate_plain

    rounds = published_rounds(len(costs), setting, chunk, budget)
    race = raced(len(costs), setting)
    named = {"chunk": rounds.chunk, "budget": rounds.budget}
    return {
        "models": len(costs),
        "train_rows": setting.train_rows,
        "test_rows": setting.test_rows,
        "classes": setting.classes,
        "devices": setting.devices,
        "plain": _figures(simulate_plain(costs, setting)),
        # A budget is for so many rows: for others it is the least.
        "halved": named | _in_rounds(costs, setting, rounds.race(setting.test_rows), halved(chunk)),
        "race": None if race is None else {"eta": race.eta} | _in_rounds(costs, setting, race, raced),
        "finetuning": {"epochs": epochs, **_figures(simulate_finetuning(costs, setting, epochs))},
    }


def _figures(found: Simulated | Expected) -> dict[str, Any]:
    return {"seconds": found.seconds, "idle": found.idle}


def _in_rounds(costs: Sequence[ModelCosts], setting: Setting, race: RowRace, rounds: Rounds) -> dict[str, Any]:
    """The figures of a race, and from how many training rows on rounds of its kind are faster."""
    from shiftql.simulation import break_even, expected

    found = expected(costs, race, setting)
    return {
        **_figures(found),
        "low": found.low,
        "high": found.high,
        "phases": [asdict(phase) for phase in found.phases],
        "break_even_rows": break_even(costs, setting, rounds),
    }


def _worded(answer: Mapping[str, Any], format: str) -> str:
    """A table of the executions; for people also what was asked, the rounds, and from where on they are faster."""
    halved, race, finetuning = answer["halved"], answer["race"], answer["finetuning"]
    executions = {"plain": answer["plain"]}
    executions[f"halved, chunk {halved['chunk']}, budget {halved['budget']} pulls"] = halved
    if race is not None:
        executions[f"the optimizer's race, eta {race['eta']}"] = race
    executions[f"fine-tuning all, {finetuning['epochs']} epochs"] = finetuning
    table = render_records([_row(name, found) for name, found in executions.items()], _COLUMNS, format)
    if format == "csv":
        return table
    classes = f" of {answer['classes']} classes" if answer["classes"] else ""
    asked = f"{answer['models']} models, {answer['train_rows']} training and {answer['test_rows']} test rows{classes}"
    devices = "1 device" if answer["devices"] == 1 else f"{answer['devices']} devices"
    parts = [f"{asked}, {devices}\n{table}"]
    for name, found in (("Halving", halved), ("The race", race)):
        if found is None:
            parts.append("There is no race: no model would be spared anything.")
        else:
            rounds = [_round(phase, answer["devices"]) for phase in found["phases"]]
            verdict = _verdict(name, found["break_even_rows"])
            parts.append(f"{verdict}:\n{render_records(rounds, tuple(rounds[0]), format)}")
    return "\n\n".join(parts)


def _verdict(name: str, least: int | None) -> str:
    if least is None:
        return f"{name} is never faster, up to a million training rows"
    return f"{name} is faster from {least} training rows on"


def _round(phase: Mapping[str, Any], devices: int) -> dict[str, Any]:
    return {
        "models": phase["models"],
        "training rows": phase["rows"],
        "test rows": phase["tested"],
        "seconds": _seconds(phase["seconds"]),
        "devices idle": f"{100 * (1 - phase['busy'] / (phase['seconds'] * devices or 1)):.0f} %",
    }


def _row(name: str, found: Mapping[str, Any]) -> dict[str, str]:
    low, high = found.get("low", found["seconds"]), found.get("high", found["seconds"])
    figures = (_seconds(found["seconds"]), _seconds(low), _seconds(high), f"{100 * found['idle']:.0f} %")
    return dict(zip(_COLUMNS, (name, *figures), strict=True))


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"
