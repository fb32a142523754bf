from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from storage.catalog import Catalog
from storage.errors import EvaluationError, StoreError
from storage.manifests import load_manifest
from storage.settings import current_settings
from tasks.registration import changed_dataset, changed_model, inspect_dataset, inspect_model


def test_a_model_is_what_its_files_say(home: Path, pool: Any) -> None:
    columns = inspect_model(str(pool.models["vit"]))
    assert columns["source"] == "huggingface"
    assert columns["path"] == str(pool.models["vit"])
    assert columns["modality"] == "image"
    assert columns["fingerprint"] != inspect_model(str(pool.models["bert"]))["fingerprint"]


def test_a_copy_of_a_model_is_the_same_model(home: Path, pool: Any, tmp_path: Path) -> None:
    copy = shutil.copytree(pool.models["bert"], tmp_path / "copy")
    assert inspect_model(str(copy))["fingerprint"] == inspect_model(str(pool.models["bert"]))["fingerprint"]


@pytest.mark.parametrize("location", ["no/such/folder", "./missing", "/missing"])
def test_a_model_that_is_not_there_is_an_error(home: Path, location: str) -> None:
    with pytest.raises(StoreError):
        inspect_model(location)


def test_a_folder_without_a_model_says_what_one_looks_like(home: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a model directory") as caught:
        inspect_model(str(tmp_path))
    assert any("config.json" in allowed for allowed in caught.value.allowed)
    with pytest.raises(StoreError, match="no model source 'torchvision'"):
        inspect_model(str(tmp_path), "torchvision")


def test_a_torn_config_is_an_error(home: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EvaluationError, match=r"config\.json"):
        inspect_model(str(tmp_path))


def test_an_untouched_model_is_not_read_again(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.registration.fingerprint_of_model", None)
    assert [changed_model(model) for model in catalog.models()] == [None] * 4


def test_a_touched_model_keeps_its_fingerprint_and_a_changed_one_does_not(
    catalog: Catalog, pool: Any, tmp_path: Path
) -> None:
    path = shutil.copytree(pool.models["bert"], tmp_path / "mine")
    before = catalog.save_model("mine", inspect_model(str(path)))
    os.utime(path / "config.json", ns=(1, 1))
    touched = changed_model(before)
    assert touched is not None
    assert touched["fingerprint"] == before.fingerprint
    (path / "model.safetensors").write_bytes(b"others")
    changed = changed_model(before)
    assert changed is not None
    assert changed["fingerprint"] != before.fingerprint


def test_a_lost_model_changes_once_and_can_come_back(catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    path = shutil.copytree(pool.models["bert"], tmp_path / "mine")
    before = catalog.save_model("mine", inspect_model(str(path)))
    path.rename(tmp_path / "away")
    lost = changed_model(before)
    assert lost is not None
    assert lost["fingerprint"] != before.fingerprint
    (tmp_path / "away").rename(path)
    found = changed_model(catalog.save_model("mine", lost))
    assert found is not None
    assert found["fingerprint"] == before.fingerprint


@pytest.mark.parametrize(
    ("name", "reader", "modality", "classes"),
    [
        ("nature-train", "csv", "text", ["animals", "plants"]),
        ("colours-train", "numpy", "image", ["blue", "green", "red"]),
        ("photos-train", "image_folder", "image", ["blue", "green", "red"]),
    ],
)
def test_a_dataset_is_what_its_rows_are(
    home: Path, pool: Any, name: str, reader: str, modality: str, classes: list[str]
) -> None:
    columns = inspect_dataset(str(pool.datasets[name]))
    assert (columns["type"], columns["modality"], columns["task"]) == (reader, modality, "classification")
    assert (columns["num_rows"], columns["num_classes"], json.loads(columns["classes"])) == (36, len(classes), classes)
    manifest = load_manifest(current_settings().manifests, columns["fingerprint"])
    assert len(manifest.row_hashes) == 36
    assert sorted(set(manifest.targets)) == classes


def test_an_untouched_dataset_is_not_read_again(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.registration.inspect_dataset", None)
    assert [changed_dataset(dataset) for dataset in catalog.datasets()] == [None] * 6


def test_a_lost_dataset_is_an_error_that_says_what_to_do(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("text,label\na,x\nb,y\n")
    record = catalog.save_dataset("mine", inspect_dataset(str(path)))
    path.unlink()
    with pytest.raises(StoreError, match="mine are gone") as caught:
        changed_dataset(record)
    assert "datasets remove mine" in (caught.value.fix or "")
    with pytest.raises(StoreError, match="no file or folder"):
        inspect_dataset(str(path))
