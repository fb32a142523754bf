from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.errors import StoreError
from storage.manifests import Manifest, load_manifest, save_manifest

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


def test_a_disk_that_refuses_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / f"{FIRST.fingerprint}.npz").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        save_manifest(tmp_path, FIRST)
    assert list(tmp_path.glob(".*.tmp")) == []
