"""From REGISTER MODEL to the standing question that is asked again, and how often it is asked when many are registered.

    python benchmarks/standing.py PLAYGROUND [--burst 100]

It makes a home of its own under the temporary directory, starts its stack as `shiftql up` does, registers the
playground but for one model, makes a watch, registers the model that is left, and waits until the watch is answered;
then an altered copy of it, as workers are warm now. Then it registers many copies of a model, one after the other, five
a second, and counts what that started.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

_DATASET = "drawn-digits"
_WATCH = "digits"
_STATEMENT = (
    f"WATCH {_WATCH} AS SELECT name FROM image_models ORDER BY Linear "
    f"TRAINED ON '{_DATASET}-train' TESTED ON '{_DATASET}-test'"
)
_LAST = "resnet-letters"
_WAIT_SECONDS = 300.0
_POLL_SECONDS = 0.05
_APART_SECONDS = 0.2


@dataclass(frozen=True)
class Latency:
    """Seconds from the end of a REGISTER command to what it starts, and what of that was the evaluation itself."""

    created: float
    running: float
    answered: float
    evaluation: float

    @property
    def beyond(self) -> float:
        """What there is beside the evaluation."""
        return self.answered - self.evaluation


@dataclass(frozen=True)
class Burst:
    """What registering many models started: answers recorded, runs that asked, runs that others took over."""

    registered: int
    seconds: float
    answers: int
    runs: int
    covered: int
    answered: float


@contextmanager
def stack(home: Path) -> Iterator[str]:
    """What `shiftql up` starts for a home, but for MLflow; the URL of its Prefect API."""
    from deployments.stack import down, up
    from flows.server import server_at
    from storage.settings import current_settings

    os.environ["SHIFT_HOME"] = str(home)
    os.environ.pop("PREFECT_API_URL", None)
    settings = current_settings()
    try:
        for part in up(settings, workers=1, mlflow=False, port=None):
            print(f"  {part.name}: {part.state}", file=sys.stderr)
        server = server_at(settings)
        assert server is not None
        yield server.api_url
    finally:
        down(settings)


def measure_latency(api_url: str, name: str, path: Path) -> Latency:
    """Register one more model and wait until the watch is answered again."""
    from shiftql.engine import Session

    before = len(_history())
    Session().add_model(name, str(path))
    started = time.time()
    _until(lambda: len(_history()) > before)
    answered = time.time() - started
    (run,) = [each for each in _runs(api_url) if (each["parameters"].get("models") or []) == [name]]
    return Latency(
        created=_seconds(run["created"]) - started,
        running=_seconds(run["start_time"]) - started,
        answered=answered,
        evaluation=_cost_of(name),
    )


def measure_burst(api_url: str, playground: Path, number: int) -> Burst:
    """Register many copies of a model, a command each, and wait until the watch ranks them all."""
    from shiftql.engine import Session

    before, wanted = len(_history()), _history()[-1].record.ranked + number
    runs_before = len(_runs(api_url))
    path = str(_models(playground)[_LAST])
    started = time.time()
    for copy in range(number):
        Session().add_model(f"copy-{copy:03}", path)
        time.sleep(max(0.0, started + (copy + 1) * _APART_SECONDS - time.time()))
    seconds = time.time() - started
    _until(lambda: _history()[-1].record.ranked == wanted)
    answered = time.time() - started - seconds
    _until(lambda: all(run["state_type"] in {"COMPLETED", "FAILED", "CRASHED"} for run in _runs(api_url)))
    runs = _runs(api_url)[:-runs_before]
    covered = sum(run["state_name"] == "Covered" for run in runs)
    return Burst(number, seconds, len(_history()) - before, len(runs) - covered, covered, answered)


def make_home(home: Path, playground: Path) -> None:
    """Register the playground but for one model, and make the watch."""
    from shiftql.engine import Session, query

    session = Session()
    session.make_playground(playground, "small", 0)
    session.catalog.remove_model(_LAST)
    answer = query(_STATEMENT)
    print(f"  {answer.to_json()['text'].splitlines()[0]}", file=sys.stderr)


def _models(playground: Path) -> dict[str, Path]:
    from tasks.playground.build import build

    manifest = build(playground, "small", 0, lambda *_: None)
    return {model.name: model.path for model in manifest.models}


def _altered(model: Path, directory: Path) -> Path:
    """A copy of a model with somewhat other weights."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(model, directory)
    weights = load_file(directory / "model.safetensors")
    altered = {name: (each * 1.01).astype(each.dtype) if each.ndim else each for name, each in weights.items()}
    save_file(altered, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def _history() -> list[Any]:
    from storage.database import Database
    from storage.settings import current_settings
    from storage.watches import WatchStore

    return WatchStore(Database(current_settings())).history(_WATCH)


def _cost_of(model: str) -> float:
    """The seconds that evaluations of a model took."""
    from sqlmodel import select

    from storage.database import Database
    from storage.results import EvaluationRecord
    from storage.settings import current_settings

    with Database(current_settings()).session() as session:
        found = session.exec(select(EvaluationRecord).where(EvaluationRecord.model_name == model))
        return sum(record.cost_seconds or 0.0 for record in found)


def _runs(api_url: str) -> list[Mapping[str, Any]]:
    """The runs of `reevaluate` that registrations started, latest first."""
    asked = {"flows": {"name": {"any_": ["reevaluate"]}}, "sort": "EXPECTED_START_TIME_DESC"}
    found = _post(api_url, "/flow_runs/filter", asked)
    return [run for run in found if run["parameters"].get("reason") == "registered"]


def _post(api_url: str, path: str, body: Mapping[str, Any]) -> Any:
    return httpx.post(f"{api_url}{path}", json=body, timeout=30.0, trust_env=False).raise_for_status().json()


def _until(is_so: Callable[[], Any]) -> None:
    give_up = time.monotonic() + _WAIT_SECONDS
    while not is_so():
        if time.monotonic() > give_up:
            raise TimeoutError(f"nothing happened for {_WAIT_SECONDS:g} s: read the logs in $SHIFT_HOME/logs")
        time.sleep(_POLL_SECONDS)


def _seconds(written: str) -> float:
    return datetime.fromisoformat(written).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("playground", type=Path)
    parser.add_argument("--burst", type=int, default=100, help="models registered one after the other; 0 for none")
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="standing-"))
    try:
        with stack(home) as api_url:
            make_home(home, asked.playground)
            first = _models(asked.playground)[_LAST]
            # The first evaluation of a worker waits for torch to be loaded.
            for name, path in ((_LAST, first), ("another", _altered(first, home / "another"))):
                latency = measure_latency(api_url, name, path)
                print(json.dumps({"model": name, **asdict(latency), "beyond": latency.beyond}))
            if asked.burst:
                print(json.dumps({"burst": asdict(measure_burst(api_url, asked.playground, asked.burst))}))
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
