"""`shiftql benchmark`: what it asks of the session, what it prints, and its exit statuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import shiftql.engine
from shiftql.answers import MatrixAnswer, RowsAnswer
from shiftql.cli import main

BUILT = MatrixAnswer(
    statement="",
    seconds=0.0,
    columns=("model", "digits", "topics"),
    rows=({"model": "bert", "digits": None, "topics": 0.5}, {"model": "vit", "digits": 0.25, "topics": None}),
    failed=({"model": "resnet", "dataset": "digits", "reason": "no memory"},),
    method="FineTune(epochs=20)",
    metrics={"digits": "accuracy", "topics": "accuracy"},
    refused=({"model": "tf", "reason": "FineTune is not available for torch models"},),
    evaluated=1,
    reused=1,
    spent_seconds=3.25,
    left=1,
    left_seconds=130.0,
)
CLUSTERS = RowsAnswer(
    statement="",
    seconds=0.0,
    columns=("representative", "average", "models", "members"),
    rows=({"representative": "vit", "average": 0.25, "models": 2, "members": "vit, bert"},),
)
NOTHING = replace(BUILT, rows=(), evaluated=0, reused=0)
PLANNED = replace(
    BUILT,
    evaluated=0,
    expected={("vit", "topics"): 130.0},
    upcoming=({"model": "vit", "dataset": "topics", "predicted_seconds": 130.0},),
)


class FakeSession:
    """Answers as it is told to, and notes what it is asked."""

    def __init__(self) -> None:
        self.answer = BUILT
        self.asked: list[tuple[Any, ...]] = []

    def benchmark(self, *arguments: Any) -> MatrixAnswer:
        self.asked.append(("show", *arguments))
        return replace(self.answer, evaluated=0, reused=2)

    def benchmark_clusters(self, *arguments: Any) -> RowsAnswer:
        self.asked.append(("clusters", *arguments))
        return CLUSTERS

    def build_benchmark(self, *arguments: Any, budget: float | None) -> MatrixAnswer:
        self.asked.append(("build", *arguments, budget))
        return self.answer

    def plan_benchmark(self, *arguments: Any, budget: float | None) -> MatrixAnswer:
        self.asked.append(("plan", *arguments, budget))
        return PLANNED


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    made = FakeSession()
    monkeypatch.setattr(shiftql.engine, "Session", lambda: made)
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["benchmark", *arguments])


def test_everything_is_fine_tuned_on_everything_unless_said_otherwise(session: FakeSession) -> None:
    assert run("build").exit_code == 0
    assert run("build", "--models", "a,b*", "--datasets", "d", "--by", "Linear", "--budget", "1h30m").exit_code == 0
    assert run("show", "--models", "a").exit_code == 0
    assert session.asked == [
        ("build", "*", "*", "FineTune", None),
        ("build", "a,b*", "d", "Linear", 5400.0),
        ("show", "a", "*", "FineTune"),
    ]


def test_a_build_prints_the_matrix_what_failed_was_refused_and_is_left(session: FakeSession) -> None:
    assert run("build").stdout.splitlines() == [
        "accuracy by FineTune(epochs=20)",
        "model  digits  topics",
        "─────────────────────",
        "bert            0.500",
        "vit     0.250",
        "failed",
        "- resnet on digits: no memory",
        "refused",
        "- tf: FineTune is not available for torch models",
        "evaluated 1, reused 1, 3.2 s of evaluations; 1 cell left: ~2 min",
    ]


def test_what_is_known_is_shown(session: FakeSession) -> None:
    assert run("show").stdout.splitlines()[-1] == "2 cells known; 1 cell left: ~2 min"


def test_clusters_are_shown_with_their_representatives(session: FakeSession) -> None:
    lines = run("show", "--clusters", "--by", "Linear").stdout.splitlines()
    assert session.asked == [("clusters", "*", "*", "Linear")]
    assert lines[0].split() == ["representative", "average", "models", "members"]
    assert lines[2].split() == ["vit", "0.25", "2", "vit,", "bert"]


def test_a_plan_prices_unknown_cells_and_says_where_it_would_begin(session: FakeSession) -> None:
    lines = run("build", "--explain", "--budget", "5m").stdout.splitlines()
    assert "vit     0.250  ~2 min" in lines
    assert lines[-2:] == [
        "1 cell known, 1 cell left: ~2 min",
        "to be measured: all of them, beginning with vit on topics",
    ]
    assert session.asked == [("plan", "*", "*", "FineTune", 300.0)]


def test_programs_get_raw_values(session: FakeSession) -> None:
    answer = json.loads(run("build", "--format", "json").stdout)
    assert answer["kind"] == "rows"
    assert answer["rows"][1] == {"model": "vit", "digits": 0.25, "topics": None}
    assert answer["left"] == {"cells": 1, "predicted_seconds": 130.0}
    assert answer["partial"] is True
    assert "next" not in answer
    assert "next" in json.loads(run("build", "--explain", "--format", "json").stdout)
    written = run("build", "--format", "csv")
    assert written.stdout.splitlines() == ["model,digits,topics", "bert,,0.5", "vit,0.25,"]
    assert "failed: resnet on digits: no memory" in written.stderr
    assert "| bert |  | 0.500 |" in run("build", "--format", "markdown").stdout


def test_the_status_says_whether_anything_is_known(session: FakeSession) -> None:
    session.answer = replace(BUILT, interrupted=True)
    assert run("build").exit_code == 0
    session.answer = NOTHING
    assert run("build").exit_code == 1
    session.answer = replace(NOTHING, interrupted=True)
    assert run("build").exit_code == 130


def test_a_budget_is_a_duration(session: FakeSession) -> None:
    assert run("build", "--budget", "soon").exit_code == 2
    assert session.asked == []
