from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from storage.neighbours import Search, SearchStore


def _search(seed: int) -> Search:
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 2**63, (35, 2), dtype=np.uint64)
    return Search(hashes[:30], hashes[30:], random.integers(0, 30, (5, 9), dtype=np.int32), random.random((5, 9)))


def _found(store: SearchStore, key: str = "key") -> list[float]:
    return [float(search.distances[0, 0]) for _, search in store.find(key)]


def _age(root: Path, seconds: int) -> None:
    for file in root.rglob("*.npz"):
        os.utime(file, ns=(0, file.stat().st_mtime_ns - seconds * 10**9))


def test_what_is_kept_is_found_as_it_was(tmp_path: Path) -> None:
    SearchStore(tmp_path).keep("key", _search(0))
    ((_, found),) = SearchStore(tmp_path).find("key")
    for name in ("train", "test", "rows", "distances"):
        np.testing.assert_array_equal(getattr(found, name), getattr(_search(0), name))
    assert _found(SearchStore(tmp_path), "other") == []


def test_the_last_used_come_first_and_the_others_are_dropped(tmp_path: Path) -> None:
    store = SearchStore(tmp_path)
    values = [float(_search(seed).distances[0, 0]) for seed in range(5)]
    for seed in range(4):
        _age(tmp_path, 10)
        store.keep("key", _search(seed))
    assert _found(store) == values[3::-1]
    first = [file for file, _ in store.find("key")][-1]
    _age(tmp_path, 10)
    store.touch(first)
    assert _found(store) == [values[0], *values[3:0:-1]]
    _age(tmp_path, 10)
    store.keep("key", _search(4))
    assert _found(store) == [values[4], values[0], values[3], values[2]]


@pytest.mark.parametrize("content", [b"", b"no search", None])
def test_a_damaged_search_is_dropped(tmp_path: Path, content: bytes | None) -> None:
    store = SearchStore(tmp_path)
    store.keep("key", _search(0))
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:-1] + b"?" if content is None else content)
    assert _found(store) == []
    assert not file.exists()


def test_a_disk_that_refuses_loses_only_what_would_be_kept(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("in the way")
    store = SearchStore(tmp_path)
    store.keep("key", _search(0))
    assert _found(store) == []


def test_nothing_is_left_beside_what_is_kept(tmp_path: Path) -> None:
    SearchStore(tmp_path).keep("key", _search(0))
    assert [file.suffix for file in (tmp_path / "key").iterdir()] == [".npz"]
