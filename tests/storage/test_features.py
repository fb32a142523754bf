from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pytest

from storage.errors import LostFeaturesError, StoreError
from storage.features import FeatureStore, open_features
from storage.segments import Segment
from storage.settings import current_settings
from tests.s3 import Server

HASHES = np.random.default_rng(0).integers(0, 256, (20, 16), dtype=np.uint8)
VECTORS = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)


@pytest.fixture(params=["local", "file", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """Where machines share features: nowhere, in a directory, in object stores."""
    return None if request.param == "local" else _url_of(request, tmp_path)


@pytest.fixture(params=["file", "memory", "s3"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return _url_of(request, tmp_path)


def _url_of(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return request.getfixturevalue("s3_url")
    return {"file": f"file://{tmp_path / 'shared'}", "memory": f"memory://{uuid4().hex}"}[request.param]


@pytest.fixture
def store(tmp_path: Path, url: str | None) -> FeatureStore:
    return FeatureStore(tmp_path / "features", url)


@pytest.fixture
def local(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "features")


def _files(tmp_path: Path, pattern: str) -> list[Path]:
    return sorted((tmp_path / "features").rglob(pattern))


def _vector_files(tmp_path: Path) -> list[Path]:
    return [file for file in _files(tmp_path, "*.npy") if not file.name.endswith(".rows.npy")]


def _read_or_lost(store: FeatureStore) -> np.ndarray | None:
    try:
        return store.read("k", HASHES)
    except LostFeaturesError:
        return None


# --- what every store does, shared or not -----------------------------------------------------------------------------


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
    assert store.missing("k", rows[:0]).tolist() == []


def test_nothing_is_missing_once_all_is_written(store: FeatureStore) -> None:
    store.write("k", HASHES, VECTORS)
    assert len(store.missing("k", np.concatenate([HASHES, HASHES]))) == 0


def test_rows_that_differ_in_their_second_half_only_are_told_apart(store: FeatureStore) -> None:
    other = HASHES.copy()
    other[:, 15] ^= 1
    store.write("k", HASHES, VECTORS)
    assert len(store.missing("k", other)) == 20


def test_reading_what_is_missing_says_how_much(store: FeatureStore) -> None:
    with pytest.raises(LostFeaturesError, match="20 of 20"):
        store.read("k", HASHES)
    store.write("k", HASHES[:13], VECTORS[:13])
    with pytest.raises(LostFeaturesError, match="7 of 20") as caught:
        store.read("k", HASHES)
    assert caught.value.was == "deleted meanwhile"


def test_writing_leaves_no_temporary_files(store: FeatureStore, tmp_path: Path) -> None:
    store.write("k", HASHES, VECTORS)
    assert len(_files(tmp_path, "*.*")) == 2


def test_writers_may_write_at_once(tmp_path: Path, url: str | None) -> None:
    def write(number: int) -> None:
        part = slice(number % 4 * 5, number % 4 * 5 + 5)
        FeatureStore(tmp_path / "features", url).write("k", HASHES[part], VECTORS[part])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(16)))
    store = FeatureStore(tmp_path / "features", url)
    assert len(store.missing("k", HASHES)) == 0
    np.testing.assert_array_equal(store.read("k", HASHES), VECTORS)


def test_a_disk_that_refuses_is_a_store_error(tmp_path: Path, url: str | None) -> None:
    (tmp_path / "features").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot be written") as caught:
        FeatureStore(tmp_path / "features", url).write("k", HASHES, VECTORS)
    assert caught.value.fix is not None


# --- damage -----------------------------------------------------------------------------------------------------------


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
def test_the_rows_of_a_damaged_segment_are_missing(
    local: FeatureStore, tmp_path: Path, half: str, damage: Callable[[Path], None]
) -> None:
    local.write("k", HASHES[:10], VECTORS[:10])
    damaged = _files(tmp_path, "*.rows.npy") if half == "rows" else _vector_files(tmp_path)
    damage(damaged[0])
    local.write("k", HASHES[10:], VECTORS[10:])
    with pytest.raises(LostFeaturesError, match="10 of 20") as caught:
        local.read("k", HASHES)
    is_found = half == "vectors" or damage is _flip_a_byte
    assert caught.value.was == ("damaged" if is_found else "deleted meanwhile")
    assert local.missing("k", HASHES).tolist() == list(range(10))
    local.write("k", HASHES[:10], VECTORS[:10])
    np.testing.assert_array_equal(local.read("k", HASHES), VECTORS)


def test_whatever_bit_is_wrong_no_wrong_feature_is_read(local: FeatureStore, tmp_path: Path) -> None:
    local.write("k", HASHES, VECTORS)
    contents = {file: file.read_bytes() for file in _files(tmp_path, "*.npy")}
    num_lost = 0
    for file, content in contents.items():
        for place in chain(range(128), range(128, len(content), 7)):
            # The second turns "<" into ">", another order of bytes.
            for bit in [1, place % 8] if place < 128 else [place % 8]:
                for other, whole in contents.items():
                    other.write_bytes(whole)
                wrong = bytearray(content)
                wrong[place] ^= 1 << bit
                file.write_bytes(wrong)
                read = _read_or_lost(local)
                num_lost += read is None
                assert read is None or (read.dtype == VECTORS.dtype and np.array_equal(read, VECTORS))
    assert num_lost > 300


@pytest.mark.parametrize("damage", [_cut_in_half, _empty, Path.unlink])
def test_rows_of_a_torn_index_are_missing_and_dropped_before_they_are_written_anew(
    local: FeatureStore, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    local.write("k", HASHES[:10], VECTORS[:10])
    damage(_files(tmp_path, "*.rows.npy")[0])
    local.write("k", HASHES[10:], VECTORS[10:])
    assert local.missing("k", HASHES).tolist() == list(range(10))
    assert local.drop_torn("k") == 1
    assert len(_files(tmp_path, "*.npy")) == 2
    assert local.drop_torn("k") == 0
    np.testing.assert_array_equal(local.read("k", HASHES[10:]), VECTORS[10:])


def test_row_hashes_that_were_mended_since_they_were_looked_at_are_looked_at_again(
    local: FeatureStore, tmp_path: Path
) -> None:
    local.write("k", HASHES, VECTORS)
    (rows,) = _files(tmp_path, "*.rows.npy")
    whole = rows.read_bytes()
    _flip_a_byte(rows)
    assert len(local.missing("k", HASHES)) == 1
    rows.write_bytes(whole)
    np.testing.assert_array_equal(local.read("k", HASHES[:-1]), VECTORS[:-1])
    np.testing.assert_array_equal(local.read("k", HASHES), VECTORS)


def test_what_another_process_evicted_is_not_called_damaged(local: FeatureStore, tmp_path: Path) -> None:
    local.write("k", HASHES, VECTORS)
    for file in _files(tmp_path, "*.npy"):
        file.unlink()
    with pytest.raises(LostFeaturesError) as caught:
        local.read("k", HASHES)
    assert caught.value.was == "deleted meanwhile"


def test_what_a_dead_writer_left_is_ignored(local: FeatureStore, tmp_path: Path) -> None:
    local.write("k", HASHES[:10], VECTORS[:10])
    folder = _vector_files(tmp_path)[0].parent
    (folder / ".abc.rows.npy.123.tmp").write_bytes(b"half of")
    np.save(folder / "0123.npy", VECTORS[10:])
    assert local.missing("k", HASHES).tolist() == list(range(10, 20))
    np.testing.assert_array_equal(local.read("k", HASHES[:10]), VECTORS[:10])


def test_a_file_that_the_disk_does_not_give_is_an_error_and_stays(
    local: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write("k", HASHES, VECTORS)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(np, "load", refuse)
        with pytest.raises(StoreError, match="cannot be read: Too many open files") as caught:
            local.read("k", HASHES)
    assert not isinstance(caught.value, LostFeaturesError)
    np.testing.assert_array_equal(local.read("k", HASHES), VECTORS)


@pytest.mark.parametrize("num_written", [0, 1])
def test_a_full_disk_is_a_clear_error_and_writing_goes_on_once_there_is_space(
    local: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_written: int
) -> None:
    synced: list[int] = []

    def fill_up(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > num_written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fill_up)
        with pytest.raises(StoreError, match="cannot be written: No space left on device") as caught:
            local.write("k", HASHES, VECTORS)
    assert "free some disk space" in (caught.value.fix or "")
    assert len(_files(tmp_path, "*.*")) == num_written
    assert len(local.missing("k", HASHES)) == 20
    local.write("k", HASHES, VECTORS)
    np.testing.assert_array_equal(local.read("k", HASHES), VECTORS)


def test_a_device_without_space_is_named(local: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.open

    def open_full(path: Path, *arguments: Any) -> Any:
        return original(Path("/dev/full") if path.suffix == ".tmp" else path, *arguments)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(StoreError, match="No space left on device"):
        local.write("k", HASHES, VECTORS)


# --- machines that share ----------------------------------------------------------------------------------------------


def _shared_files(url: str) -> tuple[Any, list[str]]:
    files, root = fsspec.url_to_fs(url)
    return files, sorted(files.find(root))


def test_homes_that_share_a_url_see_each_others_features(tmp_path: Path, shared_url: str) -> None:
    one, other = (FeatureStore(tmp_path / name, shared_url) for name in ("one", "other"))
    one.write("k", HASHES[:10], VECTORS[:10])
    assert other.missing("k", HASHES).tolist() == list(range(10, 20))
    other.write("k", HASHES[10:], VECTORS[10:])
    for store in (one, other, FeatureStore(tmp_path / "third", shared_url)):
        assert len(store.missing("k", HASHES)) == 0
        np.testing.assert_array_equal(store.read("k", HASHES), VECTORS)


def test_vectors_come_when_they_are_read_and_what_is_here_is_not_asked_for(
    tmp_path: Path, shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (FeatureStore(tmp_path / name, shared_url) for name in ("one", "features"))
    one.write("k", HASHES, VECTORS)
    other.missing("k", HASHES)
    assert len(_files(tmp_path, "*.rows.npy")) == 1
    assert _vector_files(tmp_path) == []
    other.read("k", HASHES)
    assert len(_vector_files(tmp_path)) == 1
    monkeypatch.setattr(FeatureStore, "_fetch", None)
    monkeypatch.setattr(other._shared, "names", None)
    assert len(other.missing("k", HASHES)) == 0
    np.testing.assert_array_equal(other.read("k", HASHES), VECTORS)


@pytest.mark.parametrize("damage", [_flip_a_byte, _cut_in_half, _empty, Path.unlink])
@pytest.mark.parametrize("half", [0, 1])
def test_damage_on_this_machine_is_mended_from_the_shared_store(
    tmp_path: Path, shared_url: str, half: int, damage: Callable[[Path], None]
) -> None:
    store = FeatureStore(tmp_path / "features", shared_url)
    store.write("k", HASHES, VECTORS)
    damage(_files(tmp_path, "*.npy")[half])
    np.testing.assert_array_equal(store.read("k", HASHES), VECTORS)
    assert len(store.missing("k", HASHES)) == 0


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("keep", [0, 0.5, 1])
def test_damage_in_the_shared_store_is_dropped_there_and_computed_anew(
    tmp_path: Path, shared_url: str, half: int, keep: float
) -> None:
    one, other = (FeatureStore(tmp_path / name, shared_url) for name in ("one", "other"))
    one.write("k", HASHES, VECTORS)
    files, paths = _shared_files(shared_url)
    content = files.cat_file(paths[half])
    wrong = content[: int(len(content) * keep)] if keep < 1 else content[:-1] + bytes([content[-1] ^ 1])
    files.pipe_file(paths[half], wrong)
    with pytest.raises(LostFeaturesError):
        other.read("k", HASHES)
    assert _shared_files(shared_url)[1] == []
    assert len(other.missing("k", HASHES)) == 20
    other.write("k", HASHES, VECTORS)
    np.testing.assert_array_equal(FeatureStore(tmp_path / "third", shared_url).read("k", HASHES), VECTORS)


def test_an_upload_that_ended_in_the_middle_is_nothing(
    tmp_path: Path, shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (FeatureStore(tmp_path / name, shared_url) for name in ("one", "other"))
    original = type(one._shared).put  # type: ignore[attr-defined]

    def put(shared: Any, source: Path, path: str) -> None:
        if source.name.endswith(".rows.npy"):
            raise StoreError("the network is gone")
        original(shared, source, path)

    with monkeypatch.context() as patch:
        patch.setattr(type(one._shared), "put", put)
        with pytest.raises(StoreError, match="network"):
            one.write("k", HASHES, VECTORS)
    assert len(other.missing("k", HASHES)) == 20
    # On this machine it is whole.
    np.testing.assert_array_equal(one.read("k", HASHES), VECTORS)


def test_a_plan_looks_for_many_models_at_once(tmp_path: Path, s3_server: Server, s3_url: str) -> None:
    one = FeatureStore(tmp_path / "one", s3_url)
    for start in (0, 5, 10):
        one.write("k", HASHES[start : start + 5], VECTORS[start : start + 5])
    plan = FeatureStore(tmp_path / "other", s3_url, looks_once=True)
    s3_server.requests.clear()
    for number in range(50):
        assert len(plan.missing(f"model {number}", HASHES)) == 20
    assert len(s3_server.requests) == 1
    for _ in range(5):
        assert plan.missing("k", HASHES).tolist() == list(range(15, 20))
    # A listing, and the row hashes of three segments.
    assert len(s3_server.requests) == 5
    one.write("k", HASHES[15:], VECTORS[15:])
    assert len(plan.missing("k", HASHES)) == 5
    assert len(FeatureStore(tmp_path / "other", s3_url, looks_once=True).missing("k", HASHES)) == 0


def test_what_is_here_is_read_without_a_request(tmp_path: Path, s3_server: Server, s3_url: str) -> None:
    store = FeatureStore(tmp_path / "features", s3_url)
    for start in (0, 10):
        store.write("k", HASHES[start : start + 10], VECTORS[start : start + 10])
    s3_server.requests.clear()
    store.read("k", HASHES)
    assert len(store.missing("k", HASHES)) == 0
    assert s3_server.requests == []


@pytest.mark.parametrize("url", ["nowhere://bucket", "file:///proc/no/such/place"])
def test_a_shared_store_out_of_reach_is_a_store_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(StoreError, match="the shared store does not work") as caught:
        FeatureStore(tmp_path / "features", url).write("k", HASHES, VECTORS)
    assert "SHIFT_STORE_URL" in (caught.value.fix or "")


def test_the_environment_names_the_shared_store(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_url: str
) -> None:
    monkeypatch.setenv("SHIFT_STORE_URL", shared_url)
    open_features(current_settings()).write("k", HASHES, VECTORS)
    np.testing.assert_array_equal(FeatureStore(tmp_path / "elsewhere", shared_url).read("k", HASHES), VECTORS)


def test_a_segment_is_two_files(local: FeatureStore, tmp_path: Path) -> None:
    local.write("k", HASHES, VECTORS)
    (vectors,) = _vector_files(tmp_path)
    segment = Segment(vectors.parent, vectors.stem)
    assert [segment.rows, segment.vectors] == sorted(_files(tmp_path, "*.npy"), reverse=True)
    segment.delete()
    assert _files(tmp_path, "*.npy") == []
