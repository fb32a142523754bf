"""The contract every dataset reader fulfils: a dataset as chunks of rows, never whole in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np


class Pair(NamedTuple):
    """Two texts that are judged together."""

    first: str
    second: str


# A sentence, two of them, the words of one, an image as (height, width, 3) uint8, or a (columns,) float32 vector.
Row: TypeAlias = str | Pair | list[str] | np.ndarray
Rows: TypeAlias = Sequence[Row]

ROW_HASH_BYTES = 16
CHUNK_ROWS = 256


@dataclass(frozen=True)
class Schema:
    """What is known before the first row.

    `modality` is image, text or tabular. `task` is classification, pair_classification, token_classification,
    multilabel_classification or regression; `classes` is empty for the last. Rows that turn out to be unreadable
    are among the `num_rows`.
    """

    modality: str
    task: str
    num_rows: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows, by column; `row_hashes` identify features only.

    `labels` are as in storage.manifests; those of token classification are of all the rows' words in turn, and
    `lengths` says how many words each row has.
    """

    rows: Rows
    labels: np.ndarray
    row_hashes: np.ndarray  # (n, ROW_HASH_BYTES) uint8
    lengths: np.ndarray | None = None  # (n,) int64


@dataclass(frozen=True)
class Skipped:
    """How many rows could not be read, and where and why the first of them."""

    num_rows: int = 0
    first: str = ""


class DatasetReader(Protocol):
    """Reads one dataset split. Errors are StoreErrors that name file, row and column."""

    name: str
    skipped: Skipped  # by the last pass over `chunks`

    def schema(self) -> Schema: ...

    def files(self) -> list[str]:
        """Every file the content depends on, sorted: the dataset is unchanged while they are."""
        ...

    def chunks(self, size: int = CHUNK_ROWS) -> Iterator[Chunk]:
        """All readable rows in order, in chunks of at most `size`; more unreadable ones than allowed are an error."""
        ...
