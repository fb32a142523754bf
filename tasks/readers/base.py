"""The contract every dataset reader fulfils: a dataset as chunks of rows, never whole in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

# Sentences, or images as (height, width, 3) uint8 arrays.
Rows: TypeAlias = Sequence[str] | Sequence[np.ndarray]

ROW_HASH_BYTES = 16
CHUNK_ROWS = 256


@dataclass(frozen=True)
class Schema:
    """What is known before the first row: `modality` is image or text, `task` is classification."""

    modality: str
    task: str
    num_rows: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows, by column. `labels` index `Schema.classes`; `row_hashes` identify features only."""

    rows: Rows
    labels: np.ndarray  # (n,) int64
    row_hashes: np.ndarray  # (n, ROW_HASH_BYTES) uint8


class DatasetReader(Protocol):
    """Reads one dataset split from disk. Errors are StoreErrors that name file, row and column."""

    name: str

    def schema(self) -> Schema: ...

    def files(self) -> list[str]:
        """Every file the content depends on, sorted: the dataset is unchanged while they are."""
        ...

    def chunks(self, size: int = CHUNK_ROWS) -> Iterator[Chunk]:
        """All rows in order, in chunks of at most `size`."""
        ...
