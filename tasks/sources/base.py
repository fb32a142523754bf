"""The contract every model source fulfils: from files to features, probabilities and fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from storage.catalog import ModelRecord

# Rows as a reader yields them: sentences, or images as (height, width, 3) uint8 arrays.
Rows: TypeAlias = Sequence[str] | Sequence[np.ndarray]


class Model(Protocol):
    """An opened model, on a device, ready for batches of rows."""

    def embed(self, rows: Rows) -> dict[str, np.ndarray]:
        """Features of each row by layer: `{"last": (len(rows), dimensions) float32}`.

        Raises EvaluationError when the rows do not fit the model or a feature is not finite.
        """
        ...

    def close(self) -> None:
        """Give back memory and processes."""
        ...


class ModelSource(Protocol):
    """How the models of one origin are described, fingerprinted and opened."""

    name: str

    def accepts(self, path: Path) -> bool:
        """Whether the directory looks like a model of this source."""
        ...

    def describe(self, path: Path) -> dict[str, Any]:
        """Catalog columns readable without loading weights. Raises EvaluationError when unreadable."""
        ...

    def content_files(self, path: Path) -> list[Path]:
        """The files whose contents make the model what it is, sorted; the rest (cards, logs) is left out."""
        ...

    def open(self, model: ModelRecord) -> Model:
        """Load the model onto the best device there is. Raises EvaluationError with a reason to act on."""
        ...
