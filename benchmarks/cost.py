"""Estimated against actual seconds of whole plans: before anything was measured here, and after 20 evaluations.

    python benchmarks/cost.py [--json] [--idle] PLAYGROUND

On the small playground in a home of its own: proxies, fine-tunes, Auto, halving and Task2Vec, one after another, in
the processes of three sessions. Before each question its plan is estimated twice, by all that was measured on this
machine so far and as if nothing had been; the factor is the larger of actual over estimated and the inverse.

Where other work keeps the cores busy everything takes longer, by how much changes from minute to minute. With --idle
the clock by which things are measured, learned from and judged stands still for the share of the cores that went to
others: what it would take were the machine idle. That is exact where it runs on one core (`taskset -c 0 python …`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from figures import Figures

FACTORS = {"before any": 3.0, "after 20 evaluations": 1.5}
WARM_EVALUATIONS = 20
SHARE = 0.9
LIMITS = {"before any: missed": 0.0, "after 20 evaluations: missed": 1 - SHARE}

DIGITS = "TRAINED ON drawn-digits-train TESTED ON drawn-digits-test"
SHAPES = "TRAINED ON counting-shapes-train TESTED ON counting-shapes-test"
TOPICS = "TRAINED ON sentence-topics-train TESTED ON sentence-topics-test"
SESSIONS = (
    (
        f"SELECT name FROM models ORDER BY Linear {DIGITS}",
        f"SELECT name FROM models ORDER BY Linear {TOPICS}",
        f"SELECT name FROM models ORDER BY Linear {SHAPES}",
        f"SELECT name FROM models ORDER BY 'Cosine NN'(k=5) {DIGITS}",
        f"SELECT name FROM models WHERE name LIKE 'resnet-%' ORDER BY FineTune(epochs=2) {DIGITS}",
        f"SELECT name FROM models ORDER BY LogME {SHAPES}",
        f"SELECT name FROM models WHERE name LIKE 'bert%' ORDER BY FineTune(epochs=2) {TOPICS}",
        f"SELECT name FROM models ORDER BY acc CLASSIFIED BY [Linear(lr=0.1), 'Cosine NN'(k=3)] {TOPICS}",
    ),
    (
        "SELECT name FROM image_models ORDER BY Linear TRAINED ON (drawn-digits-train CHANGE [0, 1, 2, 3] "
        "TO drawn-digits-test [0, 1, 2, 3]) TESTED ON drawn-digits-test",
        f"SELECT name FROM models WHERE name = 'vit-location' ORDER BY FineTune(epochs=4) {DIGITS}",
        f"SELECT name FROM models ORDER BY LEEP {DIGITS}",
        f"SELECT name FROM text_models ORDER BY Linear(layer=best) {TOPICS}",
        f"SELECT name FROM models WHERE name LIKE 'swin%' ORDER BY FineTune(epochs=3) {SHAPES}",
        f"SELECT name FROM models ORDER BY HScore {DIGITS}",
        f"SELECT name FROM models WHERE name LIKE 'distil%' ORDER BY FineTune(epochs=6) {TOPICS}",
        "SELECT name FROM datasets WHERE modality = image ORDER BY Task2Vec TRAINED ON drawn-digits-train",
        f"SELECT name FROM image_models ORDER BY Linear(lr=0.05) CHUNK 64 BUDGET 160 {SHAPES}",
    ),
    (
        f"SELECT name FROM image_models ORDER BY Linear(layer=best) {DIGITS}",
        f"SELECT name FROM models WHERE name LIKE 'convnext%' ORDER BY FineTune(epochs=5) {DIGITS}",
        f"SELECT name FROM models ORDER BY NLEEP {SHAPES}",
        f"SELECT name FROM models WHERE name LIKE 'vit%' ORDER BY FineTune(epochs=3) {SHAPES}",
        f"SELECT name FROM models WHERE name LIKE 'roberta%' ORDER BY FineTune(epochs=5) {TOPICS}",
        f"SELECT name FROM models ORDER BY 'Euclidean NN'(k=1) {SHAPES}",
        f"SELECT name FROM models WHERE name LIKE 'resnet-%' ORDER BY FineTune(epochs=8) {SHAPES}",
        f"SELECT name FROM image_models ORDER BY Auto {DIGITS}",
    ),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("playground", type=Path, help="a small playground, built where there is none")
    arguments.add_argument("--idle", action="store_true", help="measure what it would take on an idle machine")
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="shift-cost-") as home:
        os.environ["SHIFT_HOME"] = home
        command = [sys.executable, "-m", "shiftql", "playground", str(options.playground), "--size", "small"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        try:
            with others_left_out() if options.idle else nullcontext():
                rows = [row for number in range(len(SESSIONS)) for row in _in_a_process(number)]
        finally:
            subprocess.run([sys.executable, "-m", "shiftql", "down"], check=False, stdout=subprocess.DEVNULL)
    figures = _figures(rows)
    if options.json:
        print(json.dumps({"figures": figures.to_json(), "questions": rows}))
    else:
        _show(rows)
        figures.show()


def _in_a_process(number: int) -> list[dict[str, Any]]:
    command = [sys.executable, __file__, "--session", str(number)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def session(number: int) -> None:
    """Ask the questions of one session, and print of each what was estimated and what it took, a JSON object a line."""
    from shiftql.engine import Session

    asking = Session()
    for question in SESSIONS[number]:
        cold, learned = _estimate(asking, question, unlearned=True), _estimate(asking, question)
        started = time.perf_counter()
        (answer,) = asking.run(question)
        seconds = time.perf_counter() - started
        if answer.kind == "error":
            raise SystemExit(f"{question}: {answer.error}")
        evaluated = getattr(answer, "evaluated", 0)
        row = {"question": question, "before": cold, "after": learned, "seconds": seconds, "evaluated": evaluated}
        print(json.dumps(row), flush=True)
        print(f"  {cold:6.1f} {learned:6.1f} {seconds:6.1f}  {question}", file=sys.stderr)


def _estimate(asking: Any, question: str, *, unlearned: bool = False) -> float:
    """The seconds that EXPLAIN says, without what was learned if that is asked for."""
    with patch("storage.learned_costs.LearnedCosts.of", lambda *_: {}) if unlearned else nullcontext():
        (answer,) = asking.run(f"EXPLAIN {question}")
    return answer.plan["total"]["estimated_seconds"]


# --- the clock of an idle machine ---------------------------------------------------------------------------------

_EVERY_SECONDS = 0.1
_CLOCK = """
import mmap, os, struct, time

