"""Estimated against actual seconds of whole plans: before anything was measured here, and after 20 evaluations.

    python benchmarks/cost.py [--json] PLAYGROUND

On the small playground in a home of its own: proxies, fine-tunes, Auto, halving and Task2Vec, one after another, in
the processes of three sessions. Before each question its plan is estimated twice, by all that was measured on this
machine so far and as if nothing had been; the factor is the larger of actual over estimated and the inverse.

Where other work keeps the cores busy everything takes longer than it will. So the seconds of each question are
corrected too: less the share of the cores that went to processes that are none of the question's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
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
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="shift-cost-") as home:
        os.environ["SHIFT_HOME"] = home
        command = [sys.executable, "-m", "shiftql", "playground", str(options.playground), "--size", "small"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        try:
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
        before, started = _busy_seconds(), time.perf_counter()
        (answer,) = asking.run(question)
        seconds = time.perf_counter() - started
        if answer.kind == "error":
            raise SystemExit(f"{question}: {answer.error}")
        row = {
            "question": question,
            "before any": cold,
            "after": learned,
            "seconds": seconds,
            "corrected": seconds * (1 - _elsewhere(before, _busy_seconds(), seconds)),
            "evaluated": answer.evaluated if hasattr(answer, "evaluated") else 0,
        }
        print(json.dumps(row), flush=True)
        print(
            f"  {cold:6.1f} {learned:6.1f} {row['seconds']:6.1f} {row['corrected']:6.1f}  {question}", file=sys.stderr
        )


def _estimate(asking: Any, question: str, *, unlearned: bool = False) -> float:
    """The seconds that EXPLAIN says, without what was learned if that is asked for."""
    with patch("storage.learned_costs.LearnedCosts.of", lambda *_: {}) if unlearned else nullcontext():
        (answer,) = asking.run(f"EXPLAIN {question}")
    return answer.plan["total"]["estimated_seconds"]


def _busy_seconds() -> tuple[float, float]:
    """Seconds that the cores of this process were busy since the machine started, and what it and its like took."""
    from storage.settings import current_settings

    cores = psutil.cpu_times(percpu=True)
    busy = sum(cores[core].user + cores[core].nice + cores[core].system for core in os.sched_getaffinity(0))
    state = current_settings().home / "server.json"
    server = [psutil.Process(json.loads(state.read_text())["pid"])] if state.exists() else []
    this = psutil.Process()
    own = 0.0
    for process in (this, *this.children(recursive=True), *server):
        spent = process.cpu_times()
        own += spent.user + spent.system
    return busy, own


def _elsewhere(before: tuple[float, float], after: tuple[float, float], seconds: float) -> float:
    """The share of the cores that went to others."""
    others = (after[0] - before[0]) - (after[1] - before[1])
    return min(0.95, max(0.0, others / (seconds * len(os.sched_getaffinity(0)))))


def _figures(rows: list[dict[str, Any]]) -> Figures:
    figures = Figures(LIMITS)
    evaluated = 0
    warm = []
    for row in rows:
        if evaluated >= WARM_EVALUATIONS:
            warm.append(row)
        evaluated += row["evaluated"]
    for name, chosen, estimated in (("before any", rows, "before any"), ("after 20 evaluations", warm, "after")):
        for actual, worded in (("seconds", name), ("corrected", f"{name}, corrected")):
            factors = sorted(_factor(row[actual], row[estimated]) for row in chosen)
            missed = sum(factor > FACTORS[name] for factor in factors) / len(factors)
            detail = (
                f"of {len(factors)} beyond {FACTORS[name]:g}x; 9 of 10 within {factors[int(0.9 * len(factors))]:.2f}x"
            )
            figures.add(f"{worded}: missed", missed, "", detail)
    return figures


def _factor(actual: float, estimated: float) -> float:
    return math.exp(abs(math.log(max(actual, 1e-3) / max(estimated, 1e-3))))


def _show(rows: list[dict[str, Any]]) -> None:
    print("before any   after  actual  corrected  question")
    for row in rows:
        figures = (row["before any"], row["after"], row["seconds"], row["corrected"])
        print("{:10.1f} {:7.1f} {:7.1f} {:10.1f}".format(*figures), row["question"], sep="  ")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--session"]:
        session(int(sys.argv[2]))
    else:
        main()
