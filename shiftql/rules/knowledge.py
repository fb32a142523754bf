"""What the stores already hold, as far as one plan is concerned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shiftql.cost import UNMEASURED, CostModel
from shiftql.plan import EmbeddingKey, Weights
from storage.bandwidth import DEFAULT_BYTES_PER_SECOND


@dataclass(frozen=True)
class Knowledge:
    """`known` are fingerprints of evaluations with a result; `missing_rows` counts, for each embedding, the rows
    without stored features (all of them where nothing is said). `missing_weights` are the models that are not on
    this machine, and `bytes_per_second` is how fast they come. `costs` predicts what work takes."""

    known: frozenset[str] = frozenset()
    missing_rows: Mapping[EmbeddingKey, int] = field(default_factory=dict)
    missing_weights: tuple[Weights, ...] = ()
    bytes_per_second: float = DEFAULT_BYTES_PER_SECOND
    costs: CostModel = UNMEASURED
