"""Rows as they were prepared for one model, kept for the next that prepares them alike."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np


class PreparedRows:
    """Prepared rows by preparation and row hash; those not used for longest go when `limit` bytes are full."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: OrderedDict[tuple[str, bytes], Any] = OrderedDict()
        self._held = 0

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
        self._held += size_of(item)
        while self._held > self._limit:
            self._held -= size_of(self._items.popitem(last=False)[1])


def size_of(item: Any) -> int:
    """The bytes of arrays and text, however nested."""
    if isinstance(item, np.ndarray):
        return item.nbytes
    if isinstance(item, str):
        return len(item)
    return sum(map(size_of, item)) if isinstance(item, list | tuple) else 0
