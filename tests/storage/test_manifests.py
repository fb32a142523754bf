from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import StoreError
from storage.manifests import Manifest, has_manifest, join, load_manifest, save_manifest

HASHES = np.arange(48, dtype=np.uint8).reshape(3, 16)
WORDS = Manifest(
    HASHES, np.array([0, 1, 1, 0, 2, 1]), ("A", "B", "C"), "token_classification", lengths=np.array([1, 3, 2])
)
SEVERAL = Manifest(
    HASHES, np.array([[True, False], [True, True], [False, False]]), ("ant", "bee"), "multilabel_classification"
)
NUMBERS = Manifest(HASHES, np.array([0.5, -1.0, 2.0]), (), "regression")
PAIRS = Manifest(HASHES, np.array([0, 1, 0]), ("no", "yes"), "pair_classification")
FIRST = Manifest(np.arange(48, dtype=np.uint8).reshape(3, 16), np.array([0, 1, 0]), ("ant", "bee"))
SECOND = Manifest(np.arange(48, 80, dtype=np.uint8).reshape(2, 16), np.array([1, 0]), ("bee", "cat"))


def test_a_manifest_is_loaded_by_its_fingerprint(tmp_path: Path) -> None:
    save_manifest(tmp_path / "manifests", FIRST)
    save_manifest(tmp_path / "manifests", SECOND)
    loaded = load_manifest(tmp_path / "manifests", FIRST.fingerprint)
    assert loaded.fingerprint == FIRST.fingerprint
    assert loaded.classes == FIRST.classes
    np.testing.assert_array_equal(loaded.row_hashes, FIRST.row_hashes)
    np.testing.assert_array_equal(loaded.labels, FIRST.labels)


@pytest.mark.parametrize("manifest", [WORDS, SEVERAL, NUMBERS, PAIRS], ids=lambda manifest: manifest.task)
def test_every_task_is_loaded_as_it_was_saved(manifest: Manifest, tmp_path: Path) -> None:
    save_manifest(tmp_path, manifest)
    loaded = load_manifest(tmp_path, manifest.fingerprint)
    assert (loaded.task, loaded.classes) == (manifest.task, manifest.classes)
    assert loaded.labels.dtype == manifest.labels.dtype
    np.testing.assert_array_equal(loaded.labels, manifest.labels)
    np.testing.assert_array_equal(loaded.feature_hashes, manifest.feature_hashes)
    assert loaded.fingerprint == manifest.fingerprint


def test_a_manifest_from_before_there_were_tasks_is_for_classification(tmp_path: Path) -> None:
    path = tmp_path / f"{FIRST.fingerprint}.npz"
    np.savez(path, row_hashes=FIRST.row_hashes, labels=FIRST.labels, classes=np.asarray(FIRST.classes))
    assert load_manifest(tmp_path, FIRST.fingerprint).fingerprint == FIRST.fingerprint


def test_fingerprints_of_classification_are_what_they_always_were() -> None:
    assert FIRST.fingerprint == "b4a9910f4c9c43c8b34c2c4f0e508460"


def test_task_and_lengths_are_part_of_the_fingerprint() -> None:
    classes = Manifest(PAIRS.row_hashes, PAIRS.labels, PAIRS.classes)
    otherwise_cut = replace(WORDS, lengths=np.array([2, 2, 2]))
    fingerprints = {each.fingerprint for each in (PAIRS, classes, WORDS, otherwise_cut, NUMBERS, SEVERAL)}
    assert len(fingerprints) == 6


def test_features_are_of_rows_or_of_their_words() -> None:
    assert PAIRS.feature_hashes is PAIRS.row_hashes
    assert WORDS.feature_hashes.shape == (6, 16)
    assert len({word.tobytes() for word in WORDS.feature_hashes}) == 6


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1))
def test_rows_are_taken_with_their_words(rows: list[int]) -> None:
    words = {0: [0], 1: [1, 2, 3], 2: [4, 5]}
    taken = WORDS.take(np.array(rows))
    numbers = [word for row in rows for word in words[row]]
    assert taken.labels.tolist() == WORDS.labels[numbers].tolist()
    np.testing.assert_array_equal(taken.feature_hashes, WORDS.feature_hashes[numbers])
    assert taken.lengths is not None
    assert taken.lengths.tolist() == [len(words[row]) for row in rows]


def test_targets_are_comparable_between_splits() -> None:
    assert WORDS.targets.tolist() == ["A", "B", "B", "A", "C", "B"]
    assert NUMBERS.targets.tolist() == [0.5, -1.0, 2.0]
    assert SEVERAL.targets_among(("bee", "cat", "ant")).tolist() == [
        [False, False, True],
        [True, False, True],
        [False, False, False],
    ]


