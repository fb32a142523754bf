"""Evaluations handed out to workers: what handing out costs, what more workers bring, and what killing them loses.

    python benchmarks/pools.py [--only stub,sleep,query,kill] [--playground DIRECTORY] [--kills 5] [--json]

`stub` hands 1,000 evaluations of 10 ms to 4 workers; `sleep` 120 of half a second to one worker and to two; no model is
opened. `query` asks the linear proxy of the full playground's Torch models with one worker on one core, and with two on
one each, after a question on another dataset that starts their frameworks: three targets with as many test rows as the
playground's, and three with as many as benchmarks/live.py tests on, of which the medians are compared. `kill` asks that
of the small playground again and again, kills a worker at random each time, and starts another; answers are held
against that of one process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from homes import Home, question

from tasks.playground.sizes import SIZES, TargetSpec
from tasks.playground.targets import write

PARTS = ("stub", "sleep", "query", "kill")
STUBS, STUB_SECONDS, STUB_WORKERS = 1000, 0.01, 4
SLEEPS, SLEEP_SECONDS = 120, 0.5
MOST_ORCHESTRATION = 0.06
LEAST_SLEEPING, LEAST_ASKING = 1.8, 1.4
WARMING, ASKED = "counting-shapes", "drawn-digits"
# The playground's own, and as many as benchmarks/live.py tests on.
TEST_ROWS, SEEDS = (400, 2000), range(1, 4)
# TensorFlow takes longer to start than all else together, and the worker that gets its models starts it.
_TORCH = "source = huggingface"
_STUB_VARIABLE = "SHIFT_STUB_SECONDS"
_PATIENCE_SECONDS = 600.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", default=",".join(PARTS))
    arguments.add_argument("--playground", type=Path, help="where it is kept (default: made anew)")
    arguments.add_argument("--kills", type=int, default=5)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        for part in options.only.split(","):
            say(f"{part} …")
            playground = (options.playground or Path(directory) / "playground").absolute()
            found[part] = _measure(part, Path(directory) / part, playground, options.kills)
            say(json.dumps(found[part]))
    print(json.dumps(found) if options.json else "\n".join(worded(found)))


def _measure(part: str, directory: Path, playground: Path, kills: int) -> dict[str, Any]:
    if part == "stub":
        with deployed(Home(directory)), working(directory, STUB_WORKERS, STUB_SECONDS):
            wall = spread(STUBS, "stub", STUB_SECONDS)
        ideal = STUBS * STUB_SECONDS / STUB_WORKERS
        return {"seconds": wall, "orchestration": (wall - ideal) / STUBS}
    if part == "sleep":
        walls = []
        with deployed(Home(directory)):
            for workers in (1, 2):
                with working(directory, workers, SLEEP_SECONDS):
                    walls.append(spread(SLEEPS, f"sleep-{workers}", SLEEP_SECONDS))
        return _compared(walls[:1], walls[1:])
    home = Home(directory)
    home.shiftql("playground", str(playground), "--size", "full" if part == "query" else "small")
    with deployed(home):
        return _killed(home, kills) if part == "kill" else _asked(home, directory.with_name("target"))


def _asked(home: Home, directory: Path) -> dict[str, Any]:
    asked = {rows: [_target(home, directory, rows, seed) for seed in SEEDS] for rows in TEST_ROWS}
    seconds: dict[tuple[int, int], list[float]] = {}
    for workers in (1, 2):
        home.shiftql("purge", "all", "--yes")
        with working(home.path, workers):
            trigger(question("Linear", WARMING, _TORCH))
            for rows, names in asked.items():
                seconds[rows, workers] = [trigger(question("Linear", name, _TORCH)) for name in names]
    return {f"{rows} test rows": _compared(seconds[rows, 1], seconds[rows, 2]) for rows in asked}


def _target(home: Home, directory: Path, test_rows: int, seed: int) -> str:
    """Write and register a target of the playground's kind that nothing is known of; its name."""
    name = f"{ASKED}-{test_rows}-{seed}"
    spec = next(each for each in SIZES["full"] if isinstance(each, TargetSpec) and each.name == ASKED)
    (directory / name).mkdir(parents=True)
    write(replace(spec, test_rows=test_rows), directory / name, seed)
    home.add_target(name, directory / name, spec.reader)
    return name


def _compared(one: Sequence[float], two: Sequence[float]) -> dict[str, Any]:
    medians = statistics.median(one), statistics.median(two)
    return {"one": medians[0], "two": medians[1], "times": medians[0] / medians[1], "each": [one, two]}


