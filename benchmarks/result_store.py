"""The numbers of the result store: looking up and recording with a million evaluations stored, a known query, a purge.

    python benchmarks/result_store.py [--json] [--evaluations 1000000] [DIRECTORY]

DIRECTORY keeps the stores between runs; without one they are made in a temporary directory. SHIFT_DATABASE_URL names a
PostgreSQL database to measure instead of SQLite; it has to be empty.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from figures import Figures

from shiftql.answers import RankingAnswer

if TYPE_CHECKING:
    from shiftql.engine import Session
    from storage.database import Database

EVALUATIONS = 1_000_000
FEWER = 100_000
LOOKED_UP = 1000
RECORDED = 300
REPETITIONS = 20
MODELS = 12
ROWS = 600
QUERY = "SELECT name FROM image_models ORDER BY Linear TRAINED ON letters-train TESTED ON letters-test"
LIMITS = {
    "statements to look up 1,000 fingerprints": 1,
    f"known query, {FEWER:,} evaluations stored": 0.05,
    f"known query, {EVALUATIONS:,} evaluations stored": 0.2,
    "recording an evaluation, index and MLflow": 0.03,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", nargs="?", type=Path)
    arguments.add_argument("--evaluations", type=int, default=EVALUATIONS)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = (options.directory or Path(temporary)).absolute()
        os.environ |= {"SHIFT_HOME": str(directory / "home"), "MLFLOW_DISABLE_TELEMETRY": "true"}
        figures = measure(directory, options.evaluations)
    if options.json:
        print(json.dumps({"figures": figures.to_json()}))
    else:
        figures.show()


def measure(directory: Path, evaluations: int) -> Figures:
    from shiftql.engine import Session
    from storage.database import Database
    from storage.purging import purge
    from storage.settings import current_settings

    figures = Figures(LIMITS)
    database = Database(current_settings())
    make_pool(directory, database)
    record_answer(database)
    session = Session()
    for stored in sorted({min(FEWER, evaluations), evaluations}):
        fill(database, stored)
        asked = [seconds_to_answer(session) for _ in range(REPETITIONS)]
        figures.add(
            f"known query, {stored:,} evaluations stored",
            statistics.median(asked),
            detail=f"{MODELS} models, the slowest of {REPETITIONS}: {max(asked) * 1000:.0f} ms",
        )
    looked_up, statements = look_up(database, evaluations)
    figures.add(f"known() of {LOOKED_UP:,} of {evaluations:,}", looked_up)
    figures.add(f"statements to look up {LOOKED_UP:,} fingerprints", statements, "")
    claimed, exported = record(database)
    figures.add("claim and record", claimed, detail=f"mean of {RECORDED}")
    figures.add("export to MLflow", exported, detail="one run each")
    figures.add("recording an evaluation, index and MLflow", claimed + exported)
    figures.add("counting what a purge would delete", seconds_of(lambda: purge("results", dry_run=True)))
    figures.add("purging an evaluation", seconds_of(lambda: purge("results", model="recorded")) / RECORDED)
    return figures


def seconds_of(run: Any) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def seconds_to_answer(session: Session) -> float:
    """Seconds of all there is to a known query, as the prompt asks it."""
    started = time.perf_counter()
    (answer,) = session.run(QUERY)
    seconds = time.perf_counter() - started
    assert isinstance(answer, RankingAnswer), answer
    assert (answer.evaluated, answer.reused) == (0, MODELS)
    return seconds


def make_pool(directory: Path, database: Database) -> None:
    """Register models and two splits with files of their own, so that a query looks at them as it always does."""
    from flows.registration import register_dataset
    from storage.catalog import Catalog
    from storage.fingerprints import signature_of_files

    catalog = Catalog(database)
    rng = np.random.default_rng(0)
    for number in range(MODELS):
        path = directory / "models" / f"m{number}"
        path.mkdir(parents=True, exist_ok=True)
        files = [path / "config.json", path / "model.safetensors"]
        for file in files:
            file.write_text("{}")
        columns = {"source": "huggingface", "path": str(path), "fingerprint": f"model-{number}", "modality": "image"}
        columns |= {"architecture": "ResNetModel", "signature": signature_of_files(files)}
        catalog.save_model(f"m{number}", columns | {"num_params": 84_512})
    for split in ("train", "test"):
        file = directory / f"{split}.npz"
        if not file.exists():
            images = rng.integers(0, 256, (ROWS, 8, 8, 3), np.uint8)
            np.savez(file, images=images, labels=np.array(list("0123456789"))[np.arange(ROWS) % 10])
        register_dataset(catalog, f"letters-{split}", str(file))


def record_answer(database: Database) -> None:
    """Record every evaluation that the query asks for, as if it had been computed."""
    from shiftql.binder import bind
    from shiftql.preparation import prepare
    from shiftql.script import read_script
    from storage.results import ResultStore

    question, declared = read_script(QUERY)
    results = ResultStore(database)
    for evaluation in prepare(bind(question, database, QUERY, declared), database).new_evaluations:
        claim = results.claim(evaluation)
        assert claim is not None
        results.record(claim, measured())


def measured() -> Any:
    from storage.evaluations import Measurement

    correct = np.arange(ROWS) % 3 > 0
    return Measurement(
        status="completed",
        cost_seconds=1.5,
        metric="accuracy",
        value=float(correct.mean()),
        n_test=ROWS,
        per_row_correct=np.packbits(correct).tobytes(),
        layer="last",
        metrics={"accuracy": float(correct.mean()), "macro_f1": 0.5, "balanced_accuracy": 0.5},
    )


def fill(database: Database, count: int) -> None:
    """Store generated evaluations, a thousand models on a hundred datasets by ten methods, until there are `count`."""
    from sqlalchemy import func, insert
    from sqlmodel import select

    from storage.results import EvaluationRecord

    with database.session() as session:
        there = session.exec(select(func.count()).select_from(EvaluationRecord)).one()
    correct = np.packbits(np.arange(ROWS) % 3 > 0).tobytes()
    for start in range(there, count, 20_000):
        rows = [
            {
                "fingerprint": fingerprint_of_number(number),
                "status": "completed",
                "token": 1,
                "owner": f"{number:032x}",
                "heartbeat": 1.7e9,
                "model_fingerprint": f"generated-model-{number % 1000}",
                "model_name": f"generated-{number % 1000}",
                "train_fingerprint": f"{number // 1000 % 100:032x}",
                "train_name": f"task-{number // 1000 % 100}-train",
                "test_fingerprint": f"{100 + number // 1000 % 100:032x}",
                "test_name": f"task-{number // 1000 % 100}-test",
                "method": f"method-{number // 100_000}",
                "version": "1",
                "params": '{"learning_rate": 0.02, "num_epochs": 60}',
                "fidelity": "{}",
                "metric": "accuracy",
                "value": 0.5,
                "higher_is_better": True,
                "n_test": ROWS,
                "per_row_correct": correct,
                "layer": "last",
                "metrics": '{"accuracy": 0.5, "macro_f1": 0.5}',
                "curve": "[]",
                "cost_seconds": 1.5,
                "transient": False,
                "recorded": 1.7e9,
                "mlflow_run_id": f"{number:032x}",
            }
            for number in range(start, min(start + 20_000, count))
        ]
        with database.engine.begin() as connection:
            connection.execute(insert(EvaluationRecord), rows)


def fingerprint_of_number(number: int) -> str:
    return blake2b(str(number).encode(), digest_size=16).hexdigest()


def look_up(database: Database, stored: int) -> tuple[float, int]:
    """Median seconds to look up fingerprints that are all known, others each time, and the statements that takes."""
    from storage.results import ResultStore

    results = ResultStore(database)
    rng = np.random.default_rng(1)
    seconds = []
    for _ in range(REPETITIONS):
        fingerprints = [fingerprint_of_number(number) for number in rng.integers(MODELS + 2, stored, LOOKED_UP)]
        with counted(database) as statements:
            seconds.append(seconds_of(lambda wanted=fingerprints: results.known(wanted)))
    return statistics.median(seconds), len(statements)


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """Every statement that reaches the database meanwhile."""
    from sqlalchemy import event

    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield statements
    event.remove(database.engine, "before_cursor_execute", note)


def record(database: Database) -> tuple[float, float]:
    """Mean seconds to claim and record an evaluation, and to write it to MLflow, once its store is made."""
    from storage.evaluations import Evaluation, Subject
    from storage.results import ResultStore
    from storage.tracking import export_pending

    export_pending()
    results = ResultStore(database)

    def record_all() -> None:
        for number in range(RECORDED):
            evaluation = Evaluation(
                Subject("recorded", "recorded"),
                Subject(f"task-{number % 10}-train", "d"),
                Subject(f"task-{number % 10}-test", "t"),
                "linear",
                "1",
                {"learning_rate": 0.02, "num_epochs": 60, "run": time.time_ns()},
            )
            claim = results.claim(evaluation)
            assert claim is not None
            results.record(claim, measured())

    return seconds_of(record_all) / RECORDED, seconds_of(export_pending) / RECORDED


if __name__ == "__main__":
    main()