_file = open(os.environ["SHIFT_COST_CLOCK"], "rb")
_sample = mmap.mmap(_file.fileno(), 24, access=mmap.ACCESS_READ)
_now = time.perf_counter


def perf_counter():
    now = _now()
    at, lost, rate = struct.unpack("ddd", _sample[:24])
    return now - lost - rate * (now - at)


time.perf_counter = perf_counter
"""


@contextmanager
def others_left_out() -> Iterator[None]:
    """Every process that is started meanwhile has a perf_counter that stands still while others have the cores."""
    with tempfile.TemporaryDirectory(prefix="shift-clock-") as directory:
        sample = Path(directory) / "sample"
        sample.write_bytes(struct.pack("ddd", time.perf_counter(), 0.0, 0.0))
        (Path(directory) / "sitecustomize.py").write_text(_CLOCK)
        path = os.environ.get("PYTHONPATH")
        os.environ |= {
            "PYTHONPATH": directory if path is None else f"{directory}{os.pathsep}{path}",
            "SHIFT_COST_CLOCK": str(sample),
        }
        ended = threading.Event()
        thread = threading.Thread(target=_tell_what_is_lost, args=(sample, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _tell_what_is_lost(sample: Path, ended: threading.Event) -> None:
    """Write every now and then when it was, the seconds that others cost so far, and how many a second they cost."""
    cores = sorted(os.sched_getaffinity(0))
    own: dict[psutil.Process, float] = {}
    at, lost = time.perf_counter(), 0.0
    busy, taken = _busy_seconds(cores), _own_seconds(own)
    with sample.open("r+b", buffering=0) as file:
        while not ended.wait(_EVERY_SECONDS):
            now, busy_now, taken_now = time.perf_counter(), _busy_seconds(cores), _own_seconds(own)
            elsewhere = max(0.0, (busy_now - busy) - (taken_now - taken)) / len(cores)
            rate = min(0.95, elsewhere / (now - at))
            lost += rate * (now - at)
            at, busy, taken = now, busy_now, taken_now
            file.seek(0)
            file.write(struct.pack("ddd", at, lost, rate))


def _busy_seconds(cores: list[int]) -> float:
    """What the cores were busy for since the machine started."""
    times = psutil.cpu_times(percpu=True)
    return sum(times[core].user + times[core].nice + times[core].system for core in cores)


def _own_seconds(own: dict[psutil.Process, float]) -> float:
    """What this process, all that it started and the home's server took so far; `own` keeps what each did."""
    this = psutil.Process()
    state = Path(os.environ["SHIFT_HOME"]) / "server.json"
    processes = [this, *this.children(recursive=True)]
    with suppress(psutil.Error, OSError, ValueError):
        processes.append(psutil.Process(json.loads(state.read_text())["pid"]))
    for process in processes:
        with suppress(psutil.Error):
            spent = process.cpu_times()
            own[process] = spent.user + spent.system
    return sum(own.values())


# --- what came of it ----------------------------------------------------------------------------------------------


def _figures(rows: list[dict[str, Any]]) -> Figures:
    figures = Figures(LIMITS)
    evaluated, warm = 0, []
    for row in rows:
        if evaluated >= WARM_EVALUATIONS:
            warm.append(row)
        evaluated += row["evaluated"]
    for name, chosen, estimated in (("before any", rows, "before"), ("after 20 evaluations", warm, "after")):
        factors = sorted(_factor(row["seconds"], row[estimated]) for row in chosen)
        missed = sum(factor > FACTORS[name] for factor in factors) / len(factors)
        most = factors[math.ceil(SHARE * len(factors)) - 1]
        figures.add(
            f"{name}: missed", missed, "", f"of {len(factors)} by {FACTORS[name]:g}; 9 of 10 are within {most:.2f}"
        )
    return figures


def _factor(actual: float, estimated: float) -> float:
    return math.exp(abs(math.log(max(actual, 1e-3) / max(estimated, 1e-3))))


def _show(rows: list[dict[str, Any]]) -> None:
    print("before any   after  actual  question")
    for row in rows:
        print(f"{row['before']:10.1f} {row['after']:7.1f} {row['seconds']:7.1f}  {row['question']}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--session"]:
        session(int(sys.argv[2]))
    else:
        main()
