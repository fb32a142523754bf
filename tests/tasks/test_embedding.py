from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.registration import refresh_datasets, register_dataset, register_model
from storage.baselines import RAW, raw_subject
from storage.catalog import Catalog, ModelRecord
from storage.derivation import change_parts, derive
from storage.errors import EvaluationError, StoreError
from storage.evaluations import Subject
from storage.features import FeatureStore
from storage.manifests import load_manifest
from storage.parts import one_per_dataset
from storage.settings import current_settings
from storage.views import LAST
from tasks import embedding
from tasks.embedding import embed_dataset
from tasks.prepared_rows import PreparedRows
from tasks.readers.base import CHUNK_ROWS
from tasks.sources.huggingface import HuggingFaceSource
from tasks.sources.transformers_models import TextModel


@pytest.fixture(autouse=True)
def nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_opened", None)
    monkeypatch.setattr(embedding, "_coming", None)
    monkeypatch.setattr(embedding, "_prepared", PreparedRows(1 << 20))
    monkeypatch.setattr(embedding, "_read", PreparedRows(1 << 20))


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every sentence that a text model was given."""
    seen: list[str] = []
    original = TextModel.prepare

    def prepare(model: TextModel, rows: list[str]) -> list[Any]:
        seen.extend(rows)
        return original(model, rows)

    monkeypatch.setattr(TextModel, "prepare", prepare)
    return seen


def _fingerprint(catalog: Catalog, model: str, dataset: str) -> str:
    if model == RAW:
        return raw_subject(catalog.dataset(dataset).modality).fingerprint
    return catalog.model(model).fingerprint


def _embed(catalog: Catalog, model: str, dataset: str, *spans: tuple[int, int]) -> int:
    fingerprint, record = _fingerprint(catalog, model, dataset), catalog.dataset(dataset)
    done = embed_dataset(model, fingerprint, dataset, record.fingerprint, spans or [(0, record.num_rows)])
    assert done["seconds"] > 0
    return int(done["embedded_rows"])


def _features(catalog: Catalog, model: str, dataset: str) -> np.ndarray:
    settings = current_settings()
    store = FeatureStore(settings.features)
    hashes = load_manifest(settings.manifests, catalog.dataset(dataset).fingerprint).row_hashes
    return store.read(store.key(_fingerprint(catalog, model, dataset)), hashes)


def _table(path: Path, texts: list[str], labels: list[str]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])
    return str(path)


@pytest.mark.parametrize(
    ("model", "dataset"),
    [("bert", "nature-test"), ("vit", "colours-test"), ("resnet", "photos-test"), ("raw", "nature-test")],
)
def test_every_row_has_features_afterwards(catalog: Catalog, model: str, dataset: str) -> None:
    assert _embed(catalog, model, dataset) == len(np.unique(_features(catalog, model, dataset), axis=0)) > 5
    assert len(_features(catalog, model, dataset)) == catalog.dataset(dataset).num_rows


def test_embedding_again_embeds_nothing_and_opens_no_model(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    _embed(catalog, "bert", "nature-test")
    before = _features(catalog, "bert", "nature-test")
    monkeypatch.setattr(embedding, "_open", None)
    assert _embed(catalog, "bert", "nature-test") == 0
    np.testing.assert_array_equal(_features(catalog, "bert", "nature-test"), before)


@pytest.mark.parametrize("dataset", ["nature-test", "colours-test"])
def test_rows_of_a_later_round_are_not_read_again(
    catalog: Catalog, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "bert" if dataset == "nature-test" else "vit"
    num_rows = catalog.dataset(dataset).num_rows
    assert _embed(catalog, model, dataset, (0, 1), (num_rows - 1, num_rows)) > 0
    with monkeypatch.context() as patch:
        patch.setattr(embedding, "read_chunks", None)
        assert _embed(catalog, model, dataset) > 0
    in_rounds = _features(catalog, model, dataset)
    shutil.rmtree(current_settings().features)
    _embed(catalog, model, dataset)
    np.testing.assert_allclose(in_rounds, _features(catalog, model, dataset), rtol=1e-4, atol=1e-5)


def test_relabelled_rows_keep_their_features(catalog: Catalog, tmp_path: Path) -> None:
    path = _table(tmp_path / "d.csv", ["a cat", "a dog", "a rose"], ["x", "y", "x"])
    register_dataset(catalog, "d", path)
    before = catalog.dataset("d").fingerprint
    assert _embed(catalog, "bert", "d") == 3
    _table(tmp_path / "d.csv", ["a cat", "a dog", "a rose"], ["y", "y", "longer"])
    assert refresh_datasets(catalog, {"d"}) == ["d"]
    assert catalog.dataset("d").fingerprint != before
    assert _embed(catalog, "bert", "d") == 0


def test_only_new_rows_are_embedded_wherever_they_stand(catalog: Catalog, tmp_path: Path, embedded: list[str]) -> None:
    path = _table(tmp_path / "d.csv", ["a cat", "a dog"], ["x", "y"])
    register_dataset(catalog, "d", path)
    _embed(catalog, "bert", "d")
    embedded.clear()
    _table(tmp_path / "d.csv", ["a fern", "a dog", "old moss", "a cat"], ["x", "y", "x", "y"])
    refresh_datasets(catalog, {"d"})
    assert _embed(catalog, "bert", "d") == 2
    assert sorted(embedded) == ["a fern", "old moss"]
    register_dataset(catalog, "afresh", path)
    np.testing.assert_array_equal(_features(catalog, "bert", "afresh"), _features(catalog, "bert", "d"))


def test_equal_rows_are_embedded_once(catalog: Catalog, tmp_path: Path, embedded: list[str]) -> None:
    path = _table(tmp_path / "d.csv", ["a cat", "a dog", "a cat", "a cat"], ["x", "y", "x", "y"])
    register_dataset(catalog, "d", path)
    assert _embed(catalog, "bert", "d") == 2
    assert sorted(embedded) == ["a cat", "a dog"]
    assert len(_features(catalog, "bert", "d")) == 4


def test_features_belong_to_the_content_of_a_model(catalog: Catalog, pool: object) -> None:
    register_model(catalog, "copy", str(pool.models["bert"]))  # type: ignore[attr-defined]
    _embed(catalog, "bert", "nature-test")
    assert _embed(catalog, "copy", "nature-test") == 0
    assert _embed(catalog, "roberta", "nature-test") > 0


def test_only_the_rows_asked_for_are_embedded(catalog: Catalog, tmp_path: Path, embedded: list[str]) -> None:
    path = _table(tmp_path / "d.csv", ["a cat", "a dog", "a fern", "a cat", "old moss", "a rose"], ["x", "y"] * 3)
    register_dataset(catalog, "d", path)
    assert _embed(catalog, "bert", "d", (1, 2), (3, 5)) == 3
    assert sorted(embedded) == ["a cat", "a dog", "old moss"]
    assert _embed(catalog, "bert", "d", (0, 3)) == 1
    assert _embed(catalog, "bert", "d") == 1
    assert sorted(embedded) == ["a cat", "a dog", "a fern", "a rose", "old moss"]


def test_a_changed_dataset_embeds_only_the_rows_that_came_in(
    catalog: Catalog, tmp_path: Path, embedded: list[str]
) -> None:
    register_dataset(catalog, "d", _table(tmp_path / "d.csv", ["a cat", "a dog", "a fern"], ["x", "y", "x"]))
    register_dataset(catalog, "e", _table(tmp_path / "e.csv", ["a rose", "a dog", "old moss"], ["y", "y", "x"]))
    _embed(catalog, "bert", "d")
    embedded.clear()
    d, e = (Subject(name, catalog.dataset(name).fingerprint) for name in ("d", "e"))
    changed = change_parts(d, 3, [([0, 2], e, [1, 2])])
    for part in one_per_dataset(changed):
        _embed(catalog, "bert", part.dataset.name, *part.spans)
    assert embedded == ["old moss"]
    settings = current_settings()
    hashes = derive(settings.manifests, changed).row_hashes
    store = FeatureStore(settings.features)
    features = store.read(store.key(catalog.model("bert").fingerprint), hashes)
    np.testing.assert_array_equal(features[0], features[1])


def test_a_dataset_that_lost_rows_meanwhile_is_a_transient_error(catalog: Catalog, tmp_path: Path) -> None:
    texts = [f"a cat {number}" for number in range(CHUNK_ROWS + 1)]
    register_dataset(catalog, "d", _table(tmp_path / "d.csv", texts, ["x", "y"] * (CHUNK_ROWS // 2) + ["x"]))
    _table(tmp_path / "d.csv", texts[:CHUNK_ROWS], ["x", "y"] * (CHUNK_ROWS // 2))
    with pytest.raises(EvaluationError, match="d changed while it was read") as caught:
        _embed(catalog, "raw", "d", (CHUNK_ROWS, CHUNK_ROWS + 1))
    assert caught.value.transient


def test_a_dataset_that_changed_meanwhile_is_a_transient_error(catalog: Catalog, tmp_path: Path) -> None:
    path = _table(tmp_path / "d.csv", ["a cat", "a dog"], ["x", "y"])
    register_dataset(catalog, "d", path)
    _table(tmp_path / "d.csv", ["a cat", "a fern"], ["x", "y"])
    with pytest.raises(EvaluationError, match="d changed while it was read") as caught:
        _embed(catalog, "bert", "d")
    assert caught.value.transient


def test_a_model_that_breaks_stores_nothing(catalog: Catalog, pool: object, tmp_path: Path) -> None:
    path = shutil.copytree(pool.models["bert"], tmp_path / "broken")  # type: ignore[attr-defined]
    (path / "model.safetensors").write_bytes(b"torn")
    register_model(catalog, "broken", str(path))
    with pytest.raises(EvaluationError):
        _embed(catalog, "broken", "nature-test")
    with pytest.raises(StoreError, match="missing"):
        _features(catalog, "broken", "nature-test")
    assert _embed(catalog, "bert", "nature-test") > 0


def test_the_model_asked_for_next_is_loaded_meanwhile_and_once(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    original = HuggingFaceSource.open

    def open_(source: HuggingFaceSource, model: ModelRecord) -> Any:
        opened.append(model.name)
        return original(source, model)

    monkeypatch.setattr(HuggingFaceSource, "open", open_)
    data = catalog.dataset("nature-test")
    bert, roberta = catalog.model("bert"), catalog.model("roberta")
    rest: Any = ("nature-test", data.fingerprint, [(0, data.num_rows)], [LAST])
    embed_dataset("bert", bert.fingerprint, *rest, then=("roberta", roberta.fingerprint))
    embed_dataset("roberta", roberta.fingerprint, *rest)
    assert opened == ["bert", "roberta"]
    assert len(_features(catalog, "roberta", "nature-test")) == data.num_rows


def test_a_next_model_that_is_gone_does_not_fail_the_one_that_runs(catalog: Catalog) -> None:
    data, bert = catalog.dataset("nature-test"), catalog.model("bert")
    rest: Any = ("nature-test", data.fingerprint, [(0, data.num_rows)], [LAST])
    assert embed_dataset("bert", bert.fingerprint, *rest, then=("nowhere", "?"))["embedded_rows"] > 0


def test_a_model_that_fails_while_loaded_ahead_fails_when_it_is_asked_for(catalog: Catalog, pool: Any) -> None:
    data = catalog.dataset("nature-test")
    bert, roberta = catalog.model("bert"), catalog.model("roberta")
    rest: Any = ("nature-test", data.fingerprint, [(0, data.num_rows)], [LAST])
    embed_dataset("bert", bert.fingerprint, *rest, then=("roberta", "another content"))
    with pytest.raises(EvaluationError, match="changed since the query was planned"):
        embed_dataset("roberta", "another content", *rest)
    assert embed_dataset("roberta", roberta.fingerprint, *rest)["embedded_rows"] > 0


def test_what_came_from_the_shared_store_is_no_part_of_the_seconds(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    bert, nature = catalog.model("bert"), catalog.dataset("nature-train")
    monkeypatch.setattr(embedding, "_fetch", lambda *_: 1000.0)
    done = embed_dataset("bert", bert.fingerprint, "nature-train", nature.fingerprint, [(0, 36)])
    assert done["seconds"] < -900
    assert done["opening_seconds"] > 0
