"""What the stores already hold, as far as one plan is concerned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shiftql.cost import UNMEASURED, CostModel
from shiftql.plan import EmbeddingKey, Weights
from storage.bandwidth import DEFAULT_BYTES_PER_SECOND
from storage.evaluations import Measurement

# The best there can be, where it is reached exactly or not at all.
_BEST = {
    "accuracy": 1.0,
    "balanced_accuracy": 1.0,
    "macro_f1": 1.0,
    "micro_f1": 1.0,
    "r2": 1.0,
    "rmse": 0.0,
    "mae": 0.0,
}


@dataclass(frozen=True)
class Knowledge:
    """`known` are fingerprints of evaluations with a result, `perfect` those that none can do better than, and `spent`
    the seconds that they took.

    `missing_rows` counts, for each embedding, the rows without stored features (all of them where nothing is said).
    `missing_weights` are the models that are not on this machine, and `bytes_per_second` is how fast they come.
    `costs` predicts what work takes.
    """

    known: frozenset[str] = frozenset()
    perfect: frozenset[str] = frozenset()
    spent: Mapping[str, float] = field(default_factory=dict)
    missing_rows: Mapping[EmbeddingKey, int] = field(default_factory=dict)
    missing_weights: tuple[Weights, ...] = ()
    bytes_per_second: float = DEFAULT_BYTES_PER_SECOND
    costs: CostModel = UNMEASURED


def is_perfect(measurement: Measurement) -> bool:
    """Whether no other can do better by the same metric."""
    return measurement.value is not None and measurement.value == _BEST.get(measurement.metric or "")
