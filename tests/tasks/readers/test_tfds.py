"""The TFDS reader against a stand-in for the package, which has the part of its interface that is used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from storage.errors import StoreError
from tasks.readers import guess_reader, open_reader, split_names

EXAMPLES = {
    "train": [
        {"text": b"gr\xc3\xbcn", "label": np.int64(1)},
        {"text": b"rot", "label": np.int64(0)},
        {"text": b"\xff", "label": np.int64(0)},
    ],
    "test": [{"text": b"blau", "label": np.int64(0)}],
}


class _Builder:
    def __init__(self) -> None:
        features = {"text": SimpleNamespace(), "label": SimpleNamespace(names=["neg", "pos"])}
        self.info = SimpleNamespace(features=features, splits={"train": None, "test": None})

    def as_dataset(self, split: str, shuffle_files: bool) -> list[dict[str, Any]]:
        assert not shuffle_files
        return EXAMPLES[split]


@pytest.fixture
def prepared(tmp_path: Path) -> str:
    (tmp_path / "features.json").write_text("{}")
    (tmp_path / "dataset_info.json").write_text("{}")
    return str(tmp_path)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tensorflow_datasets")
    module.__spec__ = SimpleNamespace()  # type: ignore[assignment]
    module.builder_from_directory = lambda path: _Builder()  # type: ignore[attr-defined]
    module.as_numpy = lambda dataset: _numpy(dataset)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)


def _numpy(dataset: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield from dataset


def test_splits_rows_and_class_names_are_the_builders(prepared: str, package: None) -> None:
    assert guess_reader(prepared) == "tfds"
    assert split_names("tfds", prepared, {}) == ["train", "test"]
    reader = open_reader("tfds", prepared, {})
    assert reader.schema().classes == ("neg", "pos")
    assert [row for chunk in reader.chunks() for row in chunk.rows] == ["grün", "rot"]
    assert reader.skipped.first == f"{prepared}, train, row 2: column 'text' is not UTF-8 text"
    assert reader.files() == [f"{prepared}/dataset_info.json", f"{prepared}/features.json"]
    test = open_reader("tfds", prepared, {"split": "test"})
    assert [row for chunk in test.chunks() for row in chunk.rows] == ["blau"]


def test_a_missing_package_is_named(prepared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.readers.tfds.find_spec", lambda name: None)
    with pytest.raises(StoreError, match="not installed") as caught:
        open_reader("tfds", prepared, {})
    assert "pip install tensorflow-datasets" in (caught.value.fix or "")
