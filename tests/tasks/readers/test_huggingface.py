from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from storage.errors import StoreError
from tasks.readers import open_reader, split_names

MADE = datasets.Dataset.from_dict({"text": ["red", "blue"], "label": ["a", "b"]})


def test_splits_are_those_of_the_saved_dictionary(tmp_path: Path) -> None:
    datasets.DatasetDict(train=MADE, dev=MADE.select([0])).save_to_disk(str(tmp_path / "saved"))
    assert split_names("huggingface", str(tmp_path / "saved"), {}) == ["train", "validation"]
    assert open_reader("huggingface", str(tmp_path / "saved"), {"split": "val"}).schema().num_rows == 1


@pytest.mark.parametrize(
    "state",
    [
        "",
        "[]",
        "{}",
        '{"_data_files": []}',
        '{"_data_files": [1]}',
        '{"_data_files": [{"filename": "../../secret.arrow"}]}',
    ],
)
def test_a_state_that_does_not_fit_is_refused(state: str, tmp_path: Path) -> None:
    MADE.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / "state.json").write_text(state)
    with pytest.raises(StoreError, match=r"state\.json"):
        open_reader("huggingface", str(tmp_path / "saved"), {}).schema()


def test_a_dataset_by_its_id_is_read_from_the_librarys_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MADE.save_to_disk(str(tmp_path / "cached"))
    asked: list[Any] = []

    def load_dataset(name: str, config: str | None) -> datasets.DatasetDict:
        asked.append((name, config))
        return datasets.DatasetDict(train=datasets.load_from_disk(str(tmp_path / "cached")))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    reader = open_reader("huggingface", "hf://datasets/owner/name", {"config": "english"})
    assert [row for chunk in reader.chunks() for row in chunk.rows] == ["red", "blue"]
    assert asked == [("owner/name", "english")]


def test_a_hub_that_cannot_be_reached_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, config: str | None) -> None:
        raise ConnectionError("Couldn't reach the Hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(StoreError, match="owner/name cannot be had: Couldn't reach the Hub") as caught:
        open_reader("huggingface", "hf://owner/name", {})
    assert "save_to_disk" in (caught.value.fix or "")


def test_class_names_of_the_saved_features_are_used(tmp_path: Path) -> None:
    named = MADE.cast_column("label", datasets.ClassLabel(names=["b", "a"]))
    named.save_to_disk(str(tmp_path / "saved"))
    assert "features" in json.loads((tmp_path / "saved" / "dataset_info.json").read_text())
    reader = open_reader("huggingface", str(tmp_path / "saved"), {})
    assert reader.schema().classes == ("a", "b")
    assert next(reader.chunks()).labels.tolist() == [0, 1]
