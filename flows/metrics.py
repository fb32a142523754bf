"""What a worker did, in Prometheus's format: counted from the events of storage.events, served over HTTP."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily

from storage.errors import StoreError
from storage.events import FIELDS, LOGGER

_LOOPBACK = "127.0.0.1"
_EVALUATION_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
_QUEUE_SECONDS = (0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
_GPUS = "/dev/nvidia[0-9]*"
_ANSWERS_WITHIN_SECONDS = 5.0
_TICK_SECONDS = 0.01


def serve_metrics(pool: str, worker: str) -> str | None:
    """Count events from now on and serve the counts at SHIFT_METRICS_PORT; the address, or None where that is not set.

    Only this machine reaches it unless SHIFT_METRICS_HOST says otherwise. Raises StoreError when the port is no number
    or taken.
    """
    written = os.environ.get("SHIFT_METRICS_PORT")
    if not written:
        return None
    host = os.environ.get("SHIFT_METRICS_HOST") or _LOOPBACK
    metrics = Metrics()
    metrics.up.labels(pool, worker).set(1)
    try:
        start_http_server(int(written), host, metrics.registry)
    except (OSError, ValueError, OverflowError) as error:
        raise StoreError(
            f"metrics cannot be served at {host}:{written}: {error}",
            subject="SHIFT_METRICS_PORT",
            fix="set SHIFT_METRICS_PORT to a free port of this machine, one for each worker",
        ) from error
    LOGGER.addHandler(metrics)
    LOGGER.setLevel(logging.INFO)
    return f"http://{host}:{written}/metrics"


class Metrics(logging.Handler):
    """Counts events. What is labelled is few: methods and states, never models or queries."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": self.registry}
        self.up = Gauge("shift_worker_up", "1 while this worker runs", ["pool", "worker"], **made)
        self._runs = Counter("shift_runs", "Flow runs that ended", ["flow", "status"], **made)
        self._queue = Histogram(
            "shift_queue_wait_seconds",
            "From when a run was due to when it began",
            ["flow"],
            buckets=_QUEUE_SECONDS,
            **made,
        )
        self._evaluations = Counter("shift_evaluations", "Evaluations recorded here", ["method", "status"], **made)
        self._seconds = Histogram(
            "shift_evaluation_seconds", "What an evaluation cost", ["method"], buckets=_EVALUATION_SECONDS, **made
        )
        self._reused = Counter("shift_evaluations_reused", "Evaluations that answers needed and were known", **made)
        self._waited = Counter("shift_claims_waited", "Evaluations that somebody else was computing", **made)
        self._again = Counter("shift_claims_again", "Evaluations taken over or tried again", ["method"], **made)
        self._overtaken = Counter("shift_claims_overtaken", "Evaluations that another recorded first", **made)
        self._rows = Counter("shift_rows_embedded", "Rows that models embedded", **made)
        self.registry.register(_Devices())
        self._by_event: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            "started": self._count_start,
            "ended": lambda told: self._runs.labels(told["flow"], told["status"]).inc(),
            "claimed": self._count_claim,
            "waiting": lambda told: self._waited.inc(told["evaluations"]),
            "completed": self._count_evaluation,
            "failed": self._count_evaluation,
            "overtaken": lambda _: self._overtaken.inc(),
            "embedded": lambda told: self._rows.inc(told["rows"]),
            "answered": lambda told: self._reused.inc(told["reused"]),
        }

    def emit(self, record: logging.LogRecord) -> None:
        count = self._by_event.get(record.getMessage())
        if count is not None:
            count(vars(record)[FIELDS])

    def _count_start(self, told: Mapping[str, Any]) -> None:
        if "queue_seconds" in told:
            self._queue.labels(told["flow"]).observe(max(0.0, told["queue_seconds"]))

    def _count_claim(self, told: Mapping[str, Any]) -> None:
        if told["attempt"] > 1:
            self._again.labels(told["method"]).inc()

    def _count_evaluation(self, told: Mapping[str, Any]) -> None:
        self._evaluations.labels(told["method"], told["status"]).inc()
        if told["status"] == "completed":
            self._seconds.labels(told["method"]).observe(told["seconds"])


class _Devices:
    """How busy this machine's cores and GPUs are, looked at when somebody asks: the cores since somebody did before."""

    def __init__(self) -> None:
        self._busy, self._all = _core_seconds()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        busy = GaugeMetricFamily(
            "shift_device_utilisation_ratio", "Share of the time that a device is busy", labels=["device"]
        )
        memory = GaugeMetricFamily("shift_device_memory_bytes", "Memory of a device that is in use", labels=["device"])
        # psutil.cpu_percent counts from the last time the same thread asked, and each asker has one of its own.
        before, (self._busy, self._all) = (self._busy, self._all), _core_seconds()
        busy.add_metric(["cpu"], (self._busy - before[0]) / max(self._all - before[1], _TICK_SECONDS))
        memory.add_metric(["cpu"], psutil.virtual_memory().used)
        for index, utilisation, mebibytes in _gpus():
            busy.add_metric([f"gpu{index}"], utilisation / 100)
            memory.add_metric([f"gpu{index}"], mebibytes * 2**20)
        yield from (busy, memory)


def _core_seconds() -> tuple[float, float]:
    """The seconds that all cores together were busy since the machine was started, and those that there were."""
    times = psutil.cpu_times()
    # What guests take is in `user` already.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _gpus() -> list[tuple[int, float, float]]:
    """The index, the utilisation in per cent and the MiB in use of every GPU that this process may use."""
    if not any(Path("/").glob(_GPUS[1:])):
        return []
    command = ["nvidia-smi", "--query-gpu=index,utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        command.append(f"--id={visible}")
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWERS_WITHIN_SECONDS, check=True)
        rows = [line.split(",") for line in told.stdout.splitlines()]
        return [(int(index), float(utilisation), float(memory)) for index, utilisation, memory in rows]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