def _killed(home: Home, kills: int) -> dict[str, Any]:
    """Whether any answer differs from that of one process, and how many evaluations were made twice or not at all."""
    with no_server_named():
        alone = ranking(home)
    differing, repeated, lost, recorded = 0, 0, 0, 0
    seconds = []
    for number in range(kills):
        home.shiftql("purge", "all", "--yes")
        log = home.path / "logs" / "shiftql.jsonl"
        log.unlink(missing_ok=True)
        with working(home.path, 2) as processes:
            victim = random.Random(number).randrange(len(processes))
            run = start(question("Linear", ASKED))
            time.sleep(random.Random(number).uniform(3, 12))
            processes[victim].send_signal(signal.SIGKILL)
            say(f"  killed {'the one that plans' if victim == 0 else 'one that computes'}")
            with worker(home.path, "queries" if victim == 0 else "evaluations", f"new-{number}"):
                seconds.append(wait_for(run))
        with no_server_named():
            differing += ranking(home) != alone
        counts = computed_in(log)
        repeated += sum(count - 1 for count in counts.values())
        recorded += len(counts)
        lost += sum(1 for line in log.read_text().splitlines() if json.loads(line).get("event") == "failed")
    return {
        "kills": kills,
        "differing": differing,
        "repeated": repeated,
        "failed": lost,
        "computed": recorded,
        "seconds": seconds,
    }


def computed_in(log: Path) -> Counter[str]:
    """How often each evaluation was completed, by its fingerprint."""
    lines = (json.loads(line) for line in log.read_text().splitlines())
    return Counter(line["evaluation"] for line in lines if line.get("event") == "completed")


def ranking(home: Home) -> list[tuple[str, float]]:
    rows = home.query(question("Linear", ASKED))["ranking"]
    return [(row["model"], row["score"]) for row in rows]


# --- a stack ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def deployed(home: Home) -> Iterator[None]:
    """A Prefect server with everything deployed, which this process talks to."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from deployments.deploy import deploy
    from flows.server import ensure_server
    from storage.settings import current_settings

    os.environ["SHIFT_HOME"] = str(home.path)
    home.path.mkdir(parents=True, exist_ok=True)
    url = ensure_server(current_settings())[0].api_url
    os.environ["PREFECT_API_URL"] = url
    deploy(url, lambda _: None)
    try:
        with temporary_settings({PREFECT_API_URL: url}):
            yield
    finally:
        os.environ.pop("PREFECT_API_URL")
        home.stop_server()


@contextlib.contextmanager
def no_server_named() -> Iterator[None]:
    """Within it commands answer in their own process."""
    url = os.environ.pop("PREFECT_API_URL")
    try:
        yield
    finally:
        os.environ["PREFECT_API_URL"] = url


@contextlib.contextmanager
def working(home: Path, workers: int, stub: float | None = None) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One that plans, and so many that compute, each on one core; all that they do is to wait for `stub` seconds."""
    with contextlib.ExitStack() as stack:
        names = [("queries", "plans"), *(("evaluations", f"computes-{number}") for number in range(workers))]
        # The one that plans has all of them.
        all_cores = os.sched_getaffinity(0)
        in_turn = itertools.cycle({core} for core in sorted(all_cores))
        processes = [
            stack.enter_context(worker(home, queue, name, stub, all_cores if queue == "queries" else next(in_turn)))
            for queue, name in names
        ]
        _until_up(home, len(processes))
        yield processes


@contextlib.contextmanager
def worker(
    home: Path, queue: str, name: str, stub: float | None = None, cores: Collection[int] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SHIFT_HOME": str(home)}
    if stub is not None:
        environment[_STUB_VARIABLE] = str(stub)
    log = home / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, __file__, "worker", "--pool", "cpu", "--queue", queue, "--name", name],
            stdout=output,
            stderr=output,
            env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, cores or os.sched_getaffinity(0)),
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def _until_up(home: Path, number: int) -> None:
    """Wait until so many workers have said that they started."""
    give_up = time.monotonic() + _PATIENCE_SECONDS
    logs = home / "logs"
    while sum("started!" in log.read_text() for log in logs.glob("*.log") if log.stem.startswith(("plans", "comp"))) < (
        number
    ):
        if time.monotonic() > give_up:
            raise TimeoutError(f"workers do not start: read {logs}")
        time.sleep(0.2)


def start(statement: str) -> str:
    """Trigger a query; its run."""
    from prefect.deployments import run_deployment

    return str(run_deployment("search/search", parameters={"statement": statement}, timeout=0).id)


