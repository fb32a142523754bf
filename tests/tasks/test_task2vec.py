from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.registration import register_dataset, register_model
from storage.catalog import Catalog
from storage.errors import EvaluationError
from storage.evaluations import Subject
from storage.parts import Part, whole
from tasks import task2vec
from tasks.task2vec import embed_task, fit_head
from tests.conftest import SIDE, images, sentences


def _whole(catalog: Catalog, name: str) -> Part:
    dataset = catalog.dataset(name)
    return whole(Subject(name, dataset.fingerprint), dataset.num_rows)


def _embed(catalog: Catalog, probe: str, *names: str) -> dict[str, Any]:
    """As it is called from another process."""
    parts = json.loads(json.dumps([_whole(catalog, name).json for name in names]))
    return embed_task(probe, catalog.model(probe).fingerprint, parts)


def _vector(catalog: Catalog, probe: str, *names: str) -> np.ndarray:
    return np.array(_embed(catalog, probe, *names)["vector"])


def _add_sentences(catalog: Catalog, folder: Path, name: str, texts: Sequence[str], labels: Sequence[str]) -> None:
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])
    register_dataset(catalog, name, str(path))


def test_of_a_model_of_images_and_texts_the_part_that_sees_is_the_probe(catalog: Catalog, tmp_path: Path) -> None:
    import transformers as hf

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = hf.CLIPConfig(
        text_config={**sizes, "vocab_size": 20, "projection_dim": 8},
        vision_config={**sizes, "image_size": SIDE, "patch_size": 4, "projection_dim": 8},
        projection_dim=8,
    )
    hf.CLIPModel(config).save_pretrained(tmp_path / "clip")
    hf.ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path / "clip")
    register_model(catalog, "clip", str(tmp_path / "clip"))
    # The patches' convolution, then query, key, value, the attention's output, the wide layer and the narrow one.
    assert len(_vector(catalog, "clip", "colours-train")) == 16 + 4 * 16 + 32 + 16


@pytest.mark.parametrize(
    ("probe", "data", "units"),
    [
        # Query, key, value, the attention's output, the wide layer and the narrow one, twice, and the pooler.
        ("bert", "nature", 2 * (4 * 16 + 32 + 16) + 16),
        ("roberta", "nature", 2 * (4 * 16 + 32 + 16) + 16),
        ("vit", "colours", 16 + 2 * (4 * 16 + 32 + 16) + 16),
        ("resnet", "photos", 8 + 8 + 8 + 16 + 16 + 16),
    ],
)
def test_a_task_has_a_number_for_each_output_unit_of_the_probe(
    catalog: Catalog, probe: str, data: str, units: int
) -> None:
    embedded = _embed(catalog, probe, f"{data}-train")
    assert len(embedded["vector"]) == units
    assert min(embedded["vector"]) >= 0
    assert 0.5 < embedded["accuracy"] <= 1
    assert embedded["seconds"] > 0


@pytest.mark.parametrize(("probe", "data"), [("bert", "nature"), ("resnet", "colours")])
def test_equal_tasks_have_equal_vectors(catalog: Catalog, probe: str, data: str) -> None:
    assert _embed(catalog, probe, f"{data}-train")["vector"] == _embed(catalog, probe, f"{data}-train")["vector"]
    assert _embed(catalog, probe, f"{data}-train")["vector"] != _embed(catalog, probe, f"{data}-test")["vector"]


@pytest.mark.parametrize("probe", ["bert", "roberta"])
def test_the_order_of_the_rows_changes_nothing(catalog: Catalog, tmp_path: Path, probe: str) -> None:
    texts, labels = zip(*dict(zip(*sentences(36, 1), strict=True)).items(), strict=True)
    _add_sentences(catalog, tmp_path, "forwards", texts, labels)
    _add_sentences(catalog, tmp_path, "backwards", texts[::-1], labels[::-1])
    np.testing.assert_array_equal(_vector(catalog, probe, "forwards"), _vector(catalog, probe, "backwards"))


def test_the_names_of_the_classes_change_nothing(catalog: Catalog, tmp_path: Path) -> None:
    texts, labels = sentences(36, 1)
    swapped = ["animals" if label == "plants" else "plants" for label in labels]
    _add_sentences(catalog, tmp_path, "named", texts, labels)
    _add_sentences(catalog, tmp_path, "swapped", texts, swapped)
    np.testing.assert_array_equal(_vector(catalog, "bert", "named"), _vector(catalog, "bert", "swapped"))


def test_other_labels_of_the_same_rows_are_another_task(catalog: Catalog, tmp_path: Path) -> None:
    texts, labels = sentences(36, 1)
    _add_sentences(catalog, tmp_path, "kinds", texts, labels)
    _add_sentences(catalog, tmp_path, "lengths", texts, ["short" if len(t.split()) == 1 else "long" for t in texts])
    assert not np.allclose(_vector(catalog, "bert", "kinds"), _vector(catalog, "bert", "lengths"))


def test_a_task_may_be_made_of_several_datasets(catalog: Catalog) -> None:
    both = _vector(catalog, "resnet", "colours-train", "photos-train")
    np.testing.assert_array_equal(both, _vector(catalog, "resnet", "photos-train", "colours-train"))


def test_rows_past_the_most_are_left_out_by_their_content(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task2vec, "TASK_ROWS", 12)
    pixels, labels = images(24, 5)
    for name, order in (("forwards", slice(None)), ("backwards", slice(None, None, -1))):
        np.savez(tmp_path / f"{name}.npz", images=np.stack(pixels)[order], labels=np.array(labels)[order])
        register_dataset(catalog, name, str(tmp_path / f"{name}.npz"))
    few = _vector(catalog, "resnet", "forwards")
    np.testing.assert_array_equal(few, _vector(catalog, "resnet", "backwards"))
    monkeypatch.setattr(task2vec, "TASK_ROWS", 24)
    assert not np.array_equal(few, _vector(catalog, "resnet", "forwards"))


def test_one_class_is_no_task(catalog: Catalog, tmp_path: Path) -> None:
    _add_sentences(catalog, tmp_path, "animals", ["a cat", "a dog"], ["animals", "animals"])
    with pytest.raises(EvaluationError, match="of one class"):
        _embed(catalog, "bert", "animals")


@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_head_minimises_the_penalised_cross_entropy(num_classes: int) -> None:
    import torch

    random = np.random.default_rng(0)
    labels = np.arange(60) % num_classes
    features = 10 + 3 * random.normal(size=(60, 4)) + np.eye(4)[labels]
    head, accuracy = fit_head(features, labels)
    logits = torch.tensor(features, dtype=torch.float32) @ head.weights.T + head.bias
    assert accuracy == pytest.approx((logits.argmax(dim=1).numpy() == labels).mean())
    # At the minimum the gradient is 0: of the bias without a penalty, so that probabilities average to frequencies.
    mean_probability = logits.softmax(dim=1).mean(dim=0)
    np.testing.assert_allclose(mean_probability, np.bincount(labels) / 60, atol=1e-3)
