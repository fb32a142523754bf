"""One image, however it is stored, as upright RGB of its own size."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.readers.tables import Unreadable

_MOST_BYTES = 256 * 2**20
_CHANNELS = (1, 3, 4)


def image_of(cell: Any, folder: str) -> tuple[np.ndarray, bytes]:
    """The image in a cell as (height, width, 3) uint8, and the bytes that identify it.

    A cell is an encoded image, its path relative to `folder`, the {"bytes", "path"} of Hugging Face's Image feature,
    or pixels: uint8 or floats in [0, 1], (height, width) or with 1, 3 or 4 channels last or first. An encoded image
    is identified by its file's bytes, pixels by those of the RGB image. Raises Unreadable.
    """
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if cell is None:
        raise Unreadable("is empty")
    if isinstance(cell, str | Path):
        cell = _content(Path(folder, cell))
    if isinstance(cell, bytes):
        return _decoded(cell), cell
    stored = np.asarray(cell)
    if isinstance(cell, list) and stored.dtype.kind == "i" and stored.min() >= 0 and stored.max() <= np.iinfo("u1").max:
        stored = stored.astype(np.uint8)
    pixels = _rgb(stored)
    return pixels, f"{pixels.dtype}{pixels.shape}".encode() + pixels.tobytes()


def _content(file: Path) -> bytes:
    try:
        # Neither a pipe nor a device ends.
        if not file.is_file():
            raise Unreadable(f"names {file}, and there is no such file")
        if file.stat().st_size > _MOST_BYTES:
            raise Unreadable(f"is a file of more than {_MOST_BYTES // 2**20} MiB")
        return file.read_bytes()
    except (OSError, ValueError) as error:
        raise Unreadable(f"cannot be read: {error}") from error


def _decoded(content: bytes) -> np.ndarray:
    try:
        with Image.open(BytesIO(content)) as image:
            # Pillow itself refuses only twice as many.
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or np.inf):
                raise Unreadable(f"is an image of {image.width} × {image.height} pixels, more than are decoded")
            upright = ImageOps.exif_transpose(image)
            if not upright.mode.startswith("I"):
                return np.array(upright.convert("RGB"))
    except Unreadable:
        raise
    # Pillow's decoders raise almost anything on broken files: OSError, SyntaxError, ValueError, struct.error.
    except Exception as error:
        # What Pillow says of a format it does not know names only the buffer in memory.
        reason = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        raise Unreadable(f"is not an image that can be decoded{reason}") from error
    # Conversion to RGB would clip 16-bit grey at 255 instead of scaling it.
    grey = np.asarray(upright)
    if grey.min() < 0 or grey.max() >= 2**16:
        raise Unreadable("has grey values outside 0 to 65535")
    return np.stack([(grey >> 8).astype(np.uint8)] * 3, axis=2)


def _rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype.kind == "f":
        if not ((pixels >= 0) & (pixels <= 1)).all():
            raise Unreadable("has values outside 0 to 1: scale floats to 0 to 1, or save uint8")
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise Unreadable(f"is an image of {pixels.dtype}: save uint8, or floats in 0 to 1")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim == 3 and pixels.shape[2] not in _CHANNELS and pixels.shape[0] in _CHANNELS:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] not in _CHANNELS or 0 in pixels.shape:
        raise Unreadable(
            f"is an image of shape {pixels.shape}: save (height, width) or (height, width, channels) with 1, 3 or 4"
            " channels"
        )
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, axis=2)
    # A copy: what was read from a file may not be written to, which torch warns about.
    return np.array(pixels[..., :3], order="C")
