"""The contract every model source fulfils: from files to features, probabilities and fine-tuning."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from storage.catalog import ModelRecord
from storage.views import View
from tasks.readers.base import Rows


class Model(Protocol):
    """An opened model, on a device. `preparation` tells how it prepares rows: alike for models where it is equal."""

    preparation: str

    def prepare(self, rows: Rows) -> list[Any]:
        """What the network takes of each row, made on the CPU: pixels of its size, numbers of tokens.

        Raises EvaluationError when the rows do not fit the model.
        """
        ...

    def embed(self, prepared: Sequence[Any], views: Collection[View]) -> dict[View, np.ndarray]:
        """Each view of prepared rows, (rows, dimensions) float32; all come from one forward pass.

        Rows that are words give a vector for each word, all rows' words in turn: (words, dimensions).
        Raises EvaluationError when the model has no such view, or a feature is not finite.
        """
        ...

    def close(self) -> None:
        """Give back memory and processes."""
        ...


class ModelSource(Protocol):
    """How the models of one origin are described, fingerprinted and opened."""

    name: str

    def accepts(self, path: Path) -> bool:
        """Whether the directory or file looks like a model of this source."""
        ...

    def require_safe(self, path: Path, trusted: bool) -> None:
        """Look through the files before a library opens them: what could run code, or eat memory or disk.

        Code is let through where the model is trusted. Raises EvaluationError with the reason.
        """
        ...

    def describe(self, path: Path) -> dict[str, Any]:
        """Catalog columns readable without loading weights. Raises EvaluationError when unreadable."""
        ...

    def content_files(self, path: Path) -> list[Path]:
        """The files whose contents make the model what it is, sorted; the rest (cards, logs) is left out."""
        ...

    def open(self, model: ModelRecord) -> Model:
        """Load the model, if it is safe, onto the best device there is.

        Raises EvaluationError with a reason to act on.
        """
        ...
