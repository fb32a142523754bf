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
from tests.torch_models import install_package, save_programs


def test_a_model_is_what_its_files_say(home: Path, pool: Any) -> None:
    columns = inspect_model(str(pool.models["vit"]))
    assert columns["source"] == "huggingface"
    assert columns["path"] == str(pool.models["vit"])
    assert columns["modality"] == "image"
    assert columns["fingerprint"] != inspect_model(str(pool.models["bert"]))["fingerprint"]


def test_a_copy_of_a_model_is_the_same_model(home: Path, pool: Any, tmp_path: Path) -> None:
    copy = shutil.copytree(pool.models["bert"], tmp_path / "copy")
    assert inspect_model(str(copy))["fingerprint"] == inspect_model(str(pool.models["bert"]))["fingerprint"]


def test_a_file_is_the_same_model_under_another_name(home: Path, tmp_path: Path) -> None:
    save_programs(tmp_path)
    path = tmp_path / "any number.pt2"
    columns = describe_file(path)
    assert columns["fingerprint"] == describe_file(shutil.copy(path, tmp_path / "renamed.pt2"))["fingerprint"]
    assert (columns["source"], columns["modality"], columns["image_size"]) == ("torch", "image", 16)
    assert columns["num_params"] == 3 * 8 * 9 + 8 + 8 * 3 + 3
    assert columns["dtype"] == "float32"


def test_an_installed_package_is_a_model_by_the_name_of_its_entry_point(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = install_package(tmp_path / "installed", "small")
    monkeypatch.syspath_prepend(str(installed))
    columns = describe_file(Path("small-sentences"))
    assert (columns["source"], columns["path"], columns["modality"]) == ("torch", "small-sentences", "text")
    (installed / "small_models" / "__init__.py").open("a").write("# changed")
    assert describe_file(Path("small-sentences"))["fingerprint"] != columns["fingerprint"]


def test_the_components_of_a_dataset_are_a_model(catalog: Catalog) -> None:
    columns = inspect_model("pca:photos-train?components=7")
    assert (columns["source"], columns["modality"], columns["embedding_dim"]) == ("pca", "image", 7)
    assert columns["upstream_dataset"] == "photos-train"
    # Fitted again, they are the same model; to another dataset or of another number, another.
    same, other, more = (
        inspect_model(f"pca:{name}")["fingerprint"]
        for name in ("photos-train?components=7", "colours-train?components=7", "photos-train")
    )
    assert columns["fingerprint"] == same
    assert len({same, other, more}) == 3
    with pytest.raises(StoreError, match="no dataset named 'photo-train'"):
        inspect_model("pca:photo-train")
    with pytest.raises(StoreError, match="components is '0'"):
        inspect_model("pca:photos-train?components=0")


def describe_file(path: Path | str) -> dict[str, Any]:
    """What is registered of a model of torch, described in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.registration.DESCRIBED_IN_HOST", set())
        return inspect_model(str(path))


def test_a_model_is_refused_before_its_files_are_read(
    home: Path, pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copytree(pool.models["bert"], tmp_path / "bert")
    (path / "vocab.txt").symlink_to("/dev/zero")
    monkeypatch.setattr("tasks.registration.fingerprint_of_model", None)
    with pytest.raises(EvaluationError, match="outside the directory"):
        inspect_model(str(path))


def test_what_a_person_told_of_a_model_outlives_a_change_of_its_card(
    catalog: Catalog, pool: Any, tmp_path: Path
) -> None:
    path = shutil.copytree(pool.models["bert"], tmp_path / "mine")
    (path / "README.md").write_text("---\nlicense: mit\ntags: [small, english]\n---\nA card.\n")
    columns = inspect_model(str(path))
    assert (columns["licence"], columns["tags"]) == ("mit", "small,english")
    before = catalog.save_model("mine", {**columns, "licence": "apache-2.0"})
    (path / "config.json").write_text((path / "config.json").read_text() + " ")
    changes = changed_model(before)
    assert changes is not None
    assert "licence" not in changes


@pytest.mark.parametrize("location", ["no/such/folder", "./missing", "/missing"])
def test_a_model_that_is_not_there_is_an_error(home: Path, location: str) -> None:
    with pytest.raises(StoreError):
        inspect_model(location)


def test_a_folder_without_a_model_says_what_one_looks_like(home: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no model") as caught:
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


def test_a_directory_that_was_emptied_is_a_lost_model(
    catalog: Catalog, saved_models: dict[str, Path], tmp_path: Path
) -> None:
    path = shutil.copytree(saved_models["text"], tmp_path / "mine")
    columns = {"path": str(path), "source": "tfhub", "fingerprint": "f", "signature": "s", "modality": "text"}
    before = catalog.save_model("mine", columns)
    for file in path.iterdir():
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    lost = changed_model(before)
    assert lost is not None
    assert lost["fingerprint"].startswith("unreadable")


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


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 torn"])
def test_a_dataset_whose_manifest_is_lost_or_torn_is_read_again(catalog: Catalog, content: bytes | None) -> None:
    dataset = catalog.dataset("nature-train")
    manifest = current_settings().manifests / f"{dataset.fingerprint}.npz"
    manifest.unlink()
    if content is not None:
        manifest.write_bytes(content)
    load_manifest.cache_clear()
    changed = changed_dataset(dataset)
    assert changed is not None
    assert changed["fingerprint"] == dataset.fingerprint
    assert load_manifest(current_settings().manifests, dataset.fingerprint).num_rows == dataset.num_rows
    assert changed_dataset(dataset) is None


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
