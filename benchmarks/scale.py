"""How a pool of 10,000 models on 100 GPUs would fare: measured costs of each part, and what of it saturates first.

    python benchmarks/scale.py measure [--server-pid PID] [--mlflow-pid PID] [--database-pid PID]
    python benchmarks/scale.py [--models 10000] [--gpus 100] [--seconds 10] [--costs FILE]

`measure` prints what things cost here as JSON, in seconds: of the processor of Prefect's server (PREFECT_API_URL), of
MLflow's (MLFLOW_TRACKING_URI) and of the database (SHIFT_DATABASE_URL), whose processes are named; of this process's
for planning; of the stores by the clock. SHIFT_HOME and the database have to be empty, the deployments have to be
there. Without it, what was measured before (`benchmarks/scale.json`) is put together for any pool: how busy each part
would be while all GPUs compute, and for how many GPUs it would do. `docs/scaling.md` says what was found.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psutil

if TYPE_CHECKING:
    from storage.database import Database

MEASURED = Path(__file__).with_name("scale.json")
RUNS, TASKS, CALLS = 30, 100, 200
RECORDED, EXPORTED = 300, 40
MODELS = 10_000
WRITERS, WORKERS = 8, 100
_LOOK_SECONDS = 2.0
# Of a processor; what servers do at rest is less.
_QUIET = 0.04
_REST_SECONDS = 10.0
_LONGEST_DRAIN_SECONDS = 60.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", nargs="?", choices=["measure", "model"], default="model")
    for name in ("server", "mlflow", "database"):
        arguments.add_argument(f"--{name}-pid", type=int)
    arguments.add_argument("--models", type=int, default=MODELS)
    arguments.add_argument("--gpus", type=int, default=100)
    arguments.add_argument("--seconds", type=float, default=10.0, help="of a GPU, for one model")
    arguments.add_argument("--bytes", type=float, default=500e6, help="of a model's files")
    arguments.add_argument("--beat-seconds", type=float, default=5.0, help="PREFECT_WORKER_HEARTBEAT_SECONDS")
    arguments.add_argument("--api-servers", type=int, default=1, help="processes of Prefect's server")
    arguments.add_argument("--mlflow-workers", type=int, default=2, help="processes of MLflow's server")
    arguments.add_argument("--store-servers", type=int, default=1, help="each with the network of a machine")
    arguments.add_argument("--costs", type=Path, default=MEASURED)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    if options.what == "measure":
        pids = {name: getattr(options, f"{name}_pid") for name in ("server", "mlflow", "database")}
        # MLflow tells of every run on standard output.
        with contextlib.redirect_stdout(sys.stderr):
            costs = measure({name: pid for name, pid in pids.items() if pid})
        print(json.dumps(costs, indent=1))
        return
    costs = json.loads(options.costs.read_text())
    team = Team(
        syncs_each_second=1 / options.beat_seconds,
        prefect_processes=options.api_servers,
        mlflow_processes=options.mlflow_workers,
        store_servers=options.store_servers,
    )
    loads = loads_of(Pool(options.models, options.gpus, options.seconds, options.bytes), costs, team)
    if options.json:
        print(json.dumps([load.to_json(options.gpus) for load in loads], indent=1))
    else:
        show(loads, options)


@dataclass(frozen=True)
class Pool:
    """Models to be evaluated once each, on GPUs that take so many seconds for one; `size` in bytes."""

    models: int
    gpus: int
    seconds: float
    size: float


@dataclass(frozen=True)
class Team:
    """The settings that matter for how much a pool can bear, as they are by default."""

    # A worker tells that it is alive and looks after the others: see deployments.worker.
    syncs_each_second: float = 0.2
    # Its share of the models, and half of what another has left of its own: see flows.spread.
    runs_for_each: int = 2
    # A worker asks for work when it has none: as it is told of a run, and as one is over.
    polls_of_a_run: int = 2
    # How often the coordinator looks at most, and after how many times the seconds that it took: see flows.spread.
    least_pause: float = 0.2
    looks_after: float = 10.0
    artifact_updates_each_second: float = 2 / 3
    # The ranking so far is made anew after so many times the seconds that it took: see flows.board.
    refreshes_after: float = 10.0
    gpus_of_a_machine: int = 8
    # 10 Gbit/s of each machine, and as much of a store that is one server.
    network_bytes: float = 1.25e9
    store_servers: int = 1
    prefect_processes: int = 1
    mlflow_processes: int = 2
    database_cores: int = 4


@dataclass(frozen=True)
class Load:
    """How busy a part is: seconds of it that are asked for each second, of so many that it has."""

    part: str
    asked: float
    has: float
    setting: str

    @property
    def share(self) -> float:
        return self.asked / self.has

    def to_json(self, gpus: int) -> dict[str, Any]:
        return {"part": self.part, "share": self.share, "gpus": gpus / self.share, "setting": self.setting}


def runs_of(pool: Pool, team: Team) -> int:
    """Into how many runs a pool is divided."""
    return min(pool.models, team.runs_for_each * pool.gpus)


def loads_of(pool: Pool, costs: Mapping[str, float], team: Team) -> list[Load]:
    """How busy each part is while all GPUs compute, the busiest first."""
    rate = pool.gpus / pool.seconds
    runs = rate * runs_of(pool, team) / pool.models
    machines = -(-pool.gpus // team.gpus_of_a_machine)
    prefect = (
        runs * (costs["server_run"] + team.polls_of_a_run * costs["server_poll"])
        + pool.gpus * team.syncs_each_second * costs["server_sync"]
        + team.artifact_updates_each_second * costs["server_artifact"]
    )
    database = (
        runs * (costs["database_run"] + team.polls_of_a_run * costs["database_poll"])
        + pool.gpus * team.syncs_each_second * costs["database_sync"]
        + rate * (costs["database_record"] + costs["database_export"])
    )
    # It looks what is recorded, and plans anew to show the ranking so far.
    planning = costs["plan_of_10000"] * pool.models / MODELS
    looking = costs["outcomes_of_10000"] * pool.models / MODELS
    looking /= max(team.least_pause, team.looks_after * looking) + looking
    coordinating = looking + planning / (team.refreshes_after * planning + planning)
    loads = [
        Load(
            "Prefect's server",
            prefect,
            team.prefect_processes,
            "PREFECT_WORKER_HEARTBEAT_SECONDS=30",
        ),
        Load("PostgreSQL", database, team.database_cores, "a server each for Prefect, MLflow and SHiFT"),
        Load("MLflow's server", rate * costs["mlflow_export"], team.mlflow_processes, "mlflow server --workers"),
        Load("results in SQLite", rate * costs["record_sqlite"], 1, "SHIFT_DATABASE_URL on PostgreSQL"),
        Load("results in PostgreSQL", rate * costs[f"record_postgresql_by_{WRITERS}"], 1, "a faster disk for it"),
        Load("who hands out work", coordinating, 1, "several queries, each of fewer models"),
        Load("network of a machine", rate * pool.size / machines, team.network_bytes, "fewer GPUs a machine"),
        Load(
            "network of the store",
            rate * pool.size,
            team.network_bytes * team.store_servers,
            "S3, or a store of several servers",
        ),
    ]
    return sorted(loads, key=lambda load: -load.share)


def show(loads: list[Load], options: argparse.Namespace) -> None:
    rate = options.gpus / options.seconds
    print(f"{options.models:,} models, {options.gpus} GPUs, {options.seconds:g} s each: {rate:g} evaluations a second")
    print(f"{'part':32} {'busy':>8} {'GPUs it bears':>14}  setting that mends it")
    for load in loads:
        print(f"{load.part:32} {load.share:8.1%} {options.gpus / load.share:14,.0f}  {load.setting}")


def measure(pids: Mapping[str, int]) -> dict[str, float]:
    """Seconds that things cost here, by name; those of servers' processors as far as their processes are named."""
    costs: dict[str, float] = {}
    costs |= asyncio.run(_prefect(pids))
    costs |= _results(pids)
    costs |= _exports(pids)
    costs |= _plans()
    return {name: round(seconds, 6) for name, seconds in costs.items()}


