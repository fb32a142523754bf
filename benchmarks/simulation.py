"""Simulated seconds against those of real queries: plain and halved, on one core and on two.

    python benchmarks/simulation.py [--json] [DIRECTORY]

DIRECTORY keeps the small playground and the home between runs. The costs of the image models are measured by plain
queries on few and on more rows, what a query takes beside its evaluations by the latter, and what an evaluation takes
in a round besides by a halved one. Then others are simulated and asked, each on drawn digits that no query had before,
in a process in which the frameworks are loaded. All this takes several turns, of which the one in the middle is told.
With two cores there are two processes to open models in: two devices.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from shiftql.simulation import (
    ModelCosts,
    Setting,
    System,
    expected_halving,
    simulate_halved,
    simulate_plain,
)

TEST_ROWS = 500
TRAIN_ROWS = 3000
CALIBRATED_ROWS = (300, 1500)
# Chunk and budget of each query that is asked; None is left to the least.
LIMITS: tuple[tuple[int | None, int | None] | None, ...] = (None, (None, 21), (100, None), (100, 84))
CALIBRATED = (None, 42)
CORES = (1, 2)
REPETITIONS = 3
WHERE = "source = huggingface AND modality = image"


@dataclass(frozen=True)
class Compared:
    """A query: what it was simulated to take, at least and at most whichever models go on, and what it took.

    `by_order` is what is simulated with the models that really went on, `learned` with the costs that the home learned
    from its queries, as `shiftql simulate` has them, in place of those that were measured here.
    """

    query: str
    devices: int
    expected: float
    low: float
    high: float
    by_order: float
    learned: float
    actual: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"expected_over_actual": self.expected / self.actual}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", nargs="?", type=Path)
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = (options.directory or Path(temporary)).absolute()
        directory.mkdir(parents=True, exist_ok=True)
        os.environ["SHIFT_HOME"] = str(directory / "home")
        found = [each for cores in CORES for each in _in_a_process(directory, cores)]
    if options.json:
        print(json.dumps([each.to_json() for each in found]))
    else:
        _show(found)


def _in_a_process(directory: Path, cores: int) -> list[Compared]:
    """What is compared in a process that may use so many cores."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(compare, (directory, cores))


def compare(directory: Path, cores: int) -> list[Compared]:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    from shiftql.engine import Session
    from tasks.host import stop_hosts

    session = Session()
    session.make_playground(directory / "playground", "small", 0)
    try:
        # Frameworks are loaded, and a second process is started where there is a second core.
        _ask(session, directory, CALIBRATED_ROWS[1])
        turns = [_one_turn(session, directory, cores) for _ in range(REPETITIONS)]
        return [_median(of_query) for of_query in zip(*turns, strict=True)]
    finally:
        stop_hosts()
        session.stop_server()


def _one_turn(session: Any, directory: Path, cores: int) -> list[Compared]:
    """Costs are measured and queries simulated and asked within minutes: what else the machine does varies."""
    few, more = (_ask(session, directory, rows) for rows in CALIBRATED_ROWS)
    costs = _costs(session, few, more)
    setting = Setting(TRAIN_ROWS, TEST_ROWS, cores)
    beside = _beside(setting, costs, more)
    setting = _with_overhead(setting, costs, beside, _ask(session, directory, more.rows, _worded(CALIBRATED)))
    learned = session.pool_costs(",".join(costs)).costs
    return [_compared(session, directory, costs, learned, setting, beside, limits) for limits in LIMITS]