@pytest.mark.parametrize("manifest", [FIRST, WORDS, SEVERAL, NUMBERS, PAIRS], ids=lambda manifest: manifest.task)
@given(cut=st.integers(1, 2))
def test_pieces_joined_are_the_whole(manifest: Manifest, cut: int) -> None:
    pieces = [manifest.take(np.arange(cut)), manifest.take(np.arange(cut, 3))]
    assert join(pieces).fingerprint == manifest.fingerprint


def test_classes_that_do_not_occur_are_left_out() -> None:
    assert join([SEVERAL.take(np.array([0]))]).classes == ("ant",)
    assert join([WORDS.take(np.array([0, 2]))]).classes == ("A", "B", "C")
    assert join([WORDS.take(np.array([0]))]).classes == ("A",)


def test_several_labels_are_joined_by_name() -> None:
    other = Manifest(HASHES[:1], np.array([[True, True]]), ("bee", "cat"), "multilabel_classification")
    joined = join([SEVERAL, other])
    assert joined.classes == ("ant", "bee", "cat")
    assert joined.labels[-1].tolist() == [False, True, True]


def test_rows_for_different_tasks_are_no_dataset() -> None:
    with pytest.raises(StoreError, match="rows for regression and rows for pair_classification are no dataset"):
        join([NUMBERS, PAIRS])


def test_labels_have_names() -> None:
    assert FIRST.targets.tolist() == ["ant", "bee", "ant"]
    assert SECOND.targets.tolist() == ["cat", "bee"]


def test_relabelling_is_another_dataset_of_the_same_rows() -> None:
    relabelled = Manifest(FIRST.row_hashes, 1 - FIRST.labels, FIRST.classes)
    assert relabelled.fingerprint != FIRST.fingerprint


def test_saving_again_leaves_one_file(tmp_path: Path) -> None:
    for _ in range(2):
        save_manifest(tmp_path, FIRST)
    assert [file.name for file in tmp_path.iterdir()] == [f"{FIRST.fingerprint}.npz"]


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 torn", b"no archive"])
def test_a_lost_or_torn_manifest_says_how_to_get_it_back(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / f"{FIRST.fingerprint}.npz").write_bytes(content)
    with pytest.raises(StoreError, match="cannot be read") as caught:
        load_manifest(tmp_path, FIRST.fingerprint)
    assert "datasets add" in (caught.value.fix or "")


@given(st.data())
def test_an_altered_manifest_is_whole_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("manifests")
    save_manifest(root, WORDS)
    path = root / f"{WORDS.fingerprint}.npz"
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "torn"):
        content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
    else:
        content[data.draw(st.integers(0, len(content) - 1), "place")] ^= data.draw(st.integers(1, 255), "change")
    path.write_bytes(content)
    load_manifest.cache_clear()
    try:
        loaded = load_manifest(root, WORDS.fingerprint)
    except StoreError:
        assert not has_manifest(root, WORDS.fingerprint)
    else:
        assert loaded.fingerprint == WORDS.fingerprint


def test_a_manifest_that_an_altered_byte_has_encrypted_is_refused(tmp_path: Path) -> None:
    save_manifest(tmp_path, WORDS)
    path = tmp_path / f"{WORDS.fingerprint}.npz"
    content = bytearray(path.read_bytes())
    # Of the first file of the archive's directory, eight bytes in, whether it is encrypted.
    content[content.index(b"PK\x01\x02") + 8] ^= 1
    path.write_bytes(content)
    load_manifest.cache_clear()
    with pytest.raises(StoreError):
        load_manifest(tmp_path, WORDS.fingerprint)


def test_a_manifest_of_another_dataset_is_refused(tmp_path: Path) -> None:
    save_manifest(tmp_path, SECOND)
    (tmp_path / f"{SECOND.fingerprint}.npz").rename(tmp_path / f"{FIRST.fingerprint}.npz")
    with pytest.raises(StoreError, match="not what it was"):
        load_manifest(tmp_path, FIRST.fingerprint)


def test_a_manifest_is_there_while_its_file_is(tmp_path: Path) -> None:
    assert not has_manifest(tmp_path, FIRST.fingerprint)
    save_manifest(tmp_path, FIRST)
    assert has_manifest(tmp_path, FIRST.fingerprint)
    (tmp_path / f"{FIRST.fingerprint}.npz").unlink()
    assert not has_manifest(tmp_path, FIRST.fingerprint)


def test_a_full_disk_leaves_the_former_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_manifest(tmp_path, FIRST)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", refuse)
    with pytest.raises(StoreError, match="No space left on device") as caught:
        save_manifest(tmp_path, FIRST)
    assert "free some disk space" in (caught.value.fix or "")
    assert [file.name for file in tmp_path.iterdir()] == [f"{FIRST.fingerprint}.npz"]
    assert has_manifest(tmp_path, FIRST.fingerprint)


def test_a_disk_that_refuses_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / f"{FIRST.fingerprint}.npz").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        save_manifest(tmp_path, FIRST)
    assert list(tmp_path.glob(".*.tmp")) == []
