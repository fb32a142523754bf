"""Dataset manifests: the row hashes and labels of a split, so that its files are read only to embed new rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from uuid import uuid4
from zipfile import BadZipFile

import numpy as np

from storage.errors import StoreError
from storage.fingerprints import fingerprint_of_rows


@dataclass(frozen=True)
class Manifest:
    """`row_hashes` is (rows, 16) uint8; `labels` index `classes`, the class names, by the task:

    | task | labels |
    |---|---|
    | classification, pair_classification | (rows,) int64 |
    | token_classification | (words,) int64, all rows' words in turn; `lengths`, (rows,) int64, are words per row |
    | multilabel_classification | (rows, classes) bool |
    | regression | (rows,) float64, with no classes |
    """

    row_hashes: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    task: str = "classification"
    lengths: np.ndarray | None = None

    @property
    def fingerprint(self) -> str:
        return fingerprint_of_rows(self.row_hashes, self.labels, self.classes)

    @property
    def targets(self) -> np.ndarray:
        """What is to be predicted of every row, comparable between splits: names of classes, or numbers."""
        return np.asarray(self.classes)[self.labels]

    @property
    def feature_hashes(self) -> np.ndarray:
        """Under what features are stored, (rows or words, 16) uint8: a vector each row, or each word of every row."""
        return self.row_hashes

    def take(self, rows: np.ndarray) -> Manifest:
        """These rows in this order, with all classes."""
        return Manifest(self.row_hashes[rows], self.labels[rows], self.classes, self.task)


def ordered_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels, sorted: by value when all are numbers, else as text.

    >>> ordered_classes(["10", "9", "9"])
    ('9', '10')
    """
    distinct = sorted(set(labels))
    try:
        return tuple(sorted(distinct, key=float))
    except ValueError:
        return tuple(distinct)


def save_manifest(root: Path, manifest: Manifest) -> None:
    """Store a manifest under its fingerprint. Raises StoreError when the disk refuses."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{manifest.fingerprint}.npz"
    temporary = root / f".{uuid4().hex}.tmp"
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(
                file,
                row_hashes=manifest.row_hashes,
                labels=manifest.labels,
                classes=np.asarray(manifest.classes),
            )
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"the dataset's manifest cannot be written: {error.strerror or error}",
            subject=str(path),
            fix="free some disk space, or make the directory writable",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


# What a fingerprint stands for never changes, and a question looks at the same few manifests again and again.
@lru_cache(maxsize=8)
def load_manifest(root: Path, fingerprint: str) -> Manifest:
    """The manifest of a dataset fingerprint. Raises StoreError when it is gone or torn."""
    path = root / f"{fingerprint}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            classes = tuple(str(name) for name in arrays["classes"])
            return Manifest(arrays["row_hashes"], arrays["labels"], classes)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise StoreError(
            f"the manifest of a dataset cannot be read: {error}",
            subject=str(path),
            fix="add the dataset again with 'shiftql datasets add'",
        ) from error
