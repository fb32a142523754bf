from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from storage.errors import StoreError
from storage.evaluations import Evaluation, Subject
from storage.results import EvaluationRecord
from storage.run_tags import FINGERPRINT_TAG, row_of, tags_of

EVALUATION = Evaluation(
    Subject("bert", "m"), Subject("train", "d"), Subject("test", "t"), "linear", "1", {"lr": 0.1, "k": [1, 2]}
)


def row(evaluation: Evaluation = EVALUATION, **columns: Any) -> EvaluationRecord:
    test = evaluation.test
    return EvaluationRecord(
        **{
            "fingerprint": evaluation.fingerprint,
            "status": "completed",
            "token": 2,
            "owner": "",
            "heartbeat": 1000.25,
            "model_name": evaluation.model.name,
            "model_fingerprint": evaluation.model.fingerprint,
            "train_name": evaluation.train.name,
            "train_fingerprint": evaluation.train.fingerprint,
            "test_name": test and test.name,
            "test_fingerprint": test and test.fingerprint,
            "method": evaluation.method,
            "version": evaluation.version,
            "params": json.dumps(dict(evaluation.params)),
            "fidelity": "{}",
            "metric": "accuracy",
            "value": 0.1 + 0.2,
            "higher_is_better": True,
            "n_test": 4,
            "per_row_correct": b"\xd0",
            "replicates": np.array([0.5, 1.0], "<f4").tobytes(),
            "layer": "last",
            "vector": np.array([0.25, 1.0], "<f4").tobytes(),
            "metrics": '{"accuracy": 0.3}',
            "curve": "[0.25, 0.5]",
            "cost_seconds": 1 / 3,
            "transient": False,
            "recorded": 1000.25,
            "mlflow_run_id": "run",
            **columns,
        }
    )


@pytest.mark.parametrize(
    "written",
    [
        row(),
        row(replace(EVALUATION, test=None), n_test=None, per_row_correct=None, replicates=None, vector=None),
        row(status="failed", value=None, metric=None, reason="its weights\nare truncated", transient=True),
        row(higher_is_better=False, value=float("inf")),
        row(per_row_correct=bytes(range(256)) * 100, vector=bytes(100_000)),
        row(reason="ö" * 20_000, layer=""),
    ],
    ids=["whole", "without test", "failed", "lower is better", "long arrays", "long text"],
)
def test_a_row_is_what_its_tags_say(written: EvaluationRecord) -> None:
    tags = tags_of(written)
    assert all(len(value) <= 8000 for value in tags.values())
    assert row_of("run", tags).model_dump() == written.model_dump()


def test_a_value_of_every_float_comes_back() -> None:
    value = row_of("run", tags_of(row(value=float("nan")))).value
    assert value is not None
    assert np.isnan(value)


@pytest.mark.parametrize("tag", [FINGERPRINT_TAG, "shift.method", "shift.status", "shift.metrics", "shift.value"])
def test_tags_that_are_not_all_there_are_no_row(tag: str) -> None:
    tags = tags_of(row())
    del tags[tag]
    with pytest.raises(StoreError, match=r"missing|not those of one evaluation"):
        row_of("run", tags)


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("shift.model_fingerprint", "another"),
        ("shift.test_fingerprint", "another"),
        ("shift.params", '{"lr": 0.2}'),
        ("shift.params", '{"lr": '),
        ("shift.vector", "not hexadecimal"),
        ("shift.n_test", "many"),
    ],
)
def test_tags_that_were_altered_are_no_row(tag: str, value: str) -> None:
    with pytest.raises(StoreError, match=r"cannot be read|not those of one evaluation"):
        row_of("run", {**tags_of(row()), tag: value})
