"""Views of one forward pass: layers, poolings, words and probabilities, held against transformers itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from storage.views import LAST, PROBABILITIES, View
from storage.workload import ALL_CORES
from tasks.readers.base import Pair
from tasks.sources import source_named, transformers_models
from tasks.sources.transformers_models import TransformersModel

TEXTS = ["the old cat", "a rose near the dog and the moss", "dog"]
WORDS = [["the", "oldcat", "a"], ["rose"], ["dog", "near", "near", "moss"]]
IMAGES = list(np.random.default_rng(0).integers(0, 256, (5, 20, 16, 3), dtype=np.uint8))


def _open(pool: Any, name: str, modality: str, architecture: str | None = None) -> TransformersModel:
    path = pool.models[name]
    record = ModelRecord(
        name=name,
        source="huggingface",
        path=str(path),
        fingerprint=name,
        signature="",
        modality=modality,
        architecture=architecture,
        num_params=10_000,
    )
    opened: Any = source_named("huggingface").open(record)
    return opened


def _hidden(pool: Any, text: str) -> tuple[torch.Tensor, ...]:
    tokenizer = AutoTokenizer.from_pretrained(pool.models["bert"])
    network = AutoModel.from_pretrained(pool.models["bert"], output_hidden_states=True).eval()
    with torch.inference_mode():
        states: tuple[torch.Tensor, ...] = network(**tokenizer(text, return_tensors="pt")).hidden_states
    return tuple(state[0] for state in states)


def test_every_layer_and_pooling_is_that_of_the_network_alone(pool: Any) -> None:
    model = _open(pool, "bert", "text")
    poolings = {"mean": lambda h: h.mean(0), "max": lambda h: h.amax(0), "cls": lambda h: h[0], "last": lambda h: h[-1]}
    expected = {
        View(str(layer), pooling): [pool_(_hidden(pool, text)[layer]).numpy() for text in TEXTS]
        for layer in range(len(_hidden(pool, TEXTS[0])))
        for pooling, pool_ in poolings.items()
    }
    found = model.embed(model.prepare(TEXTS), list(expected))
    for view, vectors in expected.items():
        np.testing.assert_allclose(found[view], np.stack(vectors), atol=1e-5)


def test_the_mean_of_layers_leaves_out_the_embeddings(pool: Any) -> None:
    model = _open(pool, "bert", "text")
    layers = [View(str(layer), "mean") for layer in range(1, len(_hidden(pool, TEXTS[0])))]
    found = model.embed(model.prepare(TEXTS), [View("mean", "mean"), *layers])
    mean = np.mean([found[layer] for layer in layers], axis=0)
    np.testing.assert_allclose(found[View("mean", "mean")], mean, atol=1e-6)


def test_a_layer_there_is_not_is_refused_with_those_there_are(pool: Any) -> None:
    model = _open(pool, "bert", "text")
    layers = len(_hidden(pool, TEXTS[0]))
    with pytest.raises(EvaluationError, match=f"no layer {layers}") as caught:
        model.embed(model.prepare(TEXTS), [View(str(layers))])
    assert f"to {layers - 1}" in str(caught.value.fix)


def test_views_come_from_one_forward_pass(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = _open(pool, "vit", "image")
    passes = []
    forward = model._network.forward

    def counted(*arguments: Any, **named: Any) -> Any:
        passes.append(1)
        return forward(*arguments, **named)

    monkeypatch.setattr(model._network, "forward", counted)
    views = [LAST, View("mean"), View("1"), View("1", "max"), View("last", "cls")]
    assert set(model.embed(model.prepare(IMAGES), views)) == set(views)
    assert len(passes) == 1


def test_layers_of_different_widths_have_no_mean(pool: Any) -> None:
    model = _open(pool, "resnet", "image")
    with pytest.raises(EvaluationError, match="different widths"):
        model.embed(model.prepare(IMAGES), [View("mean")])


@pytest.mark.parametrize(
    ("name", "modality", "view"),
    [
        ("resnet", "image", View("last", "cls")),
        ("vit", "image", View("last", "first")),
        ("bert", "text", View("last", "first")),
    ],
)
def test_a_pooling_that_does_not_fit_is_refused(pool: Any, name: str, modality: str, view: View) -> None:
    model = _open(pool, name, modality)
    with pytest.raises(EvaluationError, match=r"class token|not made of words|has no first word"):
        model.embed(model.prepare(TEXTS if modality == "text" else IMAGES), [view])


def test_probabilities_are_those_of_the_models_own_head(pool: Any) -> None:
    texts = _open(pool, "bert", "text", "BertForSequenceClassification")
    tokenizer = AutoTokenizer.from_pretrained(pool.models["bert"])
    head = AutoModelForSequenceClassification.from_pretrained(pool.models["bert"]).eval()
    with torch.inference_mode():
        logits = torch.cat([head(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS])
    found = texts.embed(texts.prepare(TEXTS), [PROBABILITIES])[PROBABILITIES]
    np.testing.assert_allclose(found, logits.softmax(1).numpy(), atol=1e-5)
    images = _open(pool, "vit", "image", "ViTForImageClassification")
    found = images.embed(images.prepare(IMAGES), [LAST, PROBABILITIES])[PROBABILITIES]
    assert found.shape == (5, AutoModelForImageClassification.from_pretrained(pool.models["vit"]).config.num_labels)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_a_model_without_a_head_has_no_probabilities(pool: Any) -> None:
    model = _open(pool, "bert", "text", "BertModel")
    with pytest.raises(EvaluationError, match="no classes of its own"):
        model.embed(model.prepare(TEXTS), [PROBABILITIES])


def test_a_head_for_texts_has_no_probabilities_for_words(pool: Any) -> None:
    model = _open(pool, "bert", "text", "BertForSequenceClassification")
    with pytest.raises(EvaluationError, match="classes of texts apart, and these rows are words"):
        model.embed(model.prepare(WORDS), [PROBABILITIES])


def test_a_head_for_words_has_no_probabilities_for_texts(pool: Any, tmp_path: Path) -> None:
    folder = tmp_path / "tagger"
    shutil.copytree(pool.models["bert"], folder)
    AutoModelForTokenClassification.from_pretrained(folder).save_pretrained(folder)
    model = _open(replace(pool, models={"tagger": folder}), "tagger", "text", "BertForTokenClassification")
    assert model.embed(model.prepare(WORDS), [PROBABILITIES])[PROBABILITIES].shape == (8, 2)
    with pytest.raises(EvaluationError, match="classes of words apart, and these rows are texts"):
        model.embed(model.prepare(TEXTS), [PROBABILITIES])


@pytest.mark.parametrize(
    ("told", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_weightedmean_tokens": True}, "mean"),
    ],
)
def test_a_sentence_transformer_pools_as_its_files_say(
    pool: Any, tmp_path: Path, told: dict[str, Any], pooling: str
) -> None:
    folder = Path(shutil.copytree(pool.models["bert"], tmp_path / "sentences"))
    source = source_named("huggingface")
    before = source.content_files(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **told}))
    assert len(source.content_files(folder)) == len(before) + 1
    model = _open(replace(pool, models={"bert": folder}), "bert", "text")
    found = model.embed(model.prepare(TEXTS), [LAST, View("last", pooling)])
    np.testing.assert_array_equal(found[LAST], found[View("last", pooling)])


@pytest.mark.parametrize("name", ["bert", "roberta"])
@pytest.mark.parametrize("pooling", ["default", "max", "first", "last"])
def test_every_word_has_the_vector_of_its_own_tokens(pool: Any, name: str, pooling: str) -> None:
    model = _open(pool, name, "text")
    view = View("last", pooling)
    found = model.embed(model.prepare(WORDS), [view])[view]
    tokenizer = AutoTokenizer.from_pretrained(pool.models[name])
    network = AutoModel.from_pretrained(pool.models[name]).eval()
    expected = []
    for words in WORDS:
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.inference_mode():
            hidden = network(**encoded).last_hidden_state[0]
        for word in range(len(words)):
            tokens = hidden[[place for place, owner in enumerate(encoded.word_ids()) if owner == word]]
            expected.append(
                {"default": tokens.mean(0), "max": tokens.amax(0), "first": tokens[0], "last": tokens[-1]}[
                    pooling
                ].numpy()
            )
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)


def test_words_beyond_the_longest_text_go_on_in_another_sequence(pool: Any) -> None:
    model = _open(pool, "bert", "text")
    words = [WORDS[2] * 200, WORDS[0]]
    found = model.embed(model.prepare(words), [LAST])[LAST]
    assert found.shape[0] == 803
    assert (np.abs(found).max(axis=1) > 0).all()
    np.testing.assert_allclose(found[800:], model.embed(model.prepare([WORDS[0]]), [LAST])[LAST], atol=1e-5)


def test_a_word_the_tokenizer_drops_has_zeros(pool: Any) -> None:
    model = _open(pool, "bert", "text")
    found = model.embed(model.prepare([["dog", "", "cat"]]), [LAST])[LAST]
    assert (np.abs(found).max(axis=1) > 0).tolist() == [True, False, True]


def test_a_pair_is_judged_together(pool: Any) -> None:
    model = _open(pool, "bert", "text")
    pairs = [Pair("the cat", "a rose"), Pair("a rose", "the cat"), Pair("the cat", "a moss near")]
    found = model.embed(model.prepare(pairs), [LAST])[LAST]
    tokenizer = AutoTokenizer.from_pretrained(pool.models["bert"])
    network = AutoModel.from_pretrained(pool.models["bert"]).eval()
    for pair, vector in zip(pairs, found, strict=True):
        with torch.inference_mode():
            hidden = network(**tokenizer(*pair, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(vector, hidden.mean(0).numpy(), atol=1e-5)


def test_cores_are_as_many_as_serve_the_model_whatever_ran_before(pool: Any) -> None:
    small = _open(pool, "bert", "text")
    large: Any = _open(pool, "bert", "text")
    large._model = large._model.model_copy(update={"num_params": 100_000_000})
    before = torch.get_num_threads()
    try:
        for model, cores in ((small, 1), (large, ALL_CORES), (small, 1)):
            model.embed(model.prepare(TEXTS), [LAST])
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_and_that_is_remembered(
    pool: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(transformers_models, "_fitting", {})
    model: Any = _open(pool, "bert", "text")
    rows = [f"{text} {'cat ' * number}" for number, text in enumerate(TEXTS * 20)]
    expected = model.embed(model.prepare(rows), [LAST])[LAST]
    forward = model._network.forward
    limit = 128

    def cramped(input_ids: torch.Tensor, **named: Any) -> Any:
        if input_ids.numel() > limit:
            raise error
        return forward(input_ids=input_ids, **named)

    monkeypatch.setattr(model._network, "forward", cramped)
    np.testing.assert_allclose(model.embed(model.prepare(rows), [LAST])[LAST], expected, atol=1e-5)
    again: Any = _open(pool, "bert", "text")
    assert again._positions <= limit


def test_a_row_that_does_not_fit_alone_is_an_error_worth_another_try(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = _open(pool, "bert", "text")

    def full(**named: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(model._network, "forward", full)
    with pytest.raises(EvaluationError, match="out of memory") as caught:
        model.embed(model.prepare(TEXTS), [LAST])
    assert caught.value.transient
