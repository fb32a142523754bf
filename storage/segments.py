"""One segment of stored features: a pair of files named by a checksum of their content.

`<checksum>.rows.npy` holds the row hashes and `<checksum>.npy` the vectors. Both are written under another name and
moved into place, rows last, so that a reader never sees half of a segment; rows are deleted first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from storage.errors import StoreError
from storage.in_place import put_in_place

ROWS, VECTORS = ".rows.npy", ".npy"
_HASH_BYTES = 16


@dataclass(frozen=True)
class Segment:
    """A segment that is, or may be, in `directory`."""

    directory: Path
    name: str

    @property
    def rows(self) -> Path:
        return self.directory / f"{self.name}{ROWS}"

    @property
    def vectors(self) -> Path:
        return self.directory / f"{self.name}{VECTORS}"

    def load_hashes(self) -> np.ndarray | None:
        """The row hashes, (n, 16) uint8; None when their file is gone or torn. They may still be wrong."""
        hashes = _load(self.rows, lambda file: np.load(file, allow_pickle=False))
        is_whole = hashes is not None and hashes.dtype == np.uint8 and hashes.shape[1:] == (_HASH_BYTES,)
        return hashes if is_whole else None

    def open(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The row hashes and the vectors ((n, dimensions) float32, mapped into memory), as they were written.

        None when they do not fit the checksum.
        """
        hashes = self.load_hashes()
        vectors = _load(self.vectors, lambda file: np.load(file, mmap_mode="r", allow_pickle=False))
        if hashes is None or vectors is None or vectors.dtype != np.float32:
            return None
        return (hashes, vectors) if _checksum(hashes, vectors) == self.name else None

    def touch(self) -> None:
        """Note that the segment is used now, as the time its row hashes were modified: some mounts note no readers."""
        with contextlib.suppress(OSError):
            now = time.time_ns()
            os.utime(self.rows, ns=(now, now))

    def delete(self) -> None:
        self.rows.unlink(missing_ok=True)
        self.vectors.unlink(missing_ok=True)


def write_segment(directory: Path, row_hashes: np.ndarray, vectors: np.ndarray) -> Segment:
    """Write `vectors` ((n, dimensions)) of rows ((n, 16) uint8). Raises OSError when the disk refuses."""
    hashes = np.ascontiguousarray(row_hashes, dtype=np.uint8)
    features = np.ascontiguousarray(vectors, dtype=np.float32)
    segment = Segment(directory, _checksum(hashes, features))
    for path, array in ((segment.vectors, features), (segment.rows, hashes)):
        with put_in_place(path) as temporary, temporary.open("wb") as file:
            # numpy's own way to write does not say what is wrong with a disk.
            npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(array))
            file.write(array.data)
            file.flush()
            os.fsync(file.fileno())
    return segment


def _load(file: Path, load: Callable[[Path], np.ndarray]) -> np.ndarray | None:
    """The array of a file; None when it is gone or damaged. Raises StoreError when the disk does not give it."""
    try:
        return load(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"features cannot be read: {error.strerror or error}",
            subject=str(file),
            fix="see to it that the file can be read, then ask again",
        ) from error
    except Exception:
        # A damaged header can raise anything.
        return None


def _checksum(hashes: np.ndarray, vectors: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((hashes.shape, vectors.shape)).encode())
    digest.update(np.ascontiguousarray(hashes).data)
    digest.update(np.ascontiguousarray(vectors).data)
    return digest.hexdigest()
