"""Images and labels from a NumPy .npz file, read as a stream."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import IO

import numpy as np

from storage.errors import StoreError
from storage.manifests import ordered_classes
from storage.names import fold
from tasks.readers.base import CHUNK_ROWS, Chunk, Schema
from tasks.readers.rows import label_indices, row_hashes

_IMAGE_KEYS = ("images", "x", "data")
_LABEL_KEYS = ("labels", "y", "targets")
_CHANNELS = (1, 3, 4)


class NumpyArrays:
    """An .npz file with `images` (or `x`, `data`) and `labels` (or `y`, `targets`).

    Images are uint8, or floats in [0, 1], of shape (rows, height, width), (…, channels) or channels
    first; grey becomes RGB and an alpha channel is dropped. Labels are whole numbers or text. Nothing
    is unpickled. Errors are StoreErrors that name file, array and row.
    """

    name = "numpy"

    def __init__(self, path: str) -> None:
        self._path = path

    def files(self) -> list[str]:
        return [self._path]

    def schema(self) -> Schema:
        return Schema("image", "classification", len(self._labels), ordered_classes(self._labels))

    def chunks(self, size: int = CHUNK_ROWS) -> Iterator[Chunk]:
        labels = label_indices(self._labels, self.schema().classes)
        start = 0
        for images in self._arrays(self._key(_IMAGE_KEYS, "images"), size):
            rgb = list(self._rgb(images, start))
            hashes = row_hashes(f"{row.dtype}{row.shape}".encode() + row.tobytes() for row in rgb)
            yield Chunk(rgb, labels[start : start + len(rgb)], hashes)
            start += len(rgb)

    @cached_property
    def _labels(self) -> Sequence[str]:
        key = self._key(_LABEL_KEYS, "labels")
        with self._array(key) as (_, shape, _, dtype):
            if len(shape) != 1 or dtype.kind not in "iubU":
                raise self._error(
                    f"labels in {key!r} are {dtype} of shape {shape}",
                    "save whole numbers or text of shape (rows,)",
                )
        labels = [str(label) for part in self._arrays(key, CHUNK_ROWS) for label in part]
        with self._array(self._key(_IMAGE_KEYS, "images")) as (_, image_shape, _, _):
            num_images = image_shape[0] if image_shape else 0
        if num_images != len(labels):
            raise self._error(f"{num_images} images and {len(labels)} labels", "save one label for each image")
        if not labels:
            raise self._error("no rows", "save at least one image")
        if "" in labels:
            raise self._error(f"label of row {labels.index('')} in {key!r} is empty", "label the row or remove it")
        return labels

    def _key(self, accepted: Sequence[str], what: str) -> str:
        with self._archive() as archive:
            keys = [member.removesuffix(".npy") for member in archive.namelist() if member.endswith(".npy")]
        for wanted in accepted:
            for key in keys:
                if fold(key) == wanted:
                    return key
        raise StoreError(
            f"{self._path} has no array of {what}; it holds {', '.join(keys) or 'no .npy arrays'}",
            subject=self._path,
            allowed=accepted,
            fix=f"save the {what} with numpy.savez under one of the allowed names",
        )

    def _arrays(self, key: str, size: int) -> Iterator[np.ndarray]:
        """The array's rows in order, at most `size` at a time, never more of it in memory."""
        with self._array(key) as (stream, shape, fortran_order, dtype):
            if fortran_order and len(shape) > 1:
                raise self._error(
                    f"array {key!r} is stored column by column and cannot be read row by row",
                    "save numpy.ascontiguousarray of it",
                )
            row_bytes = dtype.itemsize * int(np.prod(shape[1:]))
            for start in range(0, shape[0], size):
                count = min(size, shape[0] - start)
                block = stream.read(count * row_bytes)
                if len(block) < count * row_bytes:
                    raise self._error(f"array {key!r} ends before row {start + count}", "save the file again")
                yield np.frombuffer(block, dtype).reshape(count, *shape[1:])

    @contextmanager
    def _array(self, key: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype]]:
        """The array's bytes as a stream, with its shape, whether column by column, and type."""
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        with self._archive() as archive, archive.open(f"{key}.npy") as stream:
            try:
                shape, fortran_order, dtype = readers[np.lib.format.read_magic(stream)](stream)
            except (ValueError, KeyError) as error:
                raise StoreError(
                    f"{self._path}: {key!r} is not a NumPy array: {error}",
                    subject=self._path,
                    fix="write the file with numpy.savez",
                ) from error
            if dtype.hasobject:
                raise self._error(
                    f"array {key!r} holds pickled objects, which could run code and are never opened",
                    "save it with a plain type, for example array.astype(str)",
                )
            yield stream, shape, fortran_order, dtype

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                yield archive
        # RuntimeError is zipfile's word for an encrypted member, its NotImplementedError for an unknown compression.
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise StoreError(
                f"{self._path} is not a readable .npz file: {error}",
                subject=self._path,
                fix="write the file with numpy.savez",
            ) from error

    def _rgb(self, images: np.ndarray, start: int) -> np.ndarray:
        """The images as (rows, height, width, 3) uint8."""
        if images.dtype.kind == "f":
            flat = images.reshape(len(images), -1)
            inside = ((flat >= 0) & (flat <= 1)).all(axis=1)
            if not inside.all():
                raise self._error(
                    f"image of row {start + int(np.argmin(inside))} has values outside 0 to 1",
                    "scale floats to 0 to 1, or save uint8",
                )
            images = np.rint(images * 255).astype(np.uint8)
        if images.dtype != np.uint8:
            raise self._error(f"images are {images.dtype}", "save uint8, or floats in 0 to 1")
        if images.ndim == 3:
            images = images[..., None]
        if images.ndim == 4 and images.shape[3] not in _CHANNELS and images.shape[1] in _CHANNELS:
            images = images.transpose(0, 2, 3, 1)
        if images.ndim != 4 or images.shape[3] not in _CHANNELS or 0 in images.shape:
            raise self._error(
                f"images are of shape {images.shape[1:]}",
                "save (rows, height, width) or (rows, height, width, channels) with 1, 3 or 4 channels",
            )
        if images.shape[3] == 1:
            images = images.repeat(3, axis=3)
        # A copy: what was read from the stream cannot be written to, which torch warns about.
        return np.array(images[..., :3], order="C")

    def _error(self, problem: str, fix: str) -> StoreError:
        return StoreError(f"{self._path}: {problem}", subject=self._path, fix=fix)
