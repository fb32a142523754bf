from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from storage.catalog import ModelRecord
from storage.errors import ShiftError, StoreError
from tasks.pools import candidates, starters
from tests.hub import Hub, recorded


def reason(candidate: Any) -> str:
    with pytest.raises(ShiftError) as caught:
        candidate.inspect()
    return caught.value.message


def test_a_tree_gives_every_model_below_it_by_its_path(home: Path, pool: Any, tmp_path: Path) -> None:
    shutil.copytree(pool.models["bert"], tmp_path / "tree/text/bert")
    shutil.copytree(pool.models["vit"], tmp_path / "tree/vit")
    shutil.copytree(pool.models["vit"], tmp_path / "tree/vit/checkpoint-1")
    shutil.copytree(pool.models["vit"], tmp_path / "tree/.hidden")
    (tmp_path / "tree/broken").mkdir()
    (tmp_path / "tree/broken/config.json").write_text("{")
    found = {candidate.name: candidate for candidate in candidates(str(tmp_path / "tree"))}
    assert list(found) == ["broken", "text/bert", "vit"]
    assert found["vit"].inspect()["path"] == str(tmp_path / "tree/vit")
    assert found["text/bert"].inspect()["modality"] == "text"
    assert "config.json" in reason(found["broken"])


def test_a_table_names_paths_beside_it_handles_and_what_is_told(hub: Hub, pool: Any, tmp_path: Path) -> None:
    shutil.copytree(pool.models["bert"], tmp_path / "mine")
    hub.add("me/vit", pool.models["vit"])
    (tmp_path / "pool.csv").write_text(
        "name,path,handle,source,upstream_dataset,upstream_accuracy,licence,tags,finetuned\n"
        'a,mine,,huggingface,books,0.9,mit,"x,y",yes\n'
        ",mine,,,,,,,\n"
        ",,me/vit,,,,,,\n"
        "b,mine,,,,high,,,\n"
        "c,,,,,,,,\n"
    )
    first, unnamed, hubs, odd, empty = candidates(str(tmp_path / "pool.csv"))
    assert [first.name, unnamed.name, hubs.name] == ["a", "mine", "me/vit"]
    columns = first.inspect()
    assert columns["path"] == str(tmp_path / "mine")
    told = ("upstream_dataset", "upstream_accuracy", "licence", "tags", "finetuned")
    assert [columns[name] for name in told] == ["books", 0.9, "mit", "x,y", True]
    assert (hubs.inspect()["handle"], hubs.inspect()["modality"]) == ("me/vit", "image")
    assert "upstream_accuracy is 'high'" in reason(odd)
    assert "neither a handle nor a path" in reason(empty)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,where\na,b\n", "a column 'where'"),
        (b"name,path,trusted\na,b,true\n", "a column 'trusted'"),
        (b"name\na\n", "neither a column handle nor a column path"),
        (b"name,path\n", "no models"),
        (b"name,path\n\xff,b\n", "cannot be read as CSV"),
        (b"", "neither a column handle nor a column path"),
    ],
)
def test_a_table_that_does_not_fit_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "pool.csv").write_bytes(content)
    with pytest.raises(StoreError, match=message):
        list(candidates(str(tmp_path / "pool.csv")))


def test_a_place_without_models_is_an_error(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there are no models in"):
        list(candidates(str(tmp_path)))
    with pytest.raises(StoreError, match="there is nothing at"):
        list(candidates(str(tmp_path / "missing")))
    with pytest.raises(StoreError, match="there are no models in"):
        list(candidates("hf://models?search=nothing"))


def test_gated_models_of_a_listing_are_noted(hub: Hub) -> None:
    hub.listing = recorded("models.json")
    notes = [candidate.note for candidate in candidates("hf://models")]
    assert notes[0] is None
    assert "HF_TOKEN" in (notes[1] or "")


@pytest.mark.parametrize("modality", ["text", "image"])
def test_thirty_starters_fit_the_catalog_and_need_no_network(home: Path, modality: str) -> None:
    found = list(starters(modality))
    assert len({candidate.name for candidate in found}) == 30
    for candidate in found:
        columns = candidate.inspect()
        assert columns.keys() <= ModelRecord.model_fields.keys()
        assert (columns["modality"], columns["path"], columns["handle"]) == (modality, "", candidate.name)
        assert columns["num_params"] > 1_000_000
        assert columns["embedding_dim"] > 0
    assert len({candidate.inspect()["fingerprint"] for candidate in found}) == 30
