"""The cost model: what an evaluation is expected to take before anything ran.

Figures are for the CPU cores of a small machine; they order work and size it up, they do not promise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from storage.catalog import ModelRecord
from storage.workload import DEFAULT_PARAMETERS, TASK_ROWS, operations_per_row, positions, task_draws

# Seconds to open any model, and bytes of weights read in a second.
_OPEN_SECONDS = 0.08
_READ_BYTES_PER_SECOND = 400e6
# Multiplications and additions a second in a forward pass, and what a row costs besides (decoding, copying).
_OPERATIONS_PER_SECOND = 60e9
_ROW_SECONDS = 2e-4
# A training step reads forward, backward and once more to update.
_TRAINING_FACTOR = 3.5
_FIT_SECONDS_PER_ROW = {"linear": 5e-5, "euclidean_nn": 2e-6, "cosine_nn": 2e-6}
_BYTES_PER_FEATURE = 4
_BYTES_PER_PARAMETER = 4
_DEFAULT_DIMENSIONS = 768
_DEFAULT_LAYERS = 12
# Rows of a batch that is embedded, and bytes of an activation: in a forward pass two layers' are held, each with what
# is wider inside, and in a backward pass about ten of each layer.
_EMBEDDED_ROWS = 64
_EMBEDDED_ACTIVATIONS = 12
_TRAINED_ACTIVATIONS = 10
_BYTES_PER_ACTIVATION = 4


@dataclass(frozen=True)
class Cost:
    """Expected seconds, bytes written to the stores, and bytes downloaded from hubs."""

    seconds: float = 0.0
    size_bytes: int = 0
    download_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.seconds + other.seconds,
            self.size_bytes + other.size_bytes,
            self.download_bytes + other.download_bytes,
        )

    def __mul__(self, times: float) -> Cost:
        return Cost(self.seconds * times, round(self.size_bytes * times), round(self.download_bytes * times))


@dataclass(frozen=True)
class CostModel:
    """What work is expected to take."""

    def opening(self, model: ModelRecord) -> float:
        """Seconds to open the model."""
        return _OPEN_SECONDS + (model.size_bytes or 0) / _READ_BYTES_PER_SECOND

    def download(self, model: ModelRecord) -> int | None:
        """Bytes of the model's weights: what is told, else four for each parameter; None where neither is."""
        return model.size_bytes or (None if model.num_params is None else _BYTES_PER_PARAMETER * model.num_params)

    def row(self, model: ModelRecord, views: int = 1) -> Cost:
        """The forward pass of one row, and views of its features in the store."""
        return Cost(self._row_seconds(model), views * (model.embedding_dim or _DEFAULT_DIMENSIONS) * _BYTES_PER_FEATURE)

    def scoring(self, method: str, rows: int) -> Cost:
        """Fitting a ranker on stored features and scoring it, over `rows` training and test rows."""
        return Cost(0.02 + rows * _FIT_SECONDS_PER_ROW.get(method, 0.0))

    def task_embedding(self, model: ModelRecord, rows: int) -> Cost:
        """Task2Vec: the rows' features, and what each changes of the probe's weights; see tasks.task2vec.

        As much as there can be: draws of one class for one row are one pass.
        """
        passes = min(rows, TASK_ROWS) * (1 + task_draws(rows) * _TRAINING_FACTOR)
        return Cost(self.opening(model) + passes * self._row_seconds(model))

    def finetuning(
        self,
        model: ModelRecord,
        train_rows: int,
        test_rows: int,
        epochs: int,
        params: Mapping[str, Any] = MappingProxyType({}),
    ) -> Cost:
        """Training for `epochs` epochs, validating after each, and one pass over the test rows."""
        passes = epochs * train_rows * _TRAINING_FACTOR + test_rows
        return Cost(self.opening(model) + passes * self._row_seconds(model))

    def memory(self, model: ModelRecord, params: Mapping[str, Any] | None = None) -> int:
        """Bytes that embedding with a model takes at most, or fine-tuning it with such arguments."""
        parameters = DEFAULT_PARAMETERS if model.num_params is None else model.num_params
        layer = positions(model) * (model.embedding_dim or _DEFAULT_DIMENSIONS) * _BYTES_PER_ACTIVATION
        weights = _BYTES_PER_PARAMETER * parameters
        if params is None:
            return round(weights + _EMBEDDED_ROWS * layer * _EMBEDDED_ACTIVATIONS)
        # Gradients and the two moments of the optimizer, and what the backward pass needs of the forward pass.
        rows = params.get("batch_size", _EMBEDDED_ROWS)
        layers = model.num_layers or _DEFAULT_LAYERS
        return round(4 * weights + rows * layer * layers * _TRAINED_ACTIVATIONS)

    def _row_seconds(self, model: ModelRecord) -> float:
        return _ROW_SECONDS + operations_per_row(model) / _OPERATIONS_PER_SECOND


# Predicts by its constants alone.
UNMEASURED = CostModel()


def worded_bytes(size: float) -> str:
    """A size as people read it.

    >>> worded_bytes(1_240_000_000)
    '1.2 GB'
    """
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
