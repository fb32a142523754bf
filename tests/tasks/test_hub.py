from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from storage.errors import EvaluationError, StoreError
from storage.settings import current_settings
from tasks.hub import describe, download, find_snapshot, listed_models, look_up
from tests.hub import TOKEN, Hub, recorded


def nobody(_: int) -> None:
    """Is told of bytes and does not care."""


def serve_listing(hub: Hub, pool: Any, tmp_path: Path) -> None:
    """The recorded listing; the small files of its models can be had."""
    hub.listing = recorded("models.json")
    for entry in hub.listing:
        directory = tmp_path / entry["id"]
        directory.mkdir(parents=True)
        for name in ("config.json", "tokenizer_config.json"):
            shutil.copy(pool.models["bert"] / name, directory)
        hub.add(entry["id"], directory, **entry)


def test_a_listing_is_asked_for_in_the_hubs_own_words_page_by_page(hub: Hub) -> None:
    hub.listing = recorded("models.json")
    url = "hf://models?task=text-classification&search=sst&author=distilbert&library=transformers&tags=en,onnx"
    found = list(listed_models(f"{url}&sort=created_at&limit=3"))
    assert [info.id for info in found] == [entry["id"] for entry in hub.listing[:3]]
    first = hub.queries[0]
    assert {key: first[key] for key in first if key != "expand"} == {
        "pipeline_tag": ["text-classification"],
        "search": ["sst"],
        "author": ["distilbert"],
        "filter": ["transformers", "en", "onnx"],
        "sort": ["createdAt"],
        "limit": ["3"],
    }
    assert {"safetensors", "siblings", "config", "cardData", "gated", "sha"} <= set(first["expand"])
    assert len(hub.queries) == 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hf://models?tasks=x", "no filter 'tasks'"),
        ("hf://models?sort=size", "sorted by 'size'"),
        ("hf://models?limit=0", "limit is '0'"),
        ("hf://models?limit=many", "limit is 'many'"),
        ("hf://models?task=", "task has no value"),
        ("hf://datasets?task=x", "no listing of models"),
    ],
)
def test_a_filter_that_does_not_fit_is_an_error_before_anything_is_asked(hub: Hub, url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        list(listed_models(url))
    assert hub.requests == []


def test_a_model_is_what_the_hub_and_its_configuration_say(hub: Hub, pool: Any, tmp_path: Path) -> None:
    serve_listing(hub, pool, tmp_path)
    classifier, gated, *_ = map(describe_or_reason, listed_models("hf://models"))
    assert classifier["handle"] == "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
    assert classifier["revision"] == "714eb0fa89d2f80546fda750413ed43d93601a13"
    assert (classifier["path"], classifier["signature"], classifier["source"]) == ("", "", "huggingface")
    assert (classifier["modality"], classifier["licence"]) == ("text", "apache-2.0")
    assert classifier["upstream_dataset"] == "sst2"
    assert (classifier["num_params"], classifier["dtype"], classifier["size_bytes"]) == (66955010, "float32", 267820040)
    assert (classifier["embedding_dim"], classifier["token_length"]) == (16, 32)
    assert {"onnx", "en"} <= set(classifier["tags"].split(","))
    assert ":" not in classifier["tags"]
    assert (gated["architecture"], gated["num_params"]) == ("LlamaForCausalLM", 1235814400)
    assert (gated["dtype"], gated["size_bytes"]) == ("bfloat16", 2 * 1235814400)


def describe_or_reason(info: Any) -> Any:
    try:
        return describe(info)
    except EvaluationError as error:
        return error.message


def test_where_parameters_are_not_told_the_files_tell_the_size(hub: Hub, pool: Any) -> None:
    repository = hub.add("me/mine", pool.models["bert"], pipeline_tag="fill-mask")
    hub.listing = [repository.info("me/mine", sizes=False)]
    (info,) = listed_models("hf://models")
    assert describe(info)["size_bytes"] == (pool.models["bert"] / "model.safetensors").stat().st_size


def test_what_is_neither_text_nor_image_or_has_no_weights_is_refused(hub: Hub, pool: Any, tmp_path: Path) -> None:
    serve_listing(hub, pool, tmp_path)
    *_, speech, gguf = map(describe_or_reason, listed_models("hf://models"))
    assert "automatic-speech-recognition" in speech
    assert "no config.json" in gguf


def test_only_what_opening_needs_is_downloaded(hub: Hub, pool: Any, tmp_path: Path) -> None:
    repository = shutil.copytree(pool.models["bert"], tmp_path / "mine")
    for name in ("pytorch_model.bin", "model.fp16.safetensors", "tf_model.h5", "README.md", "onnx/model.onnx"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_bytes(b"more")
    hub.add("me/mine", repository)
    told: list[int] = []
    path = download(find_snapshot("me/mine", None), told.append)
    assert {file.name for file in path.iterdir()} == {file.name for file in pool.models["bert"].iterdir()}
    assert (path / "model.safetensors").read_bytes() == (repository / "model.safetensors").read_bytes()
    assert path.is_relative_to(current_settings().models)
    assert sum(told) == sum(file.stat().st_size for file in path.iterdir())


def test_what_is_here_is_not_downloaded_again_even_without_the_hub(
    hub: Hub, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("me/mine", pool.models["bert"])
    path = download(find_snapshot("me/mine", None), nobody)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = find_snapshot("me/mine", hub.repositories["me/mine"].commit)
    assert (again.path, again.missing_bytes) == (path, 0)
    assert download(again, nobody) == path


def test_what_the_hubs_library_has_in_its_own_cache_is_used(hub: Hub, pool: Any) -> None:
    from huggingface_hub import snapshot_download

    hub.add("me/mine", pool.models["bert"])
    theirs = snapshot_download("me/mine", cache_dir=constants.HF_HUB_CACHE)
    assert find_snapshot("me/mine", "main").path == Path(theirs)


def test_a_snapshot_that_lacks_weights_is_not_here(hub: Hub, pool: Any) -> None:
    hub.add("me/mine", pool.models["bert"])
    path = download(find_snapshot("me/mine", None), nobody)
    (path / "model.safetensors").resolve().unlink()
    assert find_snapshot("me/mine", None).path is None
    assert (download(find_snapshot("me/mine", None), nobody) / "model.safetensors").is_file()


def test_a_download_that_broke_off_goes_on(hub: Hub, pool: Any) -> None:
    hub.add("me/mine", pool.models["bert"])
    hub.break_off_after = 1000
    path = download(find_snapshot("me/mine", None), nobody)
    original = pool.models["bert"]
    assert all((path / file.name).read_bytes() == file.read_bytes() for file in original.iterdir())


def test_a_gated_model_says_where_to_ask_and_which_token_to_set(
    hub: Hub, pool: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add("me/gated", pool.models["bert"], gated="manual")
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreError, match="is gated") as caught:
        download(find_snapshot("me/gated", None), nobody)
    assert caught.value.fix is not None
    assert f"{hub.url}/me/gated" in caught.value.fix
    assert "HF_TOKEN" in caught.value.fix
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with caplog.at_level(logging.DEBUG):
        assert download(find_snapshot("me/gated", None), nobody).is_dir()
    assert TOKEN not in caplog.text
    stored = [file for file in current_settings().home.rglob("*") if file.is_file()]
    assert not any(TOKEN.encode() in file.read_bytes() for file in stored)


def test_a_token_of_another_program_is_not_used(hub: Hub, pool: Any, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    hub.add("me/gated", pool.models["bert"], gated="manual")
    with pytest.raises(StoreError, match="is gated"):
        download(find_snapshot("me/gated", None), nobody)


@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_model_that_is_not_there_says_so(hub: Hub, token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(StoreError, match="there is no model me/nothing"):
        look_up("me/nothing")


def test_a_revision_that_is_not_there_says_so(hub: Hub, pool: Any) -> None:
    hub.add("me/mine", pool.models["bert"])
    with pytest.raises(StoreError, match="has no revision 'v9'"):
        find_snapshot("me/mine", "v9")


def test_a_hub_out_of_reach_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"http://127\.0\.0\.1:9 cannot be reached") as caught:
        find_snapshot("me/mine", None)
    assert "network" in (caught.value.fix or "")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(StoreError, match="HF_HUB_OFFLINE"):
        find_snapshot("me/mine", None)


def test_no_space_is_said_before_anything_is_fetched(hub: Hub, pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("me/mine", pool.models["bert"])
    monkeypatch.setattr("tasks.hub.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 0))
    with pytest.raises(StoreError, match="no space for me/mine"):
        download(find_snapshot("me/mine", None), nobody)
    assert hub.downloads() == []


def test_pickled_weights_come_only_where_there_are_no_others(hub: Hub, pool: Any, tmp_path: Path) -> None:
    repository = shutil.copytree(pool.models["bert"], tmp_path / "mine")
    (repository / "model.safetensors").rename(repository / "pytorch_model.bin")
    hub.add("me/mine", repository)
    assert "pytorch_model.bin" in find_snapshot("me/mine", None).files
