from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import shiftql
from flows import metrics as metrics_module
from flows.metrics import Metrics, serve_metrics
from storage.database import Database
from storage.errors import StoreError
from storage.evaluations import Evaluation, Measurement, Subject
from storage.events import LOGGER, tell, telling_of
from storage.results import ResultStore
from storage.settings import current_settings

QUERY = "SELECT name FROM image_models ORDER BY Linear TRAINED ON colours-train TESTED ON colours-test"
EVALUATION = Evaluation(Subject("bert", "m"), Subject("mine", "d"), None, "linear", "1")


@pytest.fixture
def counted() -> Iterator[Metrics]:
    """The metrics of a worker, for as long as the test lasts."""
    metrics = Metrics()
    LOGGER.addHandler(metrics)
    LOGGER.setLevel(logging.INFO)
    yield metrics
    LOGGER.removeHandler(metrics)
    LOGGER.setLevel(logging.NOTSET)


def _value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def test_what_was_computed_and_what_was_reused_is_counted_and_logged(here: None, home: Path, counted: Metrics) -> None:
    answer: Any = shiftql.query(QUERY)
    fingerprints = _evaluations(home)
    completed = _value(counted, "shift_evaluations_total", method="linear", status="completed")
    # Two models and a baseline.
    assert completed == 3
    assert _value(counted, "shift_evaluation_seconds_count", method="linear") == completed
    assert _value(counted, "shift_evaluations_reused_total") == 0
    assert _value(counted, "shift_rows_embedded_total") == answer.work["embedded_rows"] > 0
    assert _value(counted, "shift_runs_total", flow="search", status="completed") == 1

    more: Any = shiftql.query(QUERY.replace("Linear", "acc") + " CLASSIFIED BY [Linear, 'Cosine NN']")
    assert _value(counted, "shift_evaluations_total", method="linear", status="completed") == completed
    assert _value(counted, "shift_evaluations_reused_total") == more.reused > 0
    assert fingerprints < _evaluations(home)


def _evaluations(home: Path) -> set[str]:
    """Which evaluations are logged as completed, every one under the run that completed it."""
    told = [json.loads(line) for line in (home / "logs" / "shiftql.jsonl").read_text().splitlines()]
    runs = {each["query"] for each in told if each["event"] == "started"}
    of_evaluations = [each for each in told if "evaluation" in each]
    assert {each["query"] for each in of_evaluations} == runs
    assert {"claimed", "completed"} <= {each["event"] for each in of_evaluations}
    return {each["evaluation"] for each in of_evaluations if each["event"] == "completed"}


def test_a_claim_that_is_taken_over_is_counted_and_so_is_who_comes_too_late(home: Path, counted: Metrics) -> None:
    database = Database(current_settings())
    first = ResultStore(database).claim(EVALUATION)
    second = ResultStore(database, claim_expires_seconds=-1.0).claim(EVALUATION)
    assert first is not None
    assert second is not None
    assert _value(counted, "shift_claims_again_total", method="linear") == 1
    measured = Measurement("completed", cost_seconds=0.5, metric="accuracy", value=1.0)
    assert not ResultStore(database).record(first, measured)
    assert ResultStore(database).record(second, measured)
    assert _value(counted, "shift_claims_overtaken_total") == 1
    assert _value(counted, "shift_evaluations_total", method="linear", status="completed") == 1
    assert _value(counted, "shift_evaluation_seconds_sum", method="linear") == 0.5


def test_a_failure_is_counted_as_such_and_its_cost_is_not(home: Path, counted: Metrics) -> None:
    results = ResultStore(Database(current_settings()))
    claim = results.claim(EVALUATION)
    assert claim is not None
    results.record(claim, Measurement("failed", cost_seconds=0.0, reason="broken"))
    assert _value(counted, "shift_evaluations_total", method="linear", status="failed") == 1
    assert _value(counted, "shift_evaluation_seconds_count", method="linear") == 0


def test_waiting_is_counted_by_evaluations_and_queueing_by_runs(counted: Metrics) -> None:
    with telling_of(flow="search"):
        tell("waiting", model="bert", evaluations=3)
        tell("started", queue_seconds=2.0)
        tell("started")
    assert _value(counted, "shift_claims_waited_total") == 3
    assert _value(counted, "shift_queue_wait_seconds_count", flow="search") == 1
    assert _value(counted, "shift_queue_wait_seconds_sum", flow="search") == 2.0


def test_devices_are_looked_at_when_somebody_asks(counted: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "_gpus", lambda: [(1, 50.0, 2.0)])
    assert 0 <= _value(counted, "shift_device_utilisation_ratio", device="cpu") <= 1
    assert _value(counted, "shift_device_utilisation_ratio", device="gpu1") == 0.5
    assert _value(counted, "shift_device_memory_bytes", device="gpu1") == 2 * 2**20


def test_busy_cores_are_seen_by_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([(10.0, 100.0), (13.0, 104.0), (14.0, 108.0)])
    monkeypatch.setattr(metrics_module, "_core_seconds", lambda: next(seconds))
    metrics = Metrics()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as another:
        assert one.submit(_value, metrics, "shift_device_utilisation_ratio", device="cpu").result() == 0.75
        assert another.submit(_value, metrics, "shift_device_utilisation_ratio", device="cpu").result() == 0.25


def test_metrics_are_served_on_this_machine_alone_and_only_where_a_port_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SHIFT_METRICS_PORT", raising=False)
    assert serve_metrics("cpu", "one") is None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SHIFT_METRICS_PORT", str(probe.getsockname()[1]))
    before = LOGGER.handlers[:]
    address = serve_metrics("cpu", "one")
    try:
        assert address is not None
        assert address.startswith("http://127.0.0.1:")
        with urlopen(address) as answer:
            assert b'shift_worker_up{pool="cpu",worker="one"} 1.0' in answer.read()
        with pytest.raises(StoreError, match="cannot be served") as caught:
            serve_metrics("cpu", "two")
        assert "one for each worker" in (caught.value.fix or "")
    finally:
        LOGGER.handlers[:] = before
        LOGGER.setLevel(logging.NOTSET)


@pytest.mark.parametrize("port", ["many", "70000"])
def test_a_port_that_is_none_is_refused(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFT_METRICS_PORT", port)
    with pytest.raises(StoreError, match=port):
        serve_metrics("cpu", "one")