class Meter:
    """The seconds of processor that servers take for something and for what it leaves behind, beyond those at rest."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._at_rest = dict.fromkeys(pids, 0.0)
        self._used: dict[str, float] = {}
        self._since = 0.0
        self.begin()
        if pids:
            time.sleep(_REST_SECONDS)
            self._at_rest = {name: used / _REST_SECONDS for name, used in self.taken(1).items()}

    def begin(self) -> None:
        """Measure from now on, once they have come to rest."""
        self._drain()
        self._used, self._since = self._now(), time.monotonic()

    def taken(self, number: int) -> dict[str, float]:
        """What each of so many took."""
        self._drain()
        passed, now = time.monotonic() - self._since, self._now()
        return {
            name: max(0.0, now[name] - self._used[name] - passed * self._at_rest[name]) / number for name in self._pids
        }

    def _drain(self) -> None:
        before, deadline = self._now(), time.monotonic() + _LONGEST_DRAIN_SECONDS
        while self._pids and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            now = self._now()
            if all(now[name] - before[name] < _QUIET * _LOOK_SECONDS for name in now):
                return
            before = now

    def _now(self) -> dict[str, float]:
        return {name: _cpu(psutil.Process(pid)) for name, pid in self._pids.items()}


def _cpu(process: psutil.Process) -> float:
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    # Those of PostgreSQL that have ended.
    ended = process.cpu_times()
    return total + ended.children_user + ended.children_system


async def _prefect(pids: Mapping[str, int]) -> dict[str, float]:
    from prefect import flow, get_client, task
    from prefect.artifacts import acreate_markdown_artifact
    from prefect.client.schemas.actions import ArtifactUpdate
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterId,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.states import Completed, Pending, Running

    meter = Meter({name: pid for name, pid in pids.items() if name in {"server", "database"}})
    costs: dict[str, float] = {}
    running = FlowRunFilterStateType(any_=[StateType.CANCELLING])
    under_way = FlowRunFilter(id=FlowRunFilterId(any_=[uuid4()]), state=FlowRunFilterState(type=running))

    def note(what: str, number: int) -> None:
        costs.update({f"{name}_{what}": seconds for name, seconds in meter.taken(number).items()})

    @task
    async def nothing() -> None:
        pass

    @flow
    async def tasks(number: int) -> None:
        for _ in range(number):
            await nothing()

    await tasks(1)
    async with get_client() as client:
        deployment = await client.read_deployment_by_name("search/search")
        meter.begin()
        for _ in range(RUNS):
            run = await client.create_flow_run_from_deployment(deployment.id, parameters={"statement": "SHOW MODELS"})
            for state in (Pending(), Running(), Completed()):
                await client.set_flow_run_state(run.id, state)
        note("run", RUNS)
        meter.begin()
        await tasks(TASKS)
        note("task", TASKS)
        meter.begin()
        for _ in range(CALLS):
            await client.get_scheduled_flow_runs_for_work_pool("cpu", work_queue_names=["evaluations"])
        note("poll", CALLS)
        for number in range(WORKERS):
            await client.send_worker_heartbeat("cpu", f"scale-{number}", 5.0)
        meter.begin()
        # As deployments.worker does every few seconds.
        for _ in range(CALLS):
            await client.send_worker_heartbeat("cpu", "scale-0", 5.0)
            await client.read_work_pool("cpu")
            await client.read_flow_runs(flow_run_filter=under_way)
            await client.read_workers_for_work_pool("cpu")
        note("sync", CALLS)
        artifact = await acreate_markdown_artifact("nothing", "scale")
        meter.begin()
        for _ in range(CALLS):
            await client.update_artifact(artifact, ArtifactUpdate(data="x" * 5000))
        note("artifact", CALLS)
    return costs


def _results(pids: Mapping[str, int]) -> dict[str, float]:
    """Claiming and recording: by the clock, one after the other and by several at once; the database's processor."""
    from concurrent.futures import ThreadPoolExecutor

    from storage.database import Database
    from storage.results import ResultStore
    from storage.settings import current_settings

    settings = current_settings()
    is_sqlite = settings.database_url.startswith("sqlite")
    name = "sqlite" if is_sqlite else "postgresql"
    database = Database(settings)
    meter = Meter({} if is_sqlite else {each: pid for each, pid in pids.items() if each == "database"})
    costs: dict[str, float] = {}

    def record(number: int) -> None:
        results = ResultStore(database)
        claim = results.claim(_evaluation(number))
        assert claim is not None
        results.record(claim, _measurement())

    meter.begin()
    costs[f"record_{name}"] = _seconds(lambda: [record(number) for number in range(RECORDED)]) / RECORDED
    costs |= {f"{each}_record": seconds for each, seconds in meter.taken(RECORDED).items()}
    with ThreadPoolExecutor(WRITERS) as threads:
        numbers = range(RECORDED, 2 * RECORDED)
        costs[f"record_{name}_by_{WRITERS}"] = _seconds(lambda: list(threads.map(record, numbers))) / RECORDED
    wanted = [_evaluation(number).fingerprint for number in range(MODELS)]
    results = ResultStore(database)
    costs["outcomes_of_10000"] = statistics.median(_processor(lambda: results.outcomes(wanted)) for _ in range(5))
    return costs