def wait_for(run: str) -> float:
    """The seconds that a run took, from its creation. Raises RuntimeError where it did not complete."""
    from prefect.client.orchestration import get_client

    give_up = time.monotonic() + _PATIENCE_SECONDS
    with get_client(sync_client=True) as client:
        while True:
            found = client.read_flow_run(run)  # type: ignore[arg-type]
            if found.state is not None and found.state.is_final():
                break
            if time.monotonic() > give_up:
                raise TimeoutError(f"run {run} does not end")
            # What is measured is the run's own time. Looking takes the server a hundredth of a second.
            time.sleep(1.0)
    if not found.state.is_completed() or found.created is None or found.end_time is None:
        raise RuntimeError(f"run {run} is {found.state.name}: {found.state.message}")
    return (found.end_time - found.created).total_seconds()


def trigger(statement: str) -> float:
    return wait_for(start(statement))


# --- stubs ------------------------------------------------------------------------------------------------------------


def spread(number: int, name: str, seconds: float) -> float:
    """The seconds that handing out so many stubs, expected to take so long each, and having them recorded takes.

    Raises RuntimeError where one is not completed.
    """
    from prefect import flow

    from flows.computing import Work
    from flows.needless import Needless
    from flows.spread import Spread
    from shiftql.assignments import Assignment
    from shiftql.cost import Cost
    from shiftql.plan import PlannedEvaluation
    from storage.database import Database
    from storage.evaluations import Evaluation, Subject
    from storage.results import ResultStore
    from storage.settings import current_settings

    def subject(of: str) -> Subject:
        return Subject(of, hashlib.blake2b(of.encode(), digest_size=16).hexdigest())

    train = subject(f"{name}-train")
    planned = tuple(
        PlannedEvaluation(
            Evaluation(subject(f"{name}-{each}"), train, None, "stub", "1"), Cost(seconds), source="huggingface"
        )
        for each in range(number)
    )

    @flow(name="spread")
    async def handing_out() -> float:
        started = time.perf_counter()
        await Spread(Assignment(planned, (), None, None), database, Work(), Needless(None)).run()
        return time.perf_counter() - started

    database = Database(current_settings())
    wall = asyncio.run(handing_out())
    outcomes = ResultStore(database).outcomes(each.evaluation.fingerprint for each in planned)
    if failed := {outcome.reason for outcome in outcomes.values() if outcome.status != "completed"}:
        raise RuntimeError(f"stubs failed: {failed}")
    return wall


def serve_stubs(seconds: float) -> None:
    """Let evaluations wait in place of being computed: claims, runs and records are as always."""
    from prefect import task

    from flows.computing import Computation
    from storage.database import Database
    from storage.evaluations import Measurement
    from storage.results import ResultStore
    from storage.settings import current_settings

    @task(name="stub")
    async def stub(claim: Any) -> str:
        await asyncio.sleep(seconds)
        measurement = Measurement("completed", seconds, "accuracy", 0.5)
        await asyncio.to_thread(ResultStore(Database(current_settings())).record, claim, measurement)
        return claim.evaluation.fingerprint

    async def evaluate(self: Computation, model: Any, evaluations: Any) -> list[Any]:
        async with self._scoring:
            for claim in await self._claim(evaluations):
                await self._recorded(stub, claim=claim)
        return []

    Computation._evaluate = evaluate  # type: ignore[method-assign]


def serve() -> None:
    if (written := os.environ.get(_STUB_VARIABLE)) is not None:
        serve_stubs(float(written))
    from deployments.worker import main

    main()


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def worded(found: dict[str, Any]) -> Iterator[str]:
    if stub := found.get("stub"):
        each = 1000 * stub["orchestration"]
        yield (
            f"{STUBS} evaluations of {1000 * STUB_SECONDS:g} ms over {STUB_WORKERS} workers: {stub['seconds']:.1f} s, "
            f"{each:.1f} ms each besides (at most {1000 * MOST_ORCHESTRATION:g}), or {STUB_WORKERS * each:.1f} ms of a "
            "worker's time"
        )
    compared = [("sleep", found["sleep"], LEAST_SLEEPING)] if "sleep" in found else []
    compared += [(name, times, LEAST_ASKING) for name, times in found.get("query", {}).items()]
    for name, times, least in compared:
        yield (
            f"{name}: {times['one']:.1f} s with one worker, {times['two']:.1f} s with two: {times['times']:.2f} "
            f"times faster (at least {least:g})"
        )
    if killed := found.get("kill"):
        yield (
            f"{killed['kills']} workers killed: {killed['differing']} answers differ, {killed['repeated']} of "
            f"{killed['computed']} completed evaluations were made again, {killed['failed']} failed"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        del sys.argv[1]
        serve()
    else:
        main()
