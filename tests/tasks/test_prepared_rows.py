from __future__ import annotations

import tracemalloc

import numpy as np

from tasks.prepared_rows import PreparedRows


def _pixels(value: int) -> np.ndarray:
    return np.full(100_000, value, np.uint8)


def test_a_row_is_found_under_its_preparation_only() -> None:
    rows = PreparedRows(1_000_000)
    rows.put("resized", b"1", _pixels(1))
    assert rows.get("resized", b"1")[0] == 1  # type: ignore[index]
    assert rows.get("resized", b"2") is None
    assert rows.get("cropped", b"1") is None


def test_what_was_not_used_for_longest_goes_first() -> None:
    rows = PreparedRows(250_000)
    rows.put("resized", b"1", _pixels(1))
    rows.put("resized", b"2", _pixels(2))
    rows.get("resized", b"1")
    rows.put("resized", b"3", (_pixels(3), None))
    assert rows.get("resized", b"2") is None
    assert rows.get("resized", b"1") is not None
    assert rows.get("resized", b"3") is not None


def test_many_small_rows_take_no_more_memory_than_the_limit() -> None:
    rows = PreparedRows(1_000_000)
    tracemalloc.start()
    for number in range(5_000):
        rows.put("tokens", number.to_bytes(16), ((np.zeros(8, np.int32), None, None), None))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1_250_000
