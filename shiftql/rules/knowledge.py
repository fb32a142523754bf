"""What the stores already hold, as far as one plan is concerned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Knowledge:
    """`known` are fingerprints of evaluations with a result; `missing_rows` counts, by fingerprints of
    model and dataset, the rows without stored features (all of them where nothing is said)."""

    known: frozenset[str] = frozenset()
    missing_rows: Mapping[tuple[str, str], int] = field(default_factory=dict)
