"""Simulated seconds against those of real queries: plain, halved as published, and by the optimizer's race.

    python benchmarks/simulation.py [--cores 1|2] [--json] [DIRECTORY]

DIRECTORY keeps the small playground and the home between runs. The home learns what its Hugging Face image models cost
from some queries. By that others are simulated, as `shiftql simulate` does it, and then asked three times each, on
drawn digits that no query had before, in a process in which the frameworks are loaded. With two cores there are two
processes to open models in: two devices.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from shiftql.simulation import Setting, expected, halved, raced, simulate_plain

TEST_ROWS, TRAIN_ROWS = 1000, 6000
WHERE = "source = huggingface AND modality = image"
_ASKED = ("huggingface", "image")
# The smallest budget by which seven models are halved.
HALVED, RACED = " BUDGET 21", " CHUNK AUTO BUDGET AUTO"
LEARNED_FROM = (("", 500), ("", 3000), (HALVED, 3000), (RACED, TRAIN_ROWS), ("", 3000))
REPETITIONS = 3
CLASSES = 10


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", nargs="?", type=Path)
    arguments.add_argument("--cores", type=int, choices=(1, 2), default=1)
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = (options.directory or Path(temporary)).absolute()
        directory.mkdir(parents=True, exist_ok=True)
        os.environ["SHIFT_HOME"] = str(directory / "home")
        with get_context("spawn").Pool(1) as pool:
            found = pool.apply(compare, (directory, options.cores))
    print(json.dumps(found, indent=1) if options.json else _table(found))


def compare(directory: Path, cores: int) -> dict[str, Any]:
    """What was asked, what the home had learned by then, and of each query what it was simulated to take and took."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    from shiftql.engine import Session
    from tasks.host import stop_hosts

    session = Session()
    session.make_playground(directory / "playground", "small", 0)
    try:
        for limits, rows in LEARNED_FROM:
            _ask(session, directory, rows, limits)
        models = [model.name for model in session.catalog.models() if (model.source, model.modality) == _ASKED]
        learned = session.pool_costs(",".join(models))
        setting = Setting(TRAIN_ROWS, TEST_ROWS, cores, learned.system, CLASSES)
        plain = simulate_plain(learned.costs, setting).seconds
        simulated = {"": (plain, plain, plain)}
        for limits, rounds in ((HALVED, halved(budget=21)), (RACED, raced)):
            race = rounds(len(models), setting)
            assert race is not None
            found = expected(learned.costs, race, setting)
            simulated[limits] = (found.seconds, found.low, found.high)
        took: Mapping[str, list[float]] = {limits: [] for limits in simulated}
        for _ in range(REPETITIONS):
            for limits, seconds in took.items():
                seconds.append(_ask(session, directory, TRAIN_ROWS, limits))
    finally:
        stop_hosts()
        session.stop_stack()
    queries = [
        {
            "query": limits.strip() or "plain",
            **dict(zip(("simulated", "low", "high"), simulated[limits], strict=True)),
            "took": statistics.median(seconds),
        }
        for limits, seconds in took.items()
    ]
    return {"setting": asdict(setting), "models": [asdict(each) for each in learned.costs], "queries": queries}


def _ask(session: Any, directory: Path, rows: int, limits: str) -> float:
    """The seconds of a query on a target that nobody asked of before."""
    target = _fresh_target(session, directory, rows)
    splits = f"TRAINED ON '{target}-train' TESTED ON '{target}-test'"
    text = f"SELECT name FROM models WHERE {WHERE} ORDER BY Linear {splits}{limits}"
    started = time.perf_counter()
    (answer,) = session.run(text)
    seconds = time.perf_counter() - started
    told = answer.to_json()
    if told["kind"] != "ranking":
        raise SystemExit(f"{text}\n{told}")
    if limits == RACED and "eta" not in session.plan.strategy:
        raise SystemExit(f"{text}\nwas answered by {session.plan.strategy}, not by a race")
    print(f"  {seconds:6.1f} s: {text}", file=sys.stderr, flush=True)
    return seconds


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


def _table(found: Mapping[str, Any]) -> str:
    lines = [f"{'query':24}{'simulated':>11}{'from':>7}{'to':>7}{'took':>8}{'ratio':>7}"]
    for each in found["queries"]:
        said = f"{each['simulated']:11.1f}{each['low']:7.1f}{each['high']:7.1f}{each['took']:8.1f}"
        lines.append(f"{each['query']:24}{said}{each['simulated'] / each['took']:7.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
