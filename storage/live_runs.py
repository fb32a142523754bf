"""What a training reaches epoch by epoch, for its MLflow run: while it goes on, and when it has been recorded.

Trainings note it beside their checkpoints (storage.checkpoints). The note is this machine's, for people to look at:
what was measured is the index's row, and only that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from storage.checkpoints import CheckpointStore, training_key
from storage.evaluations import Evaluation, Subject
from storage.results import EvaluationRecord
from storage.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# The one method that trains epoch by epoch.
METHOD = "finetune"
# MLflow takes as many at once.
_METRICS_AT_ONCE = 1000


@dataclass(frozen=True)
class Epochs:
    """What is noted of a training: its metric after each epoch, figures of each, and when each ended (since 1970)."""

    metric: str
    curve: tuple[float, ...]
    figures: tuple[Mapping[str, float], ...]
    ended: tuple[float, ...]

    def metrics(self, after: int = 0) -> list[Metric]:
        """The points of the curves of all epochs but the first `after`, whose step is the number of the epoch."""
        from mlflow.entities import Metric

        return [
            Metric(name, value, round(ended * 1000), epoch)
            for epoch, value, figures, ended in islice(
                zip(range(1, len(self.curve) + 1), self.curve, self.figures, self.ended, strict=True), after, None
            )
            for name, value in {self.metric: value, **figures}.items()
        ]


def noted_epochs(settings: Settings, row: EvaluationRecord) -> Epochs | None:
    """What was noted here of the training that a row is of; no more epochs than the row has, once it is recorded."""
    if row.method != METHOD:
        return None
    noted = CheckpointStore(settings).noted(training_of(row))
    if noted is None:
        return None
    last = None if row.status == "claimed" else len(json.loads(row.curve))
    curve, figures, ended = (tuple(noted[name][:last]) for name in ("curve", "figures", "ended"))
    return Epochs(noted["metric"], curve, figures, ended)


def training_of(row: EvaluationRecord) -> str:
    """The key of the training that a row is of."""
    model, train = Subject(row.model_name, row.model_fingerprint), Subject(row.train_name, row.train_fingerprint)
    return training_key(Evaluation(model, train, None, row.method, row.version, json.loads(row.params)))


def write_metrics(client: MlflowClient, run_id: str, metrics: list[Metric], **others: Any) -> None:
    """Write metrics, however many, to a run, and with the first of them whatever else its `log_batch` takes."""
    for part in _parts(metrics):
        client.log_batch(run_id, metrics=part, **others)
        others = {}


def _parts(metrics: list[Metric]) -> Iterator[list[Metric]]:
    for start in range(0, max(len(metrics), 1), _METRICS_AT_ONCE):
        yield metrics[start : start + _METRICS_AT_ONCE]
