from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from storage.errors import StoreError
from storage.features import FeatureStore

HASHES = np.random.default_rng(0).integers(0, 256, (20, 16), dtype=np.uint8)
VECTORS = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "features")


def _files(tmp_path: Path, pattern: str) -> list[Path]:
    return sorted((tmp_path / "features").rglob(pattern))


def _vector_files(tmp_path: Path) -> list[Path]:
    return [file for file in _files(tmp_path, "*.npy") if not file.name.endswith(".rows.npy")]


def test_what_is_written_is_read_in_any_order(store: FeatureStore) -> None:
    store.write("k", HASHES, VECTORS)
    for order in (np.arange(20), np.arange(20)[::-1], np.random.default_rng(2).permutation(20), np.array([3, 3, 7])):
        np.testing.assert_array_equal(store.read("k", HASHES[order]), VECTORS[order])


def test_rows_are_found_whatever_segment_holds_them(store: FeatureStore) -> None:
    for start in (15, 0, 5, 10):
        store.write("k", HASHES[start : start + 5], VECTORS[start : start + 5])
    np.testing.assert_array_equal(store.read("k", HASHES), VECTORS)


def test_features_come_back_as_float32_rows(store: FeatureStore) -> None:
    store.write("k", HASHES, np.asfortranarray(VECTORS.astype(np.float64)))
    read = store.read("k", HASHES)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, VECTORS)


def test_rows_written_twice_are_read_once(store: FeatureStore) -> None:
    store.write("k", HASHES, VECTORS)
    store.write("k", HASHES[:5], VECTORS[:5])
    np.testing.assert_array_equal(store.read("k", HASHES), VECTORS)


def test_keys_share_nothing(store: FeatureStore) -> None:
    store.write("k", HASHES, VECTORS)
    assert len(store.missing("other", HASHES)) == 20
    assert store.key("one model") != store.key("another")


def test_missing_are_the_first_of_equal_rows_in_order(store: FeatureStore) -> None:
    rows = HASHES[[4, 2, 4, 0, 2, 1]]
    assert store.missing("k", rows).tolist() == [0, 1, 3, 5]
    store.write("k", HASHES[[2, 1]], VECTORS[[2, 1]])
    assert store.missing("k", rows).tolist() == [0, 3]


def test_nothing_is_missing_once_all_is_written(store: FeatureStore) -> None:
    store.write("k", HASHES, VECTORS)
    assert len(store.missing("k", np.concatenate([HASHES, HASHES]))) == 0


def test_reading_what_is_missing_says_how_much(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="20 of 20"):
        store.read("k", HASHES)
    store.write("k", HASHES[:13], VECTORS[:13])
    with pytest.raises(StoreError, match="7 of 20"):
        store.read("k", HASHES)


def _flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _cut_in_half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("half", ["rows", "vectors"])
@pytest.mark.parametrize("damage", [_flip_a_byte, _cut_in_half, _empty, Path.unlink])
def test_a_damaged_segment_is_dropped_and_then_missing(
    store: FeatureStore, tmp_path: Path, half: str, damage: Callable[[Path], None]
) -> None:
    store.write("k", HASHES[:10], VECTORS[:10])
    damaged = _files(tmp_path, "*.rows.npy") if half == "rows" else _vector_files(tmp_path)
    damage(damaged[0])
    store.write("k", HASHES[10:], VECTORS[10:])
    with pytest.raises(StoreError, match="10 of 20"):
        store.read("k", HASHES)
    assert store.missing("k", HASHES).tolist() == list(range(10))
    store.write("k", HASHES[:10], VECTORS[:10])
    np.testing.assert_array_equal(store.read("k", HASHES), VECTORS)


@pytest.mark.parametrize("damage", [_cut_in_half, _empty])
def test_rows_of_a_torn_index_are_missing_before_anything_is_read(
    store: FeatureStore, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    store.write("k", HASHES, VECTORS)
    damage(_files(tmp_path, "*.rows.npy")[0])
    assert len(store.missing("k", HASHES)) == 20


def test_what_a_dead_writer_left_is_ignored(store: FeatureStore, tmp_path: Path) -> None:
    store.write("k", HASHES[:10], VECTORS[:10])
    folder = _vector_files(tmp_path)[0].parent
    (folder / ".abc.rows.npy.123.tmp").write_bytes(b"half of")
    np.save(folder / "0123.npy", VECTORS[10:])
    assert store.missing("k", HASHES).tolist() == list(range(10, 20))
    np.testing.assert_array_equal(store.read("k", HASHES[:10]), VECTORS[:10])


def test_writing_leaves_no_temporary_files(store: FeatureStore, tmp_path: Path) -> None:
    store.write("k", HASHES, VECTORS)
    assert len(_files(tmp_path, "*.*")) == 2


def test_writers_may_write_at_once(tmp_path: Path) -> None:
    def write(number: int) -> None:
        part = slice(number % 4 * 5, number % 4 * 5 + 5)
        FeatureStore(tmp_path / "features").write("k", HASHES[part], VECTORS[part])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(16)))
    store = FeatureStore(tmp_path / "features")
    assert len(store.missing("k", HASHES)) == 0
    np.testing.assert_array_equal(store.read("k", HASHES), VECTORS)


def test_a_disk_that_refuses_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot be written") as caught:
        FeatureStore(tmp_path / "features").write("k", HASHES, VECTORS)
    assert caught.value.fix is not None
