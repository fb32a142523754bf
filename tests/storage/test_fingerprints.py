from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.evaluations import Evaluation, Subject
from storage.fingerprints import (
    DIGEST_BYTES,
    fingerprint_of,
    fingerprint_of_file,
    fingerprint_of_model,
    fingerprint_of_rows,
    signature_of_files,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
HASHES = np.arange(48, dtype=np.uint8).reshape(3, 16)
LABELS = np.array([0, 1, 0])


@given(JSON)
def test_a_fingerprint_is_hexadecimal_and_repeats(part: object) -> None:
    assert fingerprint_of(part) == fingerprint_of(part)
    assert len(bytes.fromhex(fingerprint_of(part))) == DIGEST_BYTES


@given(JSON, JSON)
def test_where_one_part_ends_and_the_next_begins_counts(first: object, second: object) -> None:
    assert len({fingerprint_of(first, second), fingerprint_of([first, second]), fingerprint_of(first)}) == 3


def test_the_order_of_keys_does_not_count_and_the_types_of_values_do() -> None:
    assert fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    assert len({fingerprint_of(value) for value in (1, 1.5, "1", True, None, [1])}) == 6


def test_what_is_not_a_number_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="JSON"):
        fingerprint_of(float("nan"))


def test_a_file_is_its_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path, content in zip(paths, (b"x" * 3_000_000, b"x" * 3_000_000, b"x" * 2_999_999 + b"y"), strict=True):
        path.write_bytes(content)
    first, same, other = map(fingerprint_of_file, paths)
    assert first == same != other


def test_a_model_is_its_files_wherever_they_lie(tmp_path: Path) -> None:
    def saved(place: str, *names: str, content: str = "weights") -> str:
        root = tmp_path / place
        root.mkdir()
        for name in names:
            (root / name).write_text(content)
        return fingerprint_of_model(root, [root / name for name in names])

    original = saved("here", "config.json", "model.safetensors")
    assert original == saved("there", "config.json", "model.safetensors")
    assert original != saved("renamed", "config.json", "other.safetensors")
    assert original != saved("retrained", "config.json", "model.safetensors", content="others")
    assert original != saved("partly", "config.json")


def test_a_dataset_is_its_rows_labels_and_class_names() -> None:
    original = fingerprint_of_rows(HASHES, LABELS, ["a", "b"])
    assert original == fingerprint_of_rows(np.asfortranarray(HASHES), LABELS.astype(np.int32), ("a", "b"))
    assert original != fingerprint_of_rows(HASHES[::-1], LABELS, ["a", "b"])
    assert original != fingerprint_of_rows(HASHES, 1 - LABELS, ["a", "b"])
    assert original != fingerprint_of_rows(HASHES, LABELS, ["a", "c"])


def test_a_signature_changes_with_content_whatever_time_it_is_given_and_with_the_set_of_files(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for path in (first, second):
        path.write_text("content")
        os.utime(path, ns=(1, 1))
    signature = signature_of_files([first, second])
    assert signature == signature_of_files([first, second])
    assert signature != signature_of_files([first])
    os.utime(first, ns=(1, 2))
    touched = signature_of_files([first, second])
    first.write_text("CONTENT")
    os.utime(first, ns=(1, 2))
    assert len({signature, touched, signature_of_files([first, second])}) == 3


def test_a_signature_of_a_lost_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        signature_of_files([tmp_path / "gone"])


def test_an_evaluation_is_identified_by_content_and_never_by_names() -> None:
    def fingerprint(**changes: object) -> str:
        parts: dict[str, object] = {
            "model": Subject("resnet", "m"),
            "train": Subject("digits-train", "d"),
            "test": Subject("digits-test", "t"),
            "method": "linear",
            "version": "1",
            "params": {"lr": 0.1, "epochs": 3},
        }
        return Evaluation(**(parts | changes)).fingerprint  # type: ignore[arg-type]

    original = fingerprint()
    assert original == fingerprint(model=Subject("renamed", "m"), train=Subject("moved", "d"))
    assert original == fingerprint(params={"epochs": 3, "lr": 0.1}, fidelity={})
    others = [
        fingerprint(model=Subject("resnet", "other")),
        fingerprint(train=Subject("digits-train", "other")),
        fingerprint(test=Subject("digits-test", "other")),
        fingerprint(test=None),
        fingerprint(method="cosine_nn"),
        fingerprint(version="2"),
        fingerprint(params={"lr": 0.2, "epochs": 3}),
        fingerprint(fidelity={"rows": 10}),
    ]
    assert len({original, *others}) == len(others) + 1