def _exports(pids: Mapping[str, int]) -> dict[str, float]:
    """Writing evaluations to MLflow, by the clock and of its server's processor."""
    from sqlalchemy import update

    from storage.database import Database
    from storage.results import EvaluationRecord
    from storage.settings import current_settings
    from storage.tracking import export_pending

    database = Database(current_settings())
    # What was recorded to measure that need not all be written.
    table: Any = EvaluationRecord
    keep = [_evaluation(number).fingerprint for number in range(EXPORTED + 1)]
    database.change(update(table).where(table.fingerprint.not_in(keep)).values(mlflow_run_id="left out"))
    database.change(update(table).where(table.fingerprint.in_(keep[1:])).values(mlflow_run_id="later"))
    export_pending()
    database.change(update(table).where(table.mlflow_run_id == "later").values(mlflow_run_id=None))
    meter = Meter({name: pid for name, pid in pids.items() if name in {"mlflow", "database"}})
    meter.begin()
    costs = {"export": _seconds(export_pending) / EXPORTED}
    return costs | {f"{each}_export": seconds for each, seconds in meter.taken(EXPORTED).items()}


def _plans() -> dict[str, float]:
    """Binding and planning a question over a catalog of 10,000 models of which nothing is known."""
    from storage.database import Database
    from storage.settings import current_settings

    database = Database(current_settings())
    query = "SELECT name FROM image_models ORDER BY Linear TRAINED ON scale-train TESTED ON scale-test"
    _fill_catalog(database)
    from shiftql.binder import bind
    from shiftql.preparation import prepare
    from shiftql.script import read_script

    question, declared = read_script(query)

    def plan() -> None:
        found = prepare(bind(question, database, query, declared), database)
        assert len(found.new_evaluations) >= MODELS

    return {"plan_of_10000": min(_processor(plan) for _ in range(3))}


