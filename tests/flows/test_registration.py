from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.registration import refresh_models, register_model, register_models, register_starters
from storage.catalog import Catalog
from storage.database import Database
from storage.errors import StoreError
from storage.settings import current_settings
from tasks.hub import download, find_snapshot
from tasks.registration import inspect_model
from tests.hub import Hub, recorded


def test_a_name_given_anew_keeps_nothing_of_the_model_before_least_of_all_trust(catalog: Catalog, pool: Any) -> None:
    told = {"trusted": True, "upstream_accuracy": 0.9, "tags": "old"}
    register_model(catalog, "mine", str(pool.models["bert"]), columns=told)
    again = register_model(catalog, "mine", str(pool.models["roberta"]))
    assert (again.trusted, again.upstream_accuracy, again.tags) == (False, None, "")


def test_trust_ends_and_columns_follow_when_the_files_change(catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    path = Path(shutil.copytree(pool.models["bert"], tmp_path / "mine"))
    before = register_model(catalog, "mine", str(path), columns={"trusted": True})
    os.utime(path / "config.json", ns=(1, 1))
    refresh_models(catalog)
    assert catalog.model("mine").trusted
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"architectures": ["OtherModel"]}))
    refresh_models(catalog)
    after = catalog.model("mine")
    assert after.fingerprint != before.fingerprint
    assert after.architecture == "OtherModel"
    assert not after.trusted


def test_many_models_are_registered_and_what_cannot_be_is_listed_with_its_reason(
    catalog: Catalog, hub: Hub, pool: Any, tmp_path: Path
) -> None:
    hub.listing = recorded("models.json")
    for entry in hub.listing:
        (tmp_path / entry["id"]).mkdir(parents=True)
        for name in ("config.json", "tokenizer_config.json"):
            shutil.copy(pool.models["bert"] / name, tmp_path / entry["id"])
        hub.add(entry["id"], tmp_path / entry["id"], **entry)
    url = "hf://models?task=text-classification&limit=50&sort=downloads"
    first, gated, speech, gguf = register_models(catalog, url, "hub", columns={"upstream_dataset": "told"})
    assert [outcome.status for outcome in (first, gated, speech, gguf)] == ["added", "added", "failed", "failed"]
    assert "automatic-speech-recognition" in (speech.reason or "")
    assert "HF_TOKEN" in (gated.reason or "")
    model = catalog.model("hub/distilbert/distilbert-base-uncased-finetuned-sst-2-english")
    assert (model.num_params, model.upstream_dataset, model.is_local) == (66955010, "told", False)
    assert hub.downloads() == []
    again = list(register_models(catalog, url, "hub"))
    assert [outcome.status for outcome in again] == ["updated", "updated", "failed", "failed"]
    assert catalog.model(model.name).upstream_dataset == "sst2"


def test_two_of_one_name_are_not_both_registered(home: Path, pool: Any, tmp_path: Path) -> None:
    catalog = Catalog(Database(current_settings()))
    bert, vit = pool.models["bert"], pool.models["vit"]
    (tmp_path / "pool.csv").write_text(f"name,path\nsame,{bert}\nsame,{vit}\nother,{vit}\n")
    outcomes = list(register_models(catalog, str(tmp_path / "pool.csv")))
    assert [outcome.status for outcome in outcomes] == ["added", "failed", "added"]
    assert catalog.model("same").path == str(bert)


def test_a_model_by_its_hub_id_is_known_at_once_and_downloaded_later(hub: Hub, pool: Any) -> None:
    catalog = Catalog(Database(current_settings()))
    commit = hub.add("me/vit", pool.models["vit"]).commit
    model = register_model(catalog, "mine", "hf://me/vit@main")
    assert (model.handle, model.revision, model.path, model.is_local) == ("me/vit", commit, "", False)
    assert (model.modality, model.image_size) == ("image", 16)
    assert model.size_bytes == (pool.models["vit"] / "model.safetensors").stat().st_size
    assert hub.downloads() == []
    assert register_model(catalog, "other", "me/vit").fingerprint == model.fingerprint


def test_what_a_download_told_stays_when_the_same_commit_is_registered_again(hub: Hub, pool: Any) -> None:
    catalog = Catalog(Database(current_settings()))
    repository = hub.add("me/vit", pool.models["vit"])
    register_model(catalog, "mine", "me/vit", columns={"trusted": True})
    told = {"path": str(pool.models["vit"]), "fingerprint": "content", "signature": "files", "token_length": 7}
    catalog.save_model("mine", told)
    again = register_model(catalog, "mine", "me/vit")
    assert {column: getattr(again, column) for column in told} == told
    assert not again.trusted
    repository.told["sha"] = "0" * 40
    newer = register_model(catalog, "mine", "me/vit")
    assert (newer.path, newer.revision, newer.token_length) == ("", "0" * 40, None)


def test_a_name_given_to_a_directory_forgets_the_hub(hub: Hub, pool: Any) -> None:
    catalog = Catalog(Database(current_settings()))
    hub.add("me/vit", pool.models["vit"])
    register_model(catalog, "mine", "me/vit")
    model = register_model(catalog, "mine", str(pool.models["bert"]))
    assert (model.handle, model.revision, model.image_size, model.is_local) == (None, None, None, True)


def test_a_model_that_is_not_downloaded_or_no_longer_is_unchanged(hub: Hub, pool: Any, tmp_path: Path) -> None:
    catalog = Catalog(Database(current_settings()))
    hub.add("me/vit", pool.models["vit"])
    pending = register_model(catalog, "mine", "me/vit")
    evicted = catalog.save_model("evicted", {**inspect_model("me/vit"), "path": "/gone", "fingerprint": "content"})
    refresh_models(catalog)
    assert catalog.model("mine").fingerprint == pending.fingerprint
    assert catalog.model("evicted").fingerprint == evicted.fingerprint


def test_out_of_reach_a_model_is_registered_by_an_earlier_download(
    hub: Hub, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(Database(current_settings()))
    commit = hub.add("me/vit", pool.models["vit"]).commit
    path = download(find_snapshot("me/vit", "main"), lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = register_model(catalog, "mine", f"me/vit@{commit}")
    assert (model.path, model.handle, model.revision) == (str(path), "me/vit", commit)
    with pytest.raises(StoreError, match="HF_HUB_OFFLINE"):
        register_model(catalog, "other", "me/other")


def test_starters_are_registered_without_a_network_and_again(home: Path) -> None:
    catalog = Catalog(Database(current_settings()))
    assert [outcome.status for outcome in register_starters(catalog, "text")] == ["added"] * 30
    assert [outcome.status for outcome in register_starters(catalog, "text")] == ["updated"] * 30
    model = catalog.model("google-bert/bert-base-uncased")
    assert (model.modality, model.num_layers, model.licence, model.is_local) == ("text", 12, "apache-2.0", False)
