"""Two machines with no disk in common: one PostgreSQL, one store on S3, one Prefect server."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.registration import register_dataset, register_model
from shiftql.answers import RankingAnswer
from shiftql.engine import query
from storage.catalog import Catalog
from storage.database import Database
from storage.settings import current_settings
from tests.conftest import Pool
from tests.postgres import Server as PostgreSQL
from tests.s3 import Server as S3

ROOT = Path(__file__).parents[2]
NATURE = "TRAINED ON 'nature-train' TESTED ON 'nature-test'"
MODELS, DATASETS = ("bert", "roberta"), ("nature-train", "nature-test")


@dataclass(frozen=True)
class Machine:
    """A home, and what its processes are told of the team."""

    home: Path
    team: Mapping[str, str]

    def begin(self, question: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("SHIFT_", "AWS_"))}
        return subprocess.Popen(
            [sys.executable, "-m", "shiftql", "--format", "json", "-c", question],
            cwd=ROOT,
            env={**environment, **self.team, "SHIFT_HOME": str(self.home), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: str) -> list[dict[str, Any]]:
        return answers_of(self.begin(question))


def answers_of(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    said, noted = process.communicate()
    assert process.returncode == 0, said + noted
    return [json.loads(line) for line in said.splitlines()]


@pytest.fixture
def team(
    tmp_path: Path, postgresql: PostgreSQL, s3_server: S3, s3_url: str, prefect_server: None, tracking_template: Path
) -> Iterator[dict[str, str]]:
    """What every machine is told: where catalog, store, record and server are."""
    from prefect.settings import PREFECT_API_URL

    shutil.copy(tracking_template, tmp_path / "mlflow.db")
    with postgresql.database() as url:
        yield {
            "SHIFT_DATABASE_URL": url,
            "SHIFT_STORE_URL": s3_url,
            "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
            "PREFECT_API_URL": str(PREFECT_API_URL.value()),
            **s3_server.environment,
        }


@pytest.fixture
def machines(
    home: Path, team: dict[str, str], pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Machine, Machine]:
    """The machine that registered everything and then lost all but the catalog, and another."""
    with monkeypatch.context() as patch:
        for name, value in {**team, "SHIFT_HOME": str(tmp_path / "one")}.items():
            patch.setenv(name, value)
        register(pool, tmp_path / "disk of one")
    (tmp_path / "disk of one").rename(tmp_path / "away")
    return Machine(tmp_path / "one", team), Machine(tmp_path / "other", team)


def register(pool: Pool, disk: Path) -> None:
    """Copy models and datasets to a disk and register them there."""
    catalog = Catalog(Database(current_settings()))
    disk.mkdir()
    for name in MODELS:
        register_model(catalog, name, str(shutil.copytree(pool.models[name], disk / name)))
    for name in DATASETS:
        register_dataset(catalog, name, str(shutil.copy(pool.datasets[name], disk / f"{name}.csv")))


def test_a_machine_answers_of_what_another_registered_and_nothing_is_done_twice(
    here: None, machines: tuple[Machine, Machine]
) -> None:
    one, other = machines
    question = f"SELECT * FROM text_models ORDER BY Linear {NATURE}"
    embedded = query(question)
    assert isinstance(embedded, RankingAnswer)
    (elsewhere,) = other.ask(question)
    assert (elsewhere["evaluated"], elsewhere["failed"]) == (embedded.evaluated, [])
    assert elsewhere["ranking"] == embedded.ranking
    # Of another ranker the features that the other machine made serve too.
    reused, nearest = one.ask(f"{question}; SELECT * FROM text_models ORDER BY EuclideanNN {NATURE}")
    assert (reused["evaluated"], reused["ranking"]) == (0, embedded.ranking)
    assert (nearest["work"]["embedded_rows"], nearest["failed"]) == (0, [])
    assert nearest["work"]["reused_rows"] > 0


def test_machines_that_are_asked_at_once_share_the_work(machines: tuple[Machine, Machine], pool: Pool) -> None:
    question = f"SELECT * FROM text_models ORDER BY acc CLASSIFIED BY [Linear, EuclideanNN] {NATURE}"
    one, other = (answers_of(process)[0] for process in [machine.begin(question) for machine in machines])
    assert one["failed"] == other["failed"] == []
    assert one["rankings"] == other["rankings"]
    # Every evaluation was computed by one of them, and every row embedded by one.
    assert one["evaluated"] + other["evaluated"] == one["evaluated"] + one["reused"]
    texts = {row["text"] for name in DATASETS for row in csv.DictReader(pool.datasets[name].open())}
    rows = sum(answer["work"]["embedded_rows"] for answer in (one, other))
    assert rows == len(texts) * len([*MODELS, "raw"])
