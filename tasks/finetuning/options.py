"""How a training is run, whatever framework runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# As transformers' Trainer clips gradients.
LARGEST_GRADIENT = 1.0
# A loss so many times what it is at first, or of one who knows nothing, and one more, is not coming back.
EXPLOSION = 100.0


@dataclass(frozen=True)
class Options:
    """How to train: `batch_size` rows a step, however many of them fit the memory at once.

    The learning rate rises to `lr` for the share `warmup` of all steps, and falls to 0 by the last of `epochs`.
    """

    epochs: int
    lr: float
    batch_size: int
    seed: int
    warmup: float

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Options:
        """The options among the arguments of FineTune."""
        return cls(params["epochs"], params["lr"], params["batch_size"], params["seed"], params["warmup"])
