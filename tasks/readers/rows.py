"""From the cells of a record to its row, and to the bytes whose hash identifies the row's features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
import orjson

from tasks.readers.base import ROW_HASH_BYTES, Pair, Row
from tasks.readers.roles import Roles
from tasks.readers.tables import Unreadable

# (the cells of a record's feature columns, the folder paths are relative to) → the row and its bytes.
RowOf: TypeAlias = Callable[[Sequence[Any], str], tuple[Row, bytes]]


def row_hashes(features: Iterable[bytes]) -> np.ndarray:
    """BLAKE2b of each row's features alone: (rows, ROW_HASH_BYTES) uint8."""
    digests = [blake2b(row, digest_size=ROW_HASH_BYTES).digest() for row in features]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, ROW_HASH_BYTES)


def row_reader(roles: Roles) -> RowOf:
    """What makes rows of this dataset's cells; it raises Unreadable."""
    column, *others = roles.features
    if roles.kind == "text":
        return lambda cells, _: _text(cells[0], column)
    if roles.kind == "pair":
        return lambda cells, _: _pair(cells[0], cells[1], column, others[0])
    if roles.kind == "words":
        return lambda cells, _: _words(cells[0], column)
    if roles.kind == "vector":
        return _vector_reader(roles.features)
    from tasks.readers.images import image_of

    def image(cells: Sequence[Any], folder: str) -> tuple[Row, bytes]:
        try:
            return image_of(cells[0], folder)
        except Unreadable as problem:
            raise Unreadable(problem.reason, column) from problem

    return image


def words_of(cell: Any) -> list[Any]:
    """The items of a list, or what spaces separate in text."""
    return cell.split() if isinstance(cell, str) else list(cell)


def number_of(cell: Any, column: str) -> float:
    """The number in a cell. Raises Unreadable where there is none, or one that is not finite."""
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        raise Unreadable("is empty" if cell in (None, "") else f"is {shown(cell)}, and no number", column) from None
    if not math.isfinite(number):
        raise Unreadable("is not a finite number", column)
    return number


def _text(cell: Any, column: str) -> tuple[str, bytes]:
    try:
        if isinstance(cell, bytes):
            return cell.decode(), cell
        if isinstance(cell, str):
            return cell, cell.encode()
    except UnicodeError as error:
        raise Unreadable("is not UTF-8 text", column) from error
    raise Unreadable("is empty" if cell is None else f"is {shown(cell)}, and no text", column)


def _pair(first: Any, second: Any, first_column: str, second_column: str) -> tuple[Pair, bytes]:
    (left, content), (right, rest) = _text(first, first_column), _text(second, second_column)
    # The length says where the one ends and the other begins.
    return Pair(left, right), b"pair %d " % len(content) + content + rest


def _words(cell: Any, column: str) -> tuple[list[str], bytes]:
    words = [] if cell is None else words_of(cell)
    if not words:
        raise Unreadable("has no words", column)
    if not all(isinstance(word, str) for word in words):
        raise Unreadable(f"is {shown(cell)}, and no list of words", column)
    try:
        return words, b"words " + orjson.dumps(words)
    # Of bytes that are not UTF-8.
    except orjson.JSONEncodeError as error:
        raise Unreadable("is not UTF-8 text", column) from error


def _vector_reader(columns: Sequence[str]) -> RowOf:
    width: int | None = None

    def read(cells: Sequence[Any], _: str) -> tuple[Row, bytes]:
        nonlocal width
        try:
            vector = np.array(cells[0] if len(columns) == 1 else cells, dtype=np.float32).reshape(-1)
        except (TypeError, ValueError, OverflowError):
            vector = np.array(
                [number_of(cell, column) for cell, column in zip(cells, columns, strict=True)], np.float32
            )
        if not np.isfinite(vector).all():
            column = columns[int(np.argmin(np.isfinite(vector)))] if len(columns) > 1 else columns[0]
            raise Unreadable("is not a finite number", column)
        width = width or len(vector)
        if len(vector) != width:
            raise Unreadable(f"has {len(vector)} numbers where the rows before have {width}", columns[0])
        return vector, f"{vector.dtype}{vector.shape}".encode() + vector.tobytes()

    return read


def shown(cell: Any) -> str:
    """A cell as an error shows it."""
    text = repr(cell)
    return text if len(text) <= 40 else f"{text[:37]}…"
