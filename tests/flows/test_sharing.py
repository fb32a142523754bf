"""Machines with homes of their own that share a catalog and a store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.predicting import predict
from flows.registration import (
    refresh_datasets,
    refresh_models,
    register_dataset,
    register_finetuned,
    register_model,
)
from flows.upkeep import check_catalog
from storage.archives import copies_in
from storage.catalog import Catalog
from storage.database import Database
from storage.errors import EvaluationError, StoreError
from storage.lineage import Lineage, lineage_of, subject_of
from storage.manifests import load_manifest
from storage.settings import current_settings
from tasks.embedding import unchanged_model
from tasks.hub import download, find_snapshot
from tasks.reading import read_rows
from tasks.registration import inspect_model
from tasks.shared_datasets import local_dataset
from tests.hub import Hub
from tests.s3 import Server

Machine = Callable[[str], Catalog]


@pytest.fixture
def machine(home: Path, tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Go to a machine of that name: what it keeps is its own, the catalog and the store are everybody's."""
    monkeypatch.setenv("SHIFT_DATABASE_URL", f"sqlite:///{tmp_path / 'team.db'}")
    monkeypatch.setenv("SHIFT_STORE_URL", s3_url)

    def go(name: str) -> Catalog:
        monkeypatch.setenv("SHIFT_HOME", str(tmp_path / name))
        load_manifest.cache_clear()
        return Catalog(Database(current_settings()))

    return go


@pytest.fixture
def mine(pool: Any, tmp_path: Path) -> Path:
    """The directory of a model."""
    return Path(shutil.copytree(pool.models["bert"], tmp_path / "mine"))


@pytest.fixture
def table(pool: Any, tmp_path: Path) -> Path:
    return Path(shutil.copy(pool.datasets["nature-train"], tmp_path / "table.csv"))


def rows_of(catalog: Catalog, name: str) -> list[Any]:
    dataset = catalog.dataset(name)
    hashes = load_manifest(current_settings().manifests, dataset.fingerprint).row_hashes
    chunks = read_rows(dataset, np.arange(dataset.num_rows), hashes)
    return [row for rows, _ in chunks for row in rows]


