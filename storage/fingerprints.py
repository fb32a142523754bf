"""Fingerprints of content: equal content has an equal fingerprint, whatever it is called and wherever it lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

DIGEST_BYTES = 16
_READ_BYTES = 1 << 20


def fingerprint_of(*parts: Any) -> str:
    """The fingerprint of JSON-like parts (strings, numbers, lists, dicts), 32 hexadecimal digits.

    >>> fingerprint_of("a", 1) == fingerprint_of("a", 1) != fingerprint_of("a", "1")
    True
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def fingerprint_of_file(path: Path) -> str:
    """The fingerprint of a file's bytes."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def fingerprint_of_model(root: Path, files: Sequence[Path]) -> str:
    """The fingerprint of a model: its content files' bytes by their path relative to `root`."""
    return fingerprint_of([[file.relative_to(root).as_posix(), fingerprint_of_file(file)] for file in files])


def fingerprint_of_rows(
    row_hashes: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    task: str = "classification",
    lengths: np.ndarray | None = None,
) -> str:
    """The fingerprint of a dataset: its rows' hashes in order and, apart from them, its labels.

    `row_hashes` is (rows, 16) uint8; `labels`, `task` and `lengths` are as in storage.manifests.
    """
    features = hashlib.blake2b(row_hashes.tobytes(), digest_size=DIGEST_BYTES).hexdigest()
    stored = {"b": "|b1", "f": "<f8"}.get(labels.dtype.kind, "<i8")
    targets = hashlib.blake2b(labels.astype(stored).tobytes(), digest_size=DIGEST_BYTES).hexdigest()
    if task == "classification":
        return fingerprint_of(features, targets, list(classes))
    words = None if lengths is None else hashlib.blake2b(lengths.astype("<i8").tobytes()).hexdigest()
    return fingerprint_of(features, targets, list(classes), task, words)


def signature_of_files(files: Iterable[Path]) -> str:
    """A quick stand-in for content: path, size, and the times at which every file and its inode were modified.

    While the signature stays, files are taken as unchanged and are not read again. Tools that set the time of a file
    (cp -p, rsync -t, tar) do not set that of its inode.
    Raises FileNotFoundError when a file is gone.
    """
    stats = [(str(file), file.stat()) for file in files]
    return fingerprint_of([[path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for path, stat in stats])
