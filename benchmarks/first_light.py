"""The numbers of a first query: playground, start-up, orchestration, and whether the proxy picks well.

    python benchmarks/first_light.py [--json] [DIRECTORY]

DIRECTORY keeps the playground and its home between runs; without one everything is built in a temporary
directory, which is what the first figure needs. Commands are measured as whole processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figures

TARGETS = ("drawn-digits", "counting-shapes", "sentence-topics")
POOL = 12
REPETITIONS = 5
LIMITS = {
    "playground": 150.0,
    "start server": 20.0,
    "known query, process": 1.0,
    "known query, open session": 0.05,
    "--help": 0.4,
    "parse": 0.4,
    "query over 12 models / bare loop": 1.25,
    "fresh process beyond its work": 8.0,
    "fresh process beyond its work, with TensorFlow": 11.0,
}


@dataclass(frozen=True)
class Target:
    """How a pool does on one target: accuracies by model, and what finding out cost, in seconds."""

    name: str
    upstream: dict[str, float]
    linear: dict[str, float]
    finetuned: dict[str, float]
    linear_seconds: float
    finetune_seconds: float

    @property
    def spread(self) -> float:
        return max(self.finetuned.values()) - min(self.finetuned.values())

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "spread": self.spread,
            "regret_upstream": self.regret(self.upstream),
            "regret_linear": self.regret(self.linear),
        }

    def regret(self, scores: dict[str, float]) -> float:
        """What is lost, as a share of the best fine-tuned accuracy, by fine-tuning the model that scores best."""
        candidates = {name: score for name, score in scores.items() if name in self.finetuned}
        best = max(self.finetuned.values())
        return (best - self.finetuned[max(candidates, key=candidates.__getitem__)]) / best


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", nargs="?", type=Path)
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = (options.directory or Path(temporary)).absolute()
        os.environ["SHIFT_HOME"] = str(directory / "home")
        try:
            figures, targets = measure(directory / "playground")
        finally:
            shiftql("down")
    if options.json:
        print(
            json.dumps(
                {
                    "figures": figures.to_json(),
                    "targets": [t.to_json() for t in targets],
                }
            )
        )
    else:
        figures.show()
        show(targets)


def measure(playground: Path) -> tuple[Figures, list[Target]]:
    figures = Figures(LIMITS)
    figures.add("playground", seconds_of("playground", str(playground)))
    figures.add("playground, again", seconds_of("playground", str(playground)))
    figures.add("start server", start_server())
    figures.add("--help", median_of("--help"))
    figures.add("parse", median_of("parse", "-c", "SELECT name FROM models ORDER BY Linear TRAINED ON a TESTED ON b"))
    targets = [measure_target(name) for name in TARGETS]
    known = question("Linear", "drawn-digits")
    figures.add("known query, process", median_of("-c", known))
    figures.add("known query, open session", median_in_session(known))
    loop, query = orchestration(playground)
    ratios = [ours / bare for ours, bare in zip(query, loop, strict=True)]
    figures.add(
        f"query over {POOL} models / bare loop",
        statistics.median(ratios),
        "",
        f"{statistics.median(query):.2f} s / {statistics.median(loop):.2f} s; pairs {[round(r, 2) for r in ratios]}",
    )
    for name, where in (
        ("fresh process beyond its work", "source = huggingface"),
        ("fresh process beyond its work, with TensorFlow", "source IN (huggingface, tfhub)"),
    ):
        wall, work = fresh_process(playground, where)
        figures.add(name, wall - work, detail=f"{wall:.2f} s of which work {work:.2f} s")
    return figures, targets


def question(ranker: str, target: str, where: str = "") -> str:
    condition = f" WHERE {where}" if where else ""
    return f"SELECT name FROM models{condition} ORDER BY {ranker} TRAINED ON {target}-train TESTED ON {target}-test"


def measure_target(name: str) -> Target:
    """Rank the pool on a target by Linear and by fine-tuning all of it."""
    linear = ask(question("Linear", name))
    finetuned = ask(question("FineTune", name))
    upstream = ask("SELECT name, upstream_accuracy FROM models WHERE upstream_accuracy IS NOT NULL")
    return Target(
        name=name,
        upstream={row["name"]: row["upstream_accuracy"] for row in upstream["rows"]},
        linear=scores_of(linear),
        finetuned=scores_of(finetuned),
        linear_seconds=cost_of("linear", f"{name}-train"),
        finetune_seconds=cost_of("finetune", f"{name}-train"),
    )


def ask(text: str) -> dict[str, Any]:
    done = shiftql("--format", "json", "-c", text)
    if done.returncode:
        raise SystemExit(f"{text}\n{done.stderr}")
    return json.loads(done.stdout)


def scores_of(answer: dict[str, Any]) -> dict[str, float]:
    return {row["model"]: row["score"] for row in answer["ranking"] if not row.get("baseline")}


def cost_of(method: str, dataset: str) -> float:
    rows = ask(
        f"SELECT cost_seconds FROM benchmark_results WHERE method = '{method}' AND dataset_name = '{dataset}'"
        " AND model_id IS NOT NULL"
    )["rows"]
    return sum(row["cost_seconds"] for row in rows)


def shiftql(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(Path(sys.executable).with_name("shiftql")), *arguments], capture_output=True, text=True)


def seconds_of(*arguments: str) -> float:
    started = time.perf_counter()
    done = shiftql(*arguments)
    if done.returncode:
        raise SystemExit(f"shiftql {' '.join(arguments)} failed:\n{done.stderr}")
    return time.perf_counter() - started


def median_of(*arguments: str) -> float:
    seconds_of(*arguments)
    return statistics.median(seconds_of(*arguments) for _ in range(REPETITIONS))


def median_in_session(text: str) -> float:
    from shiftql.engine import Session

    session = Session()
    times = []
    for _ in range(REPETITIONS + 1):
        started = time.perf_counter()
        list(session.run(text))
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def start_server() -> float:
    from flows.server import ensure_server, stop_server
    from storage.settings import current_settings

    settings = current_settings()
    stop_server(settings)
    started = time.perf_counter()
    ensure_server(settings)
    return time.perf_counter() - started


def orchestration(playground: Path) -> tuple[list[float], list[float]]:
    """Seconds of the bare loop and of the query, over the same pool and the same new rows, in turn.

    Both have imported everything before: the loop runs in a process of its own, the query in an open session
    that has asked before.
    """
    from shiftql.engine import Session

    session = Session()
    pool = make_pool(session, playground)
    warm = fresh_rows(session, playground, 0)
    where = f"name IN ({', '.join(repr(name) for name in pool)})"
    list(session.run(question("Linear", warm, where)))
    loops, queries = [], []
    with bare_process(pool) as bare:
        bare(warm)
        for repetition in range(1, REPETITIONS + 1):
            target = fresh_rows(session, playground, repetition)
            loops.append(bare(target))
            started = time.perf_counter()
            (answer,) = session.run(question("Linear", target, where))
            queries.append(time.perf_counter() - started)
            if answer.to_json()["evaluated"] != len(pool):
                raise SystemExit(f"evaluated {answer.to_json()['evaluated']} of {len(pool)} models")
    return loops, queries


def make_pool(session: Any, playground: Path) -> list[str]:
    """The image models of the playground, and copies with slightly other weights, POOL in all."""
    models = [model for model in session.catalog.models() if model.modality == "image"]
    originals = [model for model in models if not model.name.startswith("variant-")]
    names = [model.name for model in originals]
    sources = [model for model in originals if model.source == "huggingface"]
    for number in range(POOL - len(originals)):
        names.append(add_copy(session, playground, sources[number % len(sources)], number))
    return names


def add_copy(session: Any, playground: Path, original: Any, number: int, factor: float = 1.01) -> str:
    """Register a copy of a model with slightly other weights; its name."""
    from safetensors.numpy import load_file, save_file

    copy = playground.parent / "variants" / f"variant-{number}-{original.name}"
    copy.mkdir(parents=True, exist_ok=True)
    for file in Path(original.path).iterdir():
        if file.suffix == ".safetensors":
            weights = {
                name: value * np.float32(factor) if value.dtype == np.float32 else value
                for name, value in load_file(file).items()
            }
            save_file(weights, copy / file.name, metadata={"format": "pt"})
        else:
            (copy / file.name).write_bytes(file.read_bytes())
    session.add_model(copy.name, str(copy))
    return copy.name


def fresh_rows(session: Any, playground: Path, number: int) -> str:
    """The drawn digits with a dot of another shade in a corner: the same task, no row seen before."""
    target = f"bench-{number}-{time.time_ns()}"
    for split in ("train", "test"):
        arrays = np.load(session.catalog.dataset(f"drawn-digits-{split}").path)
        images = arrays["images"].copy()
        images[:, 0, 0, :] = np.random.default_rng(time.time_ns()).integers(0, 256, (len(images), 3))
        path = playground.parent / "rows" / f"{target}-{split}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, images=images, labels=arrays["labels"])
        session.add_dataset(f"{target}-{split}", str(path))
    return target


@contextmanager
def bare_process(pool: list[str]) -> Iterator[Any]:
    """A process that runs the bare loop over the pool for a target and says how long it took."""
    process = subprocess.Popen(
        [sys.executable, __file__.replace("first_light.py", "bare_loop.py"), *pool],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def run(target: str) -> float:
        process.stdin.write(target + "\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    try:
        yield run
    finally:
        process.stdin.close()
        process.wait()


def fresh_process(playground: Path, where: str) -> tuple[float, float]:
    """Wall seconds of a new-work query as a process, and of its work as a bare loop."""
    from shiftql.engine import Session

    session = Session()
    pool = [
        row["name"] for row in ask(f"SELECT name FROM image_models WHERE {where} AND NOT name LIKE 'variant-%'")["rows"]
    ]
    walls, works = [], []
    with bare_process(pool) as bare:
        bare(fresh_rows(session, playground, 0))
        for _ in range(3):
            target = fresh_rows(session, playground, 1)
            works.append(bare(target))
            walls.append(seconds_of("-c", question("Linear", target, f"{where} AND NOT name LIKE 'variant-%'")))
    return statistics.median(walls), statistics.median(works)


def show(targets: list[Target]) -> None:
    for target in targets:
        print(f"\n{target.name}")
        print(f"  {'model':28}{'upstream':>9}{'linear':>9}{'fine-tuned':>12}")
        for name in sorted(target.linear, key=lambda model: -target.finetuned.get(model, 0)):
            cells = [scores.get(name) for scores in (target.upstream, target.linear, target.finetuned)]
            print(
                f"  {name:28}"
                + "".join(f"{'-' if c is None else f'{c:.3f}':>{w}}" for c, w in zip(cells, (9, 9, 12), strict=True))
            )
        print(f"  spread of fine-tuned accuracies {100 * target.spread:.1f} points (at least 10)")
        print(f"  regret of picking by upstream accuracy {100 * target.regret(target.upstream):.1f} %")
        share = target.linear_seconds / target.finetune_seconds
        print(
            f"  regret of picking by Linear {100 * target.regret(target.linear):.1f} % at {100 * share:.1f} % of the"
            f" time of fine-tuning all ({target.linear_seconds:.1f} s of {target.finetune_seconds:.1f} s)"
        )
    good = sum(t.regret(t.linear) <= 0.02 and t.linear_seconds <= t.finetune_seconds / 10 for t in targets)
    wrong = sum(t.regret(t.upstream) > 0 for t in targets)
    print(f"\nLinear is within 2 % at a tenth of the time on {good} of {len(targets)} targets (at least 2)")
    print(f"Upstream accuracy picks a wrong model on {wrong} of {len(targets)} targets (at least 1)")


if __name__ == "__main__":
    main()
