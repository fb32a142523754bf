"""Rows as they were prepared for one model, kept for the next that prepares them alike."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Any

import numpy as np

# Of an entry besides its item: the key and its place in the order.
_ENTRY_BYTES = 256


class PreparedRows:
    """Prepared rows by preparation and row hash; those not used for longest go when `limit` bytes are full."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: OrderedDict[tuple[str, bytes], Any] = OrderedDict()
        self._held = 0

    def __contains__(self, key: tuple[str, bytes]) -> bool:
        return key in self._items

    def get(self, preparation: str, row_hash: bytes) -> Any | None:
        """What the row was prepared to, None where it is not kept."""
        key = (preparation, row_hash)
        if key not in self._items:
            return None
        self._items.move_to_end(key)
        return self._items[key]

    def put(self, preparation: str, row_hash: bytes, item: Any) -> None:
        """Keep a prepared row."""
        key = (preparation, row_hash)
        if key in self._items:
            return
        self._items[key] = item
        self._held += size_of(item) + _ENTRY_BYTES
        while self._held > self._limit:
            self._held -= size_of(self._items.popitem(last=False)[1]) + _ENTRY_BYTES


def size_of(item: Any) -> int:
    """The bytes in memory of arrays and text, however nested; of small ones the objects take most of it."""
    if isinstance(item, np.ndarray) and item.base is not None:
        return sys.getsizeof(item) + item.nbytes
    inside = sum(map(size_of, item)) if isinstance(item, list | tuple) else 0
    return sys.getsizeof(item) + inside
