"""Dataset manifests: the row hashes and labels of a split, so that its files are read only to embed new rows."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from storage.errors import StoreError
from storage.fingerprints import fingerprint_of_rows
from storage.in_place import put_in_place
from storage.settings import current_settings
from storage.shared_files import SharedFiles

# The folder of manifests in the shared store.
SHARED = "manifests"
_WORD_BYTES = 4
# What a file that is torn or altered makes numpy and zipfile raise.
_UNREADABLE = (OSError, ValueError, LookupError, EOFError, BadZipFile, zlib.error, RuntimeError, SyntaxError)


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
    def num_rows(self) -> int:
        return len(self.row_hashes)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of_rows(self.row_hashes, self.labels, self.classes, self.task, self.lengths)

    @property
    def targets(self) -> np.ndarray:
        """What is to be predicted of every row, or of every word, comparable between splits.

        Names of classes, or numbers; of a multi-label dataset (rows, classes) bool, see `targets_among`.
        """
        if self.task in ("regression", "multilabel_classification"):
            return self.labels
        return np.asarray(self.classes)[self.labels]

    def targets_among(self, classes: Sequence[str]) -> np.ndarray:
        """Which of these classes a multi-label row has, also where this split has others: (rows, classes) bool."""
        targets = np.zeros((self.num_rows, len(classes)), dtype=bool)
        for column, name in enumerate(classes):
            if name in self.classes:
                targets[:, column] = self.labels[:, self.classes.index(name)]
        return targets

    @cached_property
    def feature_hashes(self) -> np.ndarray:
        """Under what features are stored, (rows or words, 16) uint8: a vector each row, or each word of every row."""
        if self.lengths is None:
            return self.row_hashes
        digests = [
            blake2b(row.tobytes() + word.to_bytes(_WORD_BYTES, "little"), digest_size=self.row_hashes.shape[1]).digest()
            for row, length in zip(self.row_hashes, self.lengths.tolist(), strict=True)
            for word in range(length)
        ]
        return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, self.row_hashes.shape[1])

    def take(self, rows: np.ndarray) -> Manifest:
        """These rows in this order, with all classes."""
        if self.lengths is None:
            return Manifest(self.row_hashes[rows], self.labels[rows], self.classes, self.task)
        lengths = self.lengths[rows]
        return Manifest(self.row_hashes[rows], self.labels[self.words_of(rows)], self.classes, self.task, lengths)

    def words_of(self, rows: np.ndarray) -> np.ndarray:
        """The numbers, among all words, of the words of these rows: (words,) int64."""
        assert self.lengths is not None
        lengths = self.lengths[rows]
        starts = (np.cumsum(self.lengths) - self.lengths)[rows]
        before = np.cumsum(lengths) - lengths
        return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def join(manifests: Sequence[Manifest]) -> Manifest:
    """The rows of all manifests in order, with the classes that occur, matched by name.

    Equal rows with equal labels in equal order have one fingerprint, whatever they were joined from. Raises
    StoreError when the manifests are for different tasks.
    """
    tasks = list(dict.fromkeys(manifest.task for manifest in manifests))
    if len(tasks) > 1:
        raise StoreError(
            f"rows for {tasks[0]} and rows for {tasks[1]} are no dataset together",
            subject=tasks[1],
            fix="take rows of datasets of one task",
        )
    lengths = [manifest.lengths for manifest in manifests if manifest.lengths is not None]
    labels, classes = _joined_labels(manifests, tasks[0])
    return Manifest(
        row_hashes=np.concatenate([manifest.row_hashes for manifest in manifests]),
        labels=labels,
        classes=classes,
        task=tasks[0],
        lengths=np.concatenate(lengths) if lengths else None,
    )


def _joined_labels(manifests: Sequence[Manifest], task: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if task == "regression":
        return np.concatenate([manifest.labels for manifest in manifests]), ()
    named = tuple(dict.fromkeys(name for manifest in manifests for name in manifest.classes))
    if task == "multilabel_classification":
        wide = np.concatenate([manifest.targets_among(named) for manifest in manifests])
        classes = ordered_classes(named[column] for column in np.flatnonzero(wide.any(axis=0)))
        return wide[:, [named.index(name) for name in classes]], classes
    numbers = {name: number for number, name in enumerate(named)}
    # Chunks of one dataset share one tuple of classes, which is numbered once.
    numbered = {
        classes: np.array([numbers[name] for name in classes], dtype=np.int64)
        for classes in {manifest.classes for manifest in manifests}
    }
    joined = np.concatenate([numbered[manifest.classes][manifest.labels] for manifest in manifests])
    used, labels = np.unique(joined, return_inverse=True)
    names = [named[number] for number in used]
    classes = ordered_classes(names)
    return np.array([classes.index(name) for name in names], dtype=np.int64)[labels], classes


def comparable_targets(train: Manifest, test: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """The targets of two splits; of several labels, with a column for each that either split has."""
    if train.task != "multilabel_classification":
        return train.targets, test.targets
    names = ordered_classes((*train.classes, *test.classes))
    return train.targets_among(names), test.targets_among(names)


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
    """Store a manifest under its fingerprint, here and where machines share it.

    Raises StoreError when the disk refuses, or the shared store.
    """
    path = root / f"{manifest.fingerprint}.npz"
    if current_settings().store_url and has_manifest(root, manifest.fingerprint):
        return
    try:
        with put_in_place(path) as temporary, temporary.open("wb") as file:
            lengths: dict[str, Any] = {} if manifest.lengths is None else {"lengths": manifest.lengths}
            np.savez_compressed(
                file,
                row_hashes=manifest.row_hashes,
                labels=manifest.labels,
                classes=np.asarray(manifest.classes, dtype=str),
                task=np.asarray(manifest.task),
                **lengths,
            )
            file.flush()
            os.fsync(file.fileno())
            # What is here was put there.
            share_manifest(temporary, manifest.fingerprint)
    except OSError as error:
        raise StoreError(
            f"the dataset's manifest cannot be written: {error.strerror or error}",
            subject=str(path),
            fix="free some disk space, or make the directory writable",
        ) from error


def share_manifest(file: Path, fingerprint: str) -> None:
    """Put the file of a manifest into the shared store, if there is one."""
    if (url := current_settings().store_url) is not None:
        SharedFiles(url).put(file, _shared_path(fingerprint))


def _fetch_manifest(path: Path, fingerprint: str) -> None:
    """Bring a manifest that is not here from the shared store, if it is there."""
    if (url := current_settings().store_url) is not None:
        with contextlib.suppress(FileNotFoundError), put_in_place(path) as temporary:
            SharedFiles(url).fetch(_shared_path(fingerprint), temporary)


def _shared_path(fingerprint: str) -> str:
    return f"{SHARED}/{fingerprint}.npz"


def has_manifest(root: Path, fingerprint: str) -> bool:
    """Whether the manifest of a dataset fingerprint is there and whole."""
    try:
        load_manifest(root, fingerprint)
    except StoreError:
        return False
    return (root / f"{fingerprint}.npz").exists()


# What a fingerprint stands for never changes, and a question looks at the same few manifests again and again.
@lru_cache(maxsize=8)
def load_manifest(root: Path, fingerprint: str) -> Manifest:
    """The manifest of a dataset fingerprint, fetched from the shared store where this machine lacks it.

    Raises StoreError when it is gone, torn or another's, and when the shared store is out of reach.
    """
    path = root / f"{fingerprint}.npz"
    if not path.exists():
        _fetch_manifest(path, fingerprint)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            manifest = Manifest(
                arrays["row_hashes"],
                arrays["labels"],
                tuple(str(name) for name in arrays["classes"]),
                # Manifests from before there were other tasks do not say theirs.
                str(arrays["task"]) if "task" in arrays else "classification",
                arrays.get("lengths"),
            )
        if manifest.fingerprint != fingerprint:
            raise ValueError("it is not what it was when it was written")
        return manifest
    except _UNREADABLE as error:
        raise StoreError(
            f"the manifest of a dataset cannot be read: {error}",
            subject=str(path),
            fix="add the dataset again with 'shiftql datasets add', on the machine that has its files",
        ) from error
