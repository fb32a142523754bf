"""Predictions are those of the model's own files, opened by nothing but transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from flows.predicting import predict
from flows.registration import register_model
from storage.catalog import Catalog
from storage.errors import EvaluationError, StoreError
from tasks import predicting
from tasks.host import Host
from tests.conftest import images, sentences

TEXTS, _ = sentences(9, 5)
TEXTS += ["a"]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "call", lambda host, function, **arguments: predicting.predict_rows(**arguments))


@pytest.fixture
def lines(tmp_path: Path) -> str:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(TEXTS))
    return str(path)


def plain_logits(directory: Path, auto: Any, **inputs: Any) -> torch.Tensor:
    with torch.inference_mode():
        return auto.from_pretrained(directory).eval()(**inputs).logits


def register_head(catalog: Catalog, pool: Any, directory: Path, kind: type[Any], **config: Any) -> str:
    """A text model with another head of random weights; its name."""
    torch.manual_seed(1)
    network = kind.from_pretrained(pool.models["bert"], ignore_mismatched_sizes=True, **config)
    network.save_pretrained(directory)
    hf.AutoTokenizer.from_pretrained(pool.models["bert"]).save_pretrained(directory)
    register_model(catalog, directory.name, str(directory))
    return directory.name


def test_texts_get_the_class_that_is_likeliest(catalog: Catalog, pool: Any, lines: str) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(pool.models["bert"])
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    expected = plain_logits(pool.models["bert"], hf.AutoModelForSequenceClassification, **inputs).softmax(dim=1)
    found = predict(catalog, "bert", lines)
    assert [row["prediction"] for row in found["rows"]] == [f"LABEL_{place}" for place in expected.argmax(dim=1)]
    np.testing.assert_allclose([row["probability"] for row in found["rows"]], expected.amax(dim=1), atol=1e-5)
    assert [(row["row"], row["input"]) for row in found["rows"]] == list(enumerate(TEXTS))
    assert (found["unread"], found["first"]) == (0, None)


def test_images_get_the_class_that_is_likeliest(catalog: Catalog, pool: Any) -> None:
    processor = hf.AutoImageProcessor.from_pretrained(pool.models["vit"])
    pixels, _ = images(24, 2)
    inputs = processor(images=pixels, return_tensors="pt")
    expected = plain_logits(pool.models["vit"], hf.AutoModelForImageClassification, **inputs).softmax(dim=1)
    found = predict(catalog, "vit", "colours-test")["rows"]
    assert [row["prediction"] for row in found] == [f"LABEL_{place}" for place in expected.argmax(dim=1)]
    np.testing.assert_allclose([row["probability"] for row in found], expected.amax(dim=1), atol=1e-5)


def test_a_number_is_predicted_without_a_probability(catalog: Catalog, pool: Any, lines: str, tmp_path: Path) -> None:
    kind = hf.AutoModelForSequenceClassification
    name = register_head(catalog, pool, tmp_path / "number", kind, num_labels=1, problem_type="regression")
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / name)
    expected = plain_logits(tmp_path / name, kind, **tokenizer(TEXTS, padding=True, return_tensors="pt"))
    found = predict(catalog, name, lines)["rows"]
    np.testing.assert_allclose([row["prediction"] for row in found], expected[:, 0], atol=1e-5)
    assert {row["probability"] for row in found} == {None}


def test_of_several_classes_those_that_are_likely_are_predicted(
    catalog: Catalog, pool: Any, lines: str, tmp_path: Path
) -> None:
    kind, problem = hf.AutoModelForSequenceClassification, "multi_label_classification"
    name = register_head(catalog, pool, tmp_path / "several", kind, num_labels=3, problem_type=problem)
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / name)
    logits = plain_logits(tmp_path / name, kind, **tokenizer(TEXTS, padding=True, return_tensors="pt"))
    expected = [", ".join(f"LABEL_{place}" for place in np.flatnonzero(row > 0)) for row in logits]
    found = predict(catalog, name, lines)["rows"]
    assert [row["prediction"] for row in found] == expected
    certain = logits.sigmoid().where(logits > 0, 1 - logits.sigmoid()).prod(dim=1)
    np.testing.assert_allclose([row["probability"] for row in found], certain, atol=1e-5)


def test_every_word_gets_a_tag(catalog: Catalog, pool: Any, lines: str, tmp_path: Path) -> None:
    kind = hf.AutoModelForTokenClassification
    name = register_head(catalog, pool, tmp_path / "words", kind, num_labels=3)
    found = predict(catalog, name, lines)["rows"]
    assert [len(row["prediction"].split()) for row in found] == [len(text.split()) for text in TEXTS]
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / name)
    # Between the tokens that begin and end a text there is one for each word.
    logits = plain_logits(tmp_path / name, kind, **tokenizer(TEXTS[:1], return_tensors="pt"))[0, 1:-1]
    assert found[0]["prediction"] == " ".join(f"LABEL_{place}" for place in logits.argmax(dim=1))


def test_a_row_that_cannot_be_read_stands_without_a_prediction(catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.png").write_text("no image")
    with pytest.raises(StoreError, match=r"broken\.png is not an image"):
        predict(catalog, "vit", str(tmp_path / "photos"))
    from PIL import Image

    Image.fromarray(images(1, 0)[0][0]).save(tmp_path / "photos" / "whole.png")
    found = predict(catalog, "vit", str(tmp_path / "photos"))
    assert [row["prediction"] is None for row in found["rows"]] == [True, False]
    assert found["unread"] == 1
    assert "broken.png" in found["first"]


def test_what_predicts_nothing_and_what_does_not_exist_is_an_error(catalog: Catalog, lines: str) -> None:
    with pytest.raises(StoreError, match="roberta has no classes of its own") as caught:
        predict(catalog, "roberta", lines)
    assert caught.value.fix == "fine-tune it first: FINETUNE roberta WITH <dataset> AS '<name>'"
    with pytest.raises(StoreError, match="no model named 'bart'"):
        predict(catalog, "bart", lines)
    with pytest.raises(StoreError, match="neither a file nor a dataset 'nature-tst'") as near:
        predict(catalog, "bert", "nature-tst")
    assert near.value.fix == "did you mean nature-test or nature-train?"


def test_a_model_whose_files_broke_says_so(catalog: Catalog, pool: Any, lines: str, tmp_path: Path) -> None:
    kind = hf.AutoModelForSequenceClassification
    name = register_head(catalog, pool, tmp_path / "broken", kind)
    weights = tmp_path / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EvaluationError):
        predict(catalog, name, lines)
