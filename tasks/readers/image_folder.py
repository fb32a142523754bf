"""Images from a folder with one sub-folder per class."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from storage.errors import StoreError
from storage.manifests import ordered_classes
from tasks.readers.base import CHUNK_ROWS, Chunk, Schema
from tasks.readers.rows import label_indices, row_hashes

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
# A chunk of large photographs is cut short here, so that memory does not grow with their size.
_CHUNK_BYTES = 64 * 2**20


class ImageFolder:
    """Images `<folder>/<class>/…/<file>`, in order of class and path, upright, as RGB of their own size.

    Hidden files and files of other types are skipped; of an animation the first frame is read. Rows
    are identified by their file's bytes. Errors are StoreErrors that name the file.
    """

    name = "image_folder"

    def __init__(self, path: str) -> None:
        self._path = path

    def files(self) -> list[str]:
        return sorted(str(file) for file, _ in self._images)

    def schema(self) -> Schema:
        classes = ordered_classes(label for _, label in self._images)
        return Schema("image", "classification", len(self._images), classes)

    def chunks(self, size: int = CHUNK_ROWS) -> Iterator[Chunk]:
        classes = self.schema().classes
        rows: list[np.ndarray] = []
        labels: list[str] = []
        contents: list[bytes] = []
        for file, label in self._images:
            contents.append(_content(file))
            rows.append(_rgb(file, contents[-1]))
            labels.append(label)
            if len(rows) == size or sum(row.nbytes for row in rows) >= _CHUNK_BYTES:
                yield Chunk(rows, label_indices(labels, classes), row_hashes(contents))
                rows, labels, contents = [], [], []
        if rows:
            yield Chunk(rows, label_indices(labels, classes), row_hashes(contents))

    @cached_property
    def _images(self) -> list[tuple[Path, str]]:
        root = Path(self._path)
        children = root.iterdir() if root.is_dir() else ()
        folders = {child.name: child for child in children if child.is_dir() and not _hidden(child, root)}
        if not folders:
            raise StoreError(
                f"{self._path} has no sub-folders",
                subject=self._path,
                fix="sort the images into one sub-folder per class",
            )
        images = []
        for label in ordered_classes(folders):
            found = [
                file
                for file in sorted(folders[label].rglob("*"))
                if file.suffix.lower() in SUFFIXES and not _hidden(file, root) and file.is_file()
            ]
            if not found:
                raise StoreError(
                    f"class folder {folders[label]} holds no images",
                    subject=self._path,
                    allowed=SUFFIXES,
                    fix="add images of an allowed type, or remove the folder",
                )
            images += [(file, label) for file in found]
        return images


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}", subject=str(file), fix="check the file's permissions") from error


def _rgb(file: Path, content: bytes) -> np.ndarray:
    try:
        with Image.open(BytesIO(content)) as image:
            upright = ImageOps.exif_transpose(image)
            if not upright.mode.startswith("I"):
                return np.array(upright.convert("RGB"))
    # Pillow's decoders raise almost anything on broken files: OSError, SyntaxError, ValueError, struct.error.
    except Exception as error:
        # What Pillow says of a format it does not know names only the buffer in memory.
        reason = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        raise StoreError(
            f"{file} is not an image that can be decoded{reason}",
            subject=str(file),
            fix="replace the file or remove it",
        ) from error
    # Conversion to RGB would clip 16-bit grey at 255 instead of scaling it.
    grey = np.asarray(upright)
    if grey.min() < 0 or grey.max() >= 2**16:
        raise StoreError(
            f"{file} has grey values outside 0 to 65535",
            subject=str(file),
            fix="save the image with 8 or 16 bits per pixel, or remove it",
        )
    return np.stack([(grey >> 8).astype(np.uint8)] * 3, axis=2)
