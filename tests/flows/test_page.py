"""What people see of an answer on the page of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.page import _as_markdown
from shiftql.answers import RankingAnswer
from storage.results import EvaluationRecord

RUN = "0123abcd"


def record(model: str, value: float | None, **columns: Any) -> EvaluationRecord:
    names = {"fingerprint": model, "owner": "", "model_fingerprint": "", "model_name": model, "method": "linear"}
    data = {"train_fingerprint": "", "train_name": "a", "version": "1", "params": "{}", "fidelity": "{}"}
    measured = {"metric": "accuracy", "value": value, "higher_is_better": True, "cost_seconds": 1.0}
    status = "failed" if value is None else "completed"
    return EvaluationRecord(**names, **data, **measured, status=status, token=1, heartbeat=0.0, **columns)


def answer(*models: str) -> RankingAnswer:
    score = {"metric": "accuracy", "higher_is_better": True, "low": 0.1, "high": 0.9, "n_test": 5, "layer": None}
    rows = [{"rank": n, "model": model, "score": 0.5, "tied": False, **score} for n, model in enumerate(models, 1)]
    return RankingAnswer(statement="", seconds=1.0, rankings={"Linear": tuple(rows)})


@pytest.mark.parametrize("uri", ["http://mlflow:5000", "http://me:hidden@mlflow:5000/"])
def test_models_are_links_to_their_runs(home: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    shown = _as_markdown(answer("vit", "bert"), [record("vit", 0.5, mlflow_run_id=RUN)])
    assert f"| [vit](http://mlflow:5000/#/runs/{RUN}) |" in shown
    assert "| bert |" in shown
    monkeypatch.setenv("SHIFT_MLFLOW_URL", "https://team/mlflow/")
    assert f"(https://team/mlflow/#/runs/{RUN})" in _as_markdown(answer("vit"), [record("vit", 0.5, mlflow_run_id=RUN)])


def test_without_a_server_runs_are_named(home: Path) -> None:
    assert f"| vit | `{RUN}` |" in _as_markdown(answer("vit"), [record("vit", 0.5, mlflow_run_id=RUN)])


def test_what_it_cost_is_drawn_where_something_was_paid(home: Path) -> None:
    assert "data:image/png;base64," in _as_markdown(answer("vit"), [record("vit", 0.5), record("bert", None)])
    assert "data:image" not in _as_markdown(answer("vit"), [record("vit", 0.5)])
    assert "data:image" not in _as_markdown(answer("vit"), [])