def _median(turns: Sequence[Compared]) -> Compared:
    """The turn in the middle by how far it was off."""
    return sorted(turns, key=lambda each: each.expected / each.actual)[len(turns) // 2]


@dataclass(frozen=True)
class Run:
    """A query that was asked: its target, training rows and seconds, and models best first."""

    target: str
    rows: int
    seconds: float
    ranking: tuple[str, ...]


def _ask(session: Any, directory: Path, rows: int, limits: str = "") -> Run:
    target = _fresh_target(session, directory, rows)
    splits = f"TRAINED ON '{target}-train' TESTED ON '{target}-test'"
    text = f"SELECT name FROM models WHERE {WHERE} ORDER BY Linear {splits}{limits}"
    started = time.perf_counter()
    (answer,) = session.run(text)
    seconds = time.perf_counter() - started
    told = answer.to_json()
    if told["kind"] != "ranking":
        raise SystemExit(f"{text}\n{told}")
    print(f"  {seconds:6.1f} s: {text}", file=sys.stderr, flush=True)
    return Run(target, rows, seconds, tuple(row["model"] for row in told["ranking"] if not row.get("baseline")))


def _fresh_target(session: Any, directory: Path, rows: int) -> str:
    """Drawn digits that nobody saw before."""
    from tasks.playground.sizes import TargetSpec
    from tasks.playground.targets import split_path, write

    seed = time.time_ns() % 2**31
    target = f"digits-{rows}-{seed}"
    path = directory / "targets" / target
    path.mkdir(parents=True)
    write(TargetSpec("drawn-digits", "image", "numpy", rows, TEST_ROWS), path, seed)
    for split in ("train", "test"):
        session.add_dataset(f"{target}-{split}", str(split_path(path, split, "numpy")))
    return target


def _costs(session: Any, few: Run, more: Run) -> dict[str, ModelCosts]:
    """Of runs on different numbers of rows, what a row takes each model and what it takes whatever their number."""
    least, most = (_spent(session, run.target) for run in (few, more))
    per_row = {model: max(0.0, (most[model] - least[model]) / (more.rows - few.rows)) for model in most}
    return {
        model: ModelCosts(max(0.0, most[model] - each * (more.rows + TEST_ROWS)), each, 0.0, 0.0, 0.0)
        for model, each in per_row.items()
    }


def _spent(session: Any, target: str) -> Mapping[str, float]:
    """Seconds of the evaluation of each model on a target."""
    text = f"SELECT model_name, cost_seconds FROM benchmark_results WHERE dataset_name = '{target}-train'"
    (answer,) = session.run(f"{text} AND model_id IS NOT NULL")
    return {row["model_name"]: row["cost_seconds"] for row in answer.to_json()["rows"]}


def _beside(setting: Setting, costs: Mapping[str, ModelCosts], run: Run) -> float:
    """Seconds that a query takes beside its evaluations: those of the flow, and of the baselines."""
    beside = max(0.0, run.seconds - simulate_plain(_in_order(costs), replace(setting, train_rows=run.rows)).seconds)
    print(f"  {beside:.2f} s beside the evaluations", file=sys.stderr, flush=True)
    return beside


def _with_overhead(setting: Setting, costs: Mapping[str, ModelCosts], beside: float, run: Run) -> Setting:
    """The setting with what a halved run took besides, shared out among its evaluations."""
    halved = expected_halving(_in_order(costs), replace(setting, train_rows=run.rows), *CALIBRATED)
    missing = max(0.0, run.seconds - halved.seconds - beside)
    overhead = missing * setting.devices / sum(halved.schedule.arms)
    print(f"  {overhead:.2f} s beside each evaluation of a round", file=sys.stderr, flush=True)
    return replace(setting, system=System(round_overhead=overhead))


def _worded(limits: tuple[int | None, int | None]) -> str:
    chunk, budget = limits
    return f"{'' if chunk is None else f' CHUNK {chunk}'}{'' if budget is None else f' BUDGET {budget}'}"


def _in_order(costs: Mapping[str, ModelCosts]) -> list[ModelCosts]:
    """As the flow takes them: in the order of the catalog, which is that of names."""
    return [costs[model] for model in sorted(costs)]


def _compared(
    session: Any,
    directory: Path,
    costs: Mapping[str, ModelCosts],
    learned: Sequence[ModelCosts],
    setting: Setting,
    beside: float,
    limits: tuple[int | None, int | None] | None,
) -> Compared:
    models = _in_order(costs)
    chunk, budget = limits or (None, None)
    written = _worded((chunk, budget))
    run = _ask(session, directory, setting.train_rows, written)
    if limits is None:
        plain, by_learned = (simulate_plain(each, setting).seconds + beside for each in (models, learned))
        return Compared("plain", setting.devices, plain, plain, plain, plain, by_learned, run.seconds)
    halved = expected_halving(models, setting, chunk, budget)
    in_order = simulate_halved([costs[model] for model in run.ranking], halved.schedule, setting).seconds
    by_learned = expected_halving(learned, setting, chunk, budget).seconds
    said = (halved.seconds, halved.low, halved.high, in_order, by_learned)
    return Compared(written.strip(), setting.devices, *(each + beside for each in said), run.seconds)


def _show(found: Sequence[Compared]) -> None:
    columns = f"{'simulated':>11}{'from':>7}{'to':>7}{'in order':>10}{'learned':>9}{'actual':>8}{'ratio':>7}"
    print(f"{'query':24}{'devices':>8}{columns}")
    for each in found:
        said = f"{each.expected:11.1f}{each.low:7.1f}{each.high:7.1f}{each.by_order:10.1f}{each.learned:9.1f}"
        print(f"{each.query:24}{each.devices:8}{said}{each.actual:8.1f}{each.expected / each.actual:7.2f}")
    halved = [each for each in found if each.query != "plain"]
    for devices in dict.fromkeys(each.devices for each in found):
        plain = next(each for each in found if each.query == "plain" and each.devices == devices)
        for each in halved:
            if each.devices == devices:
                expected, measured = plain.expected / each.expected, plain.actual / each.actual
                gain = f"expected {expected:.2f} times as fast as plain, measured {measured:.2f}"
                print(f"{each.query} on {devices}: {gain}")


if __name__ == "__main__":
    main()
