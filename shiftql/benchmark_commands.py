"""The commands `shiftql benchmark …`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from shiftql.options import Duration, format_option

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _matrix_options(command: _Command) -> _Command:
    """Add what says which matrix is meant."""
    for option in (
        click.option(
            "--by",
            metavar="RANKER",
            default="FineTune",
            show_default=True,
            help="Such as 'FineTune(epochs=5)' or Linear.",
        ),
        click.option(
            "--datasets",
            metavar="NAME,'P*',…",
            default="*",
            help="Which datasets, a part of each held out where it has no test split (default: all).",
        ),
        click.option("--models", metavar="NAME,'P*',…", default="*", help="Which models (default: all)."),
    ):
        command = option(command)
    return command


@click.group()
def benchmark() -> None:
    """The performance matrix: how well every model does on every benchmark dataset.

    It is what meta-learned queries, statistics over benchmarks and strategies with a history rest on. The splits
    d-train and d-test are the dataset d.
    """


@benchmark.command("build")
@_matrix_options
@click.option("--budget", metavar="30m", type=Duration(), help="Spend no more than so much on evaluations.")
@click.option("--explain", is_flag=True, help="Only say what is known, what would be measured and what it would cost.")
@format_option
@click.pass_context
def build(
    context: click.Context, models: str, datasets: str, by: str, budget: float | None, explain: bool, format: str
) -> None:
    """Measure what is unknown, the cells that tell most for their price first; what is known is never measured again.

    A model that was added fills its row, a dataset its column. What is interrupted goes on when it is asked again.

    \b
      shiftql benchmark build --budget 30m
      shiftql benchmark build --models 'resnet-*,vit' --datasets drawn-digits --by Linear
    """
    from shiftql.asking import show, status
    from shiftql.engine import Session
    from shiftql.terminal import shown_progress

    with shown_progress():
        if explain:
            show(Session().plan_benchmark(models, datasets, by, budget=budget), format)
            return
        answer = Session().build_benchmark(models, datasets, by, budget=budget)
    show(answer, format)
    context.exit(status(answer))


@benchmark.command("show")
@_matrix_options
@click.option("--clusters", is_flag=True, help="List the clusters of models that did alike, with the best of each.")
@format_option
def show_known(models: str, datasets: str, by: str, clusters: bool, format: str) -> None:
    """The matrix as far as it is known; measures nothing.

    With --clusters, the models that are within 0.05 of each other where they differ most, as TwoPhase takes them to be
    alike: trying the representative of a cluster tells of all its members. At least 6 datasets have to be known of two
    models before they are compared.
    """
    from shiftql.asking import show
    from shiftql.engine import Session
    from shiftql.terminal import shown_progress

    with shown_progress():
        session = Session()
        known = session.benchmark_clusters if clusters else session.benchmark
        show(known(models, datasets, by), format)