def _fill_catalog(database: Database) -> None:
    import numpy as np

    from flows.registration import register_dataset
    from storage.catalog import Catalog, ModelRecord
    from storage.settings import current_settings

    home = current_settings().home
    columns = {"source": "huggingface", "modality": "image", "architecture": "ResNetModel", "num_params": 84_512}
    columns |= {"path": str(home / "none"), "signature": ""}
    with database.session() as session:
        session.add_all(
            ModelRecord(name=f"m{number}", fingerprint=f"model-{number}", **columns) for number in range(MODELS)
        )
        session.commit()
    for split in ("train", "test"):
        file = home / f"{split}.npz"
        pixels = np.random.default_rng(0).integers(0, 256, (600, 8, 8, 3), np.uint8)
        np.savez(file, images=pixels, labels=np.array(list("0123456789"))[np.arange(600) % 10])
        register_dataset(Catalog(database), f"scale-{split}", str(file))


def _evaluation(number: int) -> Any:
    from storage.evaluations import Evaluation, Subject

    return Evaluation(Subject(f"m{number}", f"model-{number}"), Subject("scale", "train"), None, "linear", "1")


def _measurement() -> Any:
    from storage.evaluations import Measurement

    return Measurement(
        "completed", 1.5, "accuracy", 0.5, n_test=600, per_row_correct=b"x" * 75, metrics={"accuracy": 0.5}
    )


def _processor(run: Callable[[], object]) -> float:
    """The seconds of this process's processor that something takes, whatever else the machine does."""
    started = time.process_time()
    run()
    return time.process_time() - started


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
