"""Strategies on recorded results: regret and cost, leaving one dataset out.

    python benchmarks/replay.py [--json] [--plain] [--perturbed] [RECORDS]

RECORDS is the directory of the tables, by default those that are shipped. Targets are taken in alphabetical order:
`Auto` was tuned on the odd ones (the first, the third, …) and has not seen the even ones. Regrets are per cent of the
target's best test accuracy, costs per cent of fine-tuning every model. `--plain` leaves `Auto` out.
`--perturbed` replays `Auto` alone, on pools made from the tables: fewer models, less history, lost cells, other names.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figures
from perturbing import PERTURBED

import shiftql
from shiftql.recorded import Records, load_records
from shiftql.replaying import Outcome, replay
from shiftql.strategies.base import Problem, Strategy
from shiftql.strategies.specs import STRATEGIES, read_strategy
from storage.evaluations import Evaluation

SHIPPED = Path(shiftql.__file__).parent / "records"
FAMILIES = ("clevr*", "dsprites*", "smallnorb*")
# Costs at which strategies are compared as they go, per cent.
STAGES = (1, 2, 3, 5, 8)
AUTO = "Auto"
# By table: the table of cheap runs, what Auto is compared with, and what Auto may be at most (mean final regret, mean
# search regret, worst search regret, mean cost).
SETTINGS: dict[str, tuple[str | None, tuple[str, ...], tuple[float | None, ...]]] = {
    "vision_1k": (
        None,
        ("Enumerate", "Random(10)", "BestAverage(10)", "BestPerBenchmark", "NearestBenchmark", "TwoPhase(20)"),
        (3.4, 1.5, 8.0, 6.0),
    ),
    "text_full": (
        "text_1k",
        ("Enumerate", "Random(10)", "BestAverage(10)", "BestPerBenchmark", "Proxy('low_fidelity', 5)"),
        (2.4, 1.5, 8.0, 11.0),
    ),
    "curves_nlp": (
        None,
        ("Enumerate", "BestAverage(1)", "SuccessiveHalving", "SuccessiveHalving(k=10)", "TwoPhase(tolerance=0.02)"),
        (4.3, None, None, 6.0),
    ),
}
# Of a perturbed table so many draws, and of each so many targets.
DRAWS, TARGETS = 4, 5
MEASURES = ("mean final regret", "mean search regret", "worst search regret", "mean cost")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("records", nargs="?", type=Path, default=SHIPPED)
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of the tables")
    arguments.add_argument("--plain", action="store_true", help="without Auto")
    arguments.add_argument("--perturbed", action="store_true", help="Auto on pools made from the tables")
    options = arguments.parse_args()
    has_auto = AUTO in STRATEGIES and not options.plain
    figures = Figures(
        {
            f"{table}: Auto: {measure}": limit
            for table, (_, _, limits) in SETTINGS.items()
            for measure, limit in zip(MEASURES, limits, strict=True)
            if limit is not None
        }
    )
    if options.perturbed:
        measure_perturbed(figures, options.records)
    for table, (cheap, strategies, _) in {} if options.perturbed else SETTINGS.items():
        records = load_records(options.records / f"{table}.csv")
        low_fidelity = load_records(options.records / f"{cheap}.csv") if cheap else None
        paths = {}
        for strategy in (*strategies, *([AUTO] if has_auto else [])):
            paths[strategy] = measure(figures, table, records, low_fidelity, strategy)
        compare_stages(figures, table, paths)
        if table == "vision_1k" and has_auto:
            measure(figures, f"{table}, families held out", records, None, AUTO, FAMILIES)
    if options.json:
        print(json.dumps({"figures": figures.to_json()}))
    else:
        figures.show()
    sys.exit(not all(figure.is_within for figure in figures.measured))


def measure(
    figures: Figures,
    table: str,
    records: Records,
    cheap: Records | None,
    strategy: str,
    families: Sequence[str] = (),
) -> list[Outcome]:
    """Replay a strategy on every target of a table."""
    targets = [name for name in records.datasets if cheap is None or name in cheap.datasets]
    deciding: list[float] = []
    make = timed(read_strategy(strategy).make, deciding)
    outcomes = [replay(records, target, make, low_fidelity=cheap, families=families) for target in targets]
    final, search, cost = (
        100 * np.array([getattr(outcome, name) for outcome in outcomes])
        for name in ("final_regret", "search_regret", "cost_fraction")
    )
    values = (final.mean(), search.mean(), search.max(), cost.mean())
    for name, value, column in zip(MEASURES, values, (final, search, search, cost), strict=True):
        parts = ", ".join(f"{half} {worded(column[number::2])}" for number, half in enumerate(("odd", "even")))
        figures.add(f"{table}: {strategy}: {name}", float(value), "%", parts)
    told = [outcome for outcome in outcomes if outcome.coverage is not None and outcome.chance is not None]
    if told:
        covered = 100 * np.array([outcome.coverage for outcome in told], dtype=float)
        figures.add(f"{table}: {strategy}: covered by 90 % intervals", float(covered.mean()), "%", worded(covered))
        chances = 100 * np.array([outcome.chance for outcome in told], dtype=float)
        right = 100 * np.mean([outcome.final_regret <= 0.01 for outcome in told])
        detail = f"{right:.0f} % were within 1 % of the best"
        figures.add(f"{table}: {strategy}: stated chance", float(chances.mean()), "%", detail)
    figures.add(
        f"{table}: {strategy}: deciding", 1000 * float(np.mean(deciding)), "ms", f"at most {1000 * max(deciding):.0f}"
    )
    return outcomes


def measure_perturbed(figures: Figures, directory: Path) -> None:
    """Replay Auto on a few targets of pools drawn from each table."""
    make = read_strategy(AUTO).make
    for table, (cheap, _, _) in SETTINGS.items():
        records = load_records(directory / f"{table}.csv")
        low_fidelity = load_records(directory / f"{cheap}.csv") if cheap else None
        for name, perturbed in PERTURBED.items():
            outcomes = []
            for draw in range(DRAWS):
                random = np.random.default_rng(draw)
                pool = perturbed(records, random)
                known = low_fidelity if low_fidelity and set(pool.datasets) & set(low_fidelity.datasets) else None
                targets = [each for each in pool.datasets if known is None or each in known.datasets]
                for target in random.permutation(targets)[:TARGETS].tolist():
                    outcomes.append(replay(pool, target, make, low_fidelity=known))
            final, search, cost = (
                100 * np.array([getattr(outcome, measured) for outcome in outcomes])
                for measured in ("final_regret", "search_regret", "cost_fraction")
            )
            detail = f"± {worded(final).split()[-1]}, search {worded(search)}, cost {worded(cost)}"
            figures.add(f"{table}, {name}: {AUTO}: {MEASURES[0]}", float(final.mean()), "%", detail)


def timed(make: Callable[[Problem], Strategy], deciding: list[float]) -> Callable[[Problem], Strategy]:
    """The same strategies; the seconds of each decision are noted."""

    def made(problem: Problem) -> Strategy:
        strategy = make(problem)
        ask = strategy.ask

        def timed_ask(count: int) -> Sequence[Evaluation]:
            started = time.perf_counter()
            wanted = ask(count)
            deciding.append(time.perf_counter() - started)
            return wanted

        strategy.ask = timed_ask  # type: ignore[method-assign]
        return strategy

    return made


def worded(values: np.ndarray) -> str:
    """A mean with its standard error."""
    return f"{values.mean():.2f} ± {values.std(ddof=1) / np.sqrt(len(values)):.2f}"


def compare_stages(figures: Figures, table: str, paths: dict[str, list[Outcome]]) -> None:
    """The mean regret of what each strategy would have picked for so much."""
    for strategy, outcomes in paths.items():
        means = [float(np.mean([regret_at(outcome, stage) for outcome in outcomes])) for stage in STAGES]
        detail = ", ".join(f"{mean:.2f} at {stage} %" for stage, mean in zip(STAGES, means, strict=True))
        figures.add(f"{table}: {strategy}: anytime", means[2], "%", detail)


def regret_at(outcome: Outcome, stage: float) -> float:
    """The regret of the last pick that could be had for a share of the cost, per cent; of no pick it is 100."""
    within: list[Any] = [regret for cost, regret in outcome.path if 100 * cost <= stage]
    return 100 * within[-1] if within else 100.0


if __name__ == "__main__":
    main()
