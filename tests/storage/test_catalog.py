from __future__ import annotations

from typing import Any

import pytest

from storage.catalog import Catalog
from storage.database import Database
from storage.errors import StoreError

MODEL: dict[str, Any] = {
    "source": "huggingface",
    "path": "/m",
    "fingerprint": "f",
    "signature": "s",
    "modality": "text",
}
DATASET: dict[str, Any] = {
    "path": "/d",
    "type": "csv",
    "fingerprint": "f",
    "signature": "s",
    "modality": "text",
    "task": "classification",
    "num_rows": 3,
    "num_classes": 2,
}


@pytest.fixture
def catalog(database: Database) -> Catalog:
    return Catalog(database)


def test_the_models_and_datasets_of_names_are_found_by_them(catalog: Catalog) -> None:
    for name in ("bert", "vit"):
        catalog.save_model(name, MODEL)
        catalog.save_dataset(f"{name}-rows", DATASET)
    assert catalog.find_models({"vit", "none", "bert-rows"}) == {"vit": catalog.model("vit")}
    assert catalog.find_datasets(["bert", "bert-rows"]) == {"bert-rows": catalog.dataset("bert-rows")}


def test_a_saved_model_is_found_by_name(catalog: Catalog) -> None:
    saved = catalog.save_model("bert", {**MODEL, "num_params": 110_000_000, "tags": "a,b"})
    found = catalog.model("bert")
    assert found.model_dump() == saved.model_dump()
    assert (found.num_params, found.tags, found.upstream_accuracy, found.trusted) == (110_000_000, "a,b", None, False)
    assert found.date_added.tzinfo is not None


def test_a_saved_dataset_is_found_by_name(catalog: Catalog) -> None:
    catalog.save_dataset("reviews", {**DATASET, "options": '{"text_column": "body"}'})
    found = catalog.dataset("reviews")
    assert (found.num_rows, found.task) == (3, "classification")
    assert found.reader_options == {"text_column": "body"}


def test_saving_again_updates_what_is_given_and_keeps_the_rest(catalog: Catalog) -> None:
    before = catalog.save_model("bert", {**MODEL, "tags": "kept"})
    after = catalog.save_model("bert", {"fingerprint": "new"})
    assert (after.model_id, after.tags, after.fingerprint) == (before.model_id, "kept", "new")
    assert len(catalog.models()) == 1


def test_lists_are_in_the_order_of_names(catalog: Catalog) -> None:
    for name in ("c", "a", "b"):
        catalog.save_model(name, MODEL)
        catalog.save_dataset(name, DATASET)
    assert [model.name for model in catalog.models()] == ["a", "b", "c"]
    assert [dataset.name for dataset in catalog.datasets()] == ["a", "b", "c"]


def test_what_is_removed_is_gone_and_the_others_stay(catalog: Catalog) -> None:
    for name in ("a", "b"):
        catalog.save_model(name, MODEL)
        catalog.save_dataset(name, DATASET)
    catalog.remove_model("a")
    catalog.remove_dataset("b")
    assert [model.name for model in catalog.models()] == ["b"]
    assert [dataset.name for dataset in catalog.datasets()] == ["a"]


@pytest.mark.parametrize("verb", ["model", "dataset", "remove_model", "remove_dataset"])
def test_an_unknown_name_is_an_error_with_the_near_ones(catalog: Catalog, verb: str) -> None:
    catalog.save_model("resnet-letters", MODEL)
    catalog.save_dataset("resnet-letters", DATASET)
    with pytest.raises(StoreError, match="'resnet-leters'") as caught:
        getattr(catalog, verb)("resnet-leters")
    assert caught.value.fix == "did you mean resnet-letters?"
    with pytest.raises(StoreError) as caught:
        getattr(catalog, verb)("xyzzy")
    assert caught.value.fix is not None
    assert " list' shows all 1" in caught.value.fix


def test_two_openings_see_one_catalog(catalog: Catalog, database: Database) -> None:
    catalog.save_model("bert", MODEL)
    assert Catalog(database).model("bert").path == "/m"