def problems(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    return {finding.problem: finding.subjects for finding in check_catalog(catalog)}


# --- models -----------------------------------------------------------------------------------------------------------


def test_a_machine_without_a_models_files_opens_a_copy(machine: Machine, mine: Path, tmp_path: Path) -> None:
    record = register_model(machine("one"), "mine", str(mine))
    assert unchanged_model(machine("one"), "mine", record.fingerprint).path == str(mine)
    mine.rename(tmp_path / "away")
    catalog = machine("other")
    refresh_models(catalog)
    assert catalog.model("mine") == record
    opened = unchanged_model(catalog, "mine", record.fingerprint)
    assert Path(opened.path).is_relative_to(tmp_path / "other")
    assert Path(opened.path, "model.safetensors").read_bytes() == (tmp_path / "away/model.safetensors").read_bytes()
    assert catalog.model("mine").path == str(mine)
    # So does the machine that had them.
    catalog = machine("one")
    refresh_models(catalog)
    assert Path(unchanged_model(catalog, "mine", record.fingerprint).path).is_relative_to(tmp_path / "one")


def test_looking_for_changes_asks_nothing_of_the_store(
    machine: Machine, mine: Path, table: Path, s3_server: Server
) -> None:
    catalog = machine("one")
    register_model(catalog, "mine", str(mine))
    register_dataset(catalog, "table", str(table))
    shutil.rmtree(mine)
    table.unlink()
    catalog = machine("other")
    load_manifest(current_settings().manifests, catalog.dataset("table").fingerprint)
    s3_server.requests.clear()
    refresh_models(catalog)
    refresh_datasets(catalog, {"table"})
    assert s3_server.requests == []


def test_another_file_of_the_same_path_changes_nothing(machine: Machine, mine: Path, tmp_path: Path) -> None:
    record = register_model(machine("one"), "mine", str(mine))
    config = mine / "config.json"
    whole = config.read_text()
    config.write_text(whole + " ")
    catalog = machine("other")
    for _ in range(2):
        refresh_models(catalog)
        assert catalog.model("mine") == record
        opened = unchanged_model(catalog, "mine", record.fingerprint)
        assert Path(opened.path, "config.json").read_text() == whole


def test_equal_files_of_the_same_path_are_read_once_and_are_no_change(
    machine: Machine, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = register_model(machine("one"), "mine", str(mine))
    config = mine / "config.json"
    config.write_text(config.read_text())
    for name in ("other", "one", "other"):
        catalog = machine(name)
        refresh_models(catalog)
        assert catalog.model("mine") == record
        assert unchanged_model(catalog, "mine", record.fingerprint).path == str(mine)
    monkeypatch.setattr("tasks.shared_models.fingerprint_of_model", None)
    assert unchanged_model(machine("other"), "mine", record.fingerprint).path == str(mine)


def test_a_change_where_it_was_registered_is_everybodys(machine: Machine, mine: Path, tmp_path: Path) -> None:
    before = register_model(machine("one"), "mine", str(mine))
    config = mine / "config.json"
    config.write_text(config.read_text() + " ")
    catalog = machine("one")
    with pytest.raises(EvaluationError, match="changed since"):
        unchanged_model(catalog, "mine", before.fingerprint)
    refresh_models(catalog)
    after = catalog.model("mine")
    assert after.fingerprint != before.fingerprint
    mine.rename(tmp_path / "away")
    opened = unchanged_model(machine("other"), "mine", after.fingerprint)
    assert Path(opened.path, "config.json").read_text() == (tmp_path / "away/config.json").read_text()


def test_a_model_that_nobody_has_is_told_and_the_doctor_puts_it_there(
    machine: Machine, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        catalog = machine("one")
        patch.delenv("SHIFT_STORE_URL")
        record = register_model(catalog, "mine", str(mine))
    mine.rename(tmp_path / "away")
    catalog = machine("other")
    with pytest.raises(EvaluationError, match=r"neither at .* nor in the shared store") as caught:
        unchanged_model(catalog, "mine", record.fingerprint)
    assert caught.value.transient
    assert "doctor --fix" in (caught.value.fix or "")
    assert problems(catalog) == {"models whose files are neither here nor in the shared store": ("mine",)}
    (tmp_path / "away").rename(mine)
    catalog = machine("one")
    assert problems(catalog) == {"models that the shared store lacks": ("mine",)}
    for finding in check_catalog(catalog):
        assert finding.mended().fixed
    assert problems(catalog) == {}
    mine.rename(tmp_path / "away")
    assert unchanged_model(machine("other"), "mine", record.fingerprint).fingerprint == record.fingerprint


def test_copies_are_kept_within_the_limit_of_models(
    machine: Machine, pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = machine("one")
    records = {}
    for name in ("bert", "roberta", "vit"):
        path = shutil.copytree(pool.models[name], tmp_path / name)
        records[name] = register_model(catalog, name, str(path))
        shutil.rmtree(path)
    catalog = machine("other")
    unchanged_model(catalog, "bert", records["bert"].fingerprint)
    (bert,) = copies_in(current_settings())
    monkeypatch.setenv("SHIFT_MODELS_LIMIT", str(int(bert.size_bytes * 2.5)))
    for name in ("roberta", "bert", "vit"):
        unchanged_model(catalog, name, records[name].fingerprint)
    assert {each.name[1] for each in copies_in(current_settings())} == {
        records[name].fingerprint for name in ("bert", "vit")
    }


def test_what_is_untrusted_stays_so_elsewhere(machine: Machine, mine: Path) -> None:
    record = register_model(machine("one"), "mine", str(mine))
    shutil.rmtree(mine)
    assert not unchanged_model(machine("other"), "mine", record.fingerprint).trusted


def test_a_kept_model_is_opened_elsewhere_too(machine: Machine, mine: Path, pool: Any) -> None:
    catalog = machine("one")
    parent = subject_of(register_model(catalog, "parent", str(pool.models["bert"])))
    config = json.loads((mine / "config.json").read_text())
    (mine / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.2}))
    lineage = Lineage("asked", "FINETUNE …", (parent,), "evaluation", parent, (), {}, "validation_accuracy", 0.9)
    kept = register_finetuned(catalog, "kept", mine, "nature-train", lineage)
    shutil.rmtree(mine)
    catalog = machine("other")
    assert Path(unchanged_model(catalog, "kept", kept.fingerprint).path, "config.json").is_file()
    assert lineage_of(catalog.model("kept")) == replace(lineage, content=kept.fingerprint)


def test_a_hubs_model_is_opened_where_this_machine_downloaded_it(machine: Machine, hub: Hub, pool: Any) -> None:
    hub.add("me/vit", pool.models["vit"])
    paths = {}
    for name in ("one", "other"):
        catalog = machine(name)
        record = catalog.save_model("mine", {**inspect_model("me/vit"), "fingerprint": "content"})
        paths[name] = download(find_snapshot("me/vit", record.revision), lambda _: None)
        catalog.save_model("mine", {"path": str(paths[name])})
    catalog = machine("one")
    shutil.rmtree(paths["other"])
    assert unchanged_model(catalog, "mine", "content").path == str(paths["one"])


# --- datasets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nature-train", "photos-train", "colours-train"])
def test_a_machine_without_a_datasets_files_reads_a_copy(
    machine: Machine, pool: Any, tmp_path: Path, name: str
) -> None:
    source = pool.datasets[name]
    path = tmp_path / "data" / source.name
    path.parent.mkdir()
    shutil.copytree(source, path) if source.is_dir() else shutil.copy(source, path)
    catalog = machine("one")
    record = register_dataset(catalog, "mine", str(path))
    rows = rows_of(catalog, "mine")
    path.rename(tmp_path / "away")
    catalog = machine("other")
    assert refresh_datasets(catalog, {"mine"}) == []
    assert catalog.dataset("mine") == record
    copied = rows_of(catalog, "mine")
    assert len(copied) == len(rows)
    assert all(np.array_equal(one, other) for one, other in zip(copied, rows, strict=True))
    assert Path(local_dataset(record).path).is_relative_to(tmp_path / "other")


def test_splits_of_one_folder_are_one_archive(machine: Machine, pool: Any, tmp_path: Path, s3_server: Server) -> None:
    for split in ("train", "test"):
        (tmp_path / "nature").mkdir(exist_ok=True)
        shutil.copy(pool.datasets[f"nature-{split}"], tmp_path / "nature" / f"{split}.csv")
    catalog = machine("one")
    s3_server.requests.clear()
    for split in ("train", "test"):
        register_dataset(catalog, split, str(tmp_path / "nature"), options={"split": split})
    assert sum(request.startswith("PUT") and ".tar" in request for request in s3_server.requests) == 1
    rows = [rows_of(catalog, split) for split in ("train", "test")]
    shutil.rmtree(tmp_path / "nature")
    catalog = machine("other")
    assert [rows_of(catalog, split) for split in ("train", "test")] == rows


def test_a_change_of_a_dataset_where_it_was_registered_is_everybodys(machine: Machine, table: Path) -> None:
    register_dataset(machine("one"), "mine", str(table))
    with table.open("a") as file:
        file.write("one more moss,plants\n")
    catalog = machine("other")
    assert refresh_datasets(catalog, {"mine"}) == []
    assert len(rows_of(catalog, "mine")) == 36
    catalog = machine("one")
    assert refresh_datasets(catalog, {"mine"}) == ["mine"]
    table.unlink()
    assert len(rows_of(machine("other"), "mine")) == 37


def test_a_dataset_that_nobody_has_is_told_and_the_doctor_puts_it_there(
    machine: Machine, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        catalog = machine("one")
        patch.delenv("SHIFT_STORE_URL")
        record = register_dataset(catalog, "mine", str(table))
    table.rename(tmp_path / "away")
    catalog = machine("other")
    with pytest.raises(StoreError, match=r"neither at .* nor in the shared store"):
        local_dataset(record)
    assert problems(catalog) == {"datasets whose files are neither here nor in the shared store": ("mine",)}
    (tmp_path / "away").rename(table)
    catalog = machine("one")
    assert problems(catalog) == {
        "datasets that the shared store lacks": ("mine",),
        "datasets whose manifest the shared store lacks": ("mine",),
    }
    for finding in check_catalog(catalog):
        assert finding.mended().fixed
    table.unlink()
    assert len(rows_of(machine("other"), "mine")) == 36


def test_images_that_lie_elsewhere_are_told(machine: Machine, pool: Any, tmp_path: Path) -> None:
    images = sorted(pool.datasets["photos-train"].rglob("*.png"))
    (tmp_path / "sheet").mkdir()
    lines = [f"{image},{image.parent.name}" for image in images]
    (tmp_path / "sheet" / "photos.csv").write_text("\n".join(["image,label", *lines]) + "\n")
    register_dataset(machine("one"), "mine", str(tmp_path / "sheet" / "photos.csv"))
    (finding,) = check_catalog(machine("one"))
    assert finding.problem == "datasets that the shared store lacks"
    assert "which lies elsewhere" in finding.mended().fix


def test_predictions_are_made_with_copies(
    machine: Machine, mine: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import import_module

    from tasks.host import Host

    def call(host: Host, function: str, **arguments: Any) -> Any:
        module, _, attribute = function.partition(":")
        return getattr(import_module(module), attribute)(**arguments)

    monkeypatch.setattr(Host, "call", call)
    catalog = machine("one")
    register_model(catalog, "mine", str(mine))
    register_dataset(catalog, "table", str(table))
    said = predict(catalog, "mine", "table")
    shutil.rmtree(mine)
    table.unlink()
    assert predict(machine("other"), "mine", "table") == said
