"""Architectures whose configs, heads or batches are not like BERT's: what is told of them is so, rows are alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from storage.views import LAST, PROBABILITIES, View
from tasks.sources import source_named

_WORDS = ["the", "old", "cat", "near", "a", "rose", "dog", "moss"]
TEXTS = ["the old cat", "", "a rose near the dog and the moss", "dog " * 300, "\N{GRINNING FACE} \N{CAT FACE}"]
WORDS = [["the", "oldcat"], ["rose"], ["dog", "", "near"]]
_SIDES = [(32, 32), (1, 1), (40, 52), (90, 30)]
IMAGES = [np.random.default_rng(0).integers(0, 256, (*sides, 3), dtype=np.uint8) for sides in _SIDES]

_SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_SIZES = {"vocab_size": 400, **_SMALL, "initializer_range": 0.2}
_PATCHES = {**_SMALL, "image_size": 32, "patch_size": 8, "initializer_range": 0.2}
_T5 = {"vocab_size": 400, "d_model": 16, "d_ff": 32, "d_kv": 8, "num_layers": 2, "num_heads": 2}
_STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_attention_heads": [1, 2], "num_encoder_blocks": 2}
_PVT = {"sequence_reduction_ratios": [2, 1], "patch_sizes": [4, 2], "strides": [4, 2], "mlp_ratios": [2, 2]}

TEXT: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: hf.GPT2ForSequenceClassification(
        hf.GPT2Config(vocab_size=400, n_embd=16, n_layer=2, n_head=2, n_positions=64, num_labels=3)
    ),
    "opt": lambda: hf.OPTForCausalLM(
        hf.OPTConfig(**_SIZES, ffn_dim=32, max_position_embeddings=64, word_embed_proj_dim=8)
    ),
    "xlnet": lambda: hf.XLNetForSequenceClassification(
        hf.XLNetConfig(vocab_size=400, d_model=16, n_layer=2, n_head=2, d_inner=32, num_labels=3)
    ),
    "fnet": lambda: hf.FNetModel(hf.FNetConfig(**_SIZES, max_position_embeddings=64)),
    "bigbird": lambda: hf.BigBirdModel(hf.BigBirdConfig(**_SIZES, block_size=4, num_random_blocks=1)),
    "data2vec": lambda: hf.Data2VecTextModel(hf.Data2VecTextConfig(**_SIZES, max_position_embeddings=66)),
    "t5's encoder": lambda: hf.T5EncoderModel(hf.T5Config(**_T5)),
    "xlm": lambda: hf.XLMModel(hf.XLMConfig(vocab_size=400, emb_dim=16, n_layers=2, n_heads=2)),
}
IMAGE: dict[str, Callable[[], Any]] = {
    "mae": lambda: hf.ViTMAEForPreTraining(
        hf.ViTMAEConfig(
            **_PATCHES,
            decoder_hidden_size=16,
            decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=32,
        )
    ),
    "deit": lambda: hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(**_PATCHES, num_labels=3)),
    "clip's classifier": lambda: hf.CLIPForImageClassification(
        hf.CLIPConfig(vision_config=_PATCHES, text_config=_SIZES, num_labels=3)
    ),
    "mobilevit": lambda: hf.MobileViTForImageClassification(
        hf.MobileViTConfig(
            image_size=32,
            hidden_sizes=[8, 16, 16],
            neck_hidden_sizes=[4, 8, 8, 12, 12, 12, 24],
            num_attention_heads=2,
            num_labels=3,
        )
    ),
    "efficientnet": lambda: hf.EfficientNetModel(
        hf.EfficientNetConfig(width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=320)
    ),
    "pvt": lambda: hf.PvtForImageClassification(hf.PvtConfig(image_size=32, **_STAGES, **_PVT, num_labels=3)),
    "padded": lambda: hf.ResNetModel(
        hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ),
}


def _byte_level(path: Path) -> None:
    """As GPT-2's: no class token, nothing to pad with, no token at all for an empty text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(_WORDS, trainer)
    hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a model of that name, made when it is first asked for."""

    @cache
    def save(name: str) -> Path:
        torch.manual_seed(0)
        path = tmp_path_factory.mktemp("model")
        ({**TEXT, **IMAGE}[name])().save_pretrained(path)
        if name in TEXT:
            _byte_level(path)
        elif name == "padded":
            hf.YolosImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 64}).save_pretrained(path)
        else:
            hf.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(path)
        return path

    return save


def _record(path: Path) -> ModelRecord:
    told = source_named("huggingface").describe(path)
    return ModelRecord(name="m", source="huggingface", path=str(path), fingerprint=str(path), signature="", **told)


def _open(path: Path) -> Any:
    return source_named("huggingface").open(_record(path))


def _views(record: ModelRecord) -> list[View]:
    layers = [View(str(layer)) for layer in range(1, record.num_layers or 1)]
    return [LAST, View("last", "max"), *layers, *([PROBABILITIES] if record.labels != "[]" else [])]


@pytest.mark.parametrize("name", [*TEXT, *IMAGE])
def test_a_row_has_the_views_that_are_told_whatever_its_neighbours(saved: Any, name: str) -> None:
    record = _record(saved(name))
    model = _open(saved(name))
    prepared = model.prepare(TEXTS if name in TEXT else IMAGES)
    views = _views(record)
    found = model.embed(prepared, views)
    assert found[LAST].shape == (len(prepared), record.embedding_dim)
    if PROBABILITIES in found:
        assert found[PROBABILITIES].shape == (len(prepared), len(json.loads(record.labels)))
    for place, row in enumerate(prepared):
        alone = model.embed([row], views)
        for view in views:
            np.testing.assert_allclose(found[view][place], alone[view][0], atol=2e-5, err_msg=str((view, place)))


def test_images_are_prepared_the_same_whatever_their_neighbours(saved: Any) -> None:
    model = _open(saved("padded"))
    for image, prepared in zip(IMAGES, model.prepare(IMAGES), strict=True):
        np.testing.assert_array_equal(prepared, model.prepare([image])[0])


@pytest.mark.parametrize("name", [name for name in TEXT if name != "t5's encoder"])
def test_a_texts_features_are_those_of_the_network_alone(saved: Any, name: str) -> None:
    network = hf.AutoModel.from_pretrained(saved(name)).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(saved(name))
    model = _open(saved(name))
    rows = [TEXTS[0], TEXTS[2]]
    found = model.embed(model.prepare(rows), [LAST])[LAST]
    for row, vector in zip(rows, found, strict=True):
        with torch.inference_mode():
            hidden = network(input_ids=torch.tensor([tokenizer(row)["input_ids"]])).last_hidden_state[0]
        np.testing.assert_allclose(vector, hidden.mean(0).numpy(), atol=1e-5)


def test_an_encoder_saved_alone_is_the_one_that_its_class_opens(saved: Any) -> None:
    network = hf.T5EncoderModel.from_pretrained(saved("t5's encoder")).eval()
    model = _open(saved("t5's encoder"))
    ids = model.prepare(TEXTS[:1])[0].sequences[0].ids
    with torch.inference_mode():
        hidden = network(input_ids=torch.tensor(ids[None])).last_hidden_state[0]
    np.testing.assert_allclose(model.embed(model.prepare(TEXTS[:1]), [LAST])[LAST][0], hidden.mean(0), atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "fnet", "xlnet"])
def test_words_have_vectors_whatever_their_neighbours(saved: Any, name: str) -> None:
    model = _open(saved(name))
    found = model.embed(model.prepare(WORDS), [LAST])[LAST]
    alone = [model.embed(model.prepare([row]), [LAST])[LAST] for row in WORDS]
    np.testing.assert_allclose(found, np.concatenate(alone), atol=1e-5)


def test_a_head_that_tells_something_else_apart_is_refused(saved: Any, tmp_path: Path) -> None:
    model = _open(saved("gpt2"))
    with pytest.raises(EvaluationError, match="classes of texts apart, and these rows are words"):
        model.embed(model.prepare(WORDS), [PROBABILITIES])
    hf.BertForTokenClassification(hf.BertConfig(**_SIZES, num_labels=3)).save_pretrained(tmp_path)
    _byte_level(tmp_path)
    tagger = _open(tmp_path)
    with pytest.raises(EvaluationError, match="classes of words apart, and these rows are texts"):
        tagger.embed(tagger.prepare(TEXTS), [PROBABILITIES])
    assert tagger.embed(tagger.prepare(WORDS), [PROBABILITIES])[PROBABILITIES].shape == (6, 3)


def test_words_need_a_tokenizer_that_tells_them(tmp_path: Path) -> None:
    hf.T5EncoderModel(hf.T5Config(**_T5)).save_pretrained(tmp_path)
    hf.ByT5Tokenizer().save_pretrained(tmp_path)
    model = _open(tmp_path)
    assert np.isfinite(model.embed(model.prepare(TEXTS), [LAST])[LAST]).all()
    with pytest.raises(EvaluationError, match="ByT5Tokenizer"):
        model.prepare(WORDS)


def test_a_layer_of_other_positions_than_the_tokens_is_refused(tmp_path: Path) -> None:
    sizes = {"d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 32, "num_decoder_layers": 1}
    hf.FunnelModel(hf.FunnelConfig(vocab_size=400, block_sizes=[1, 1], **sizes)).save_pretrained(tmp_path)
    _byte_level(tmp_path)
    model = _open(tmp_path)
    prepared = model.prepare([TEXTS[0], TEXTS[2]])
    alone = model.embed(prepared[:1], [LAST])[LAST]
    np.testing.assert_allclose(model.embed(prepared, [LAST])[LAST][:1], alone, atol=1e-5)
    with pytest.raises(EvaluationError, match=r"positions for .* tokens"):
        model.embed(prepared, [View("2")])


def test_a_processor_that_makes_no_images_is_refused(tmp_path: Path) -> None:
    vision = {**_SMALL, "patch_size": 8, "num_patches": 16}
    hf.Siglip2VisionModel(hf.Siglip2VisionConfig(**vision)).save_pretrained(tmp_path)
    hf.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16).save_pretrained(tmp_path)
    with pytest.raises(EvaluationError, match=r"arrays of shape \(16, 192\)"):
        _open(tmp_path)


def test_a_tokenizer_may_be_a_sentencepiece_file_alone(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    hf.T5EncoderModel(hf.T5Config(**_T5)).save_pretrained(tmp_path)
    saved = sentencepiece.ModelProto()
    saved.trainer_spec.unk_id = 2
    kinds = {"<pad>": 3, "</s>": 3, "<unk>": 2}
    for number, word in enumerate([*kinds, *("\N{LOWER ONE EIGHTH BLOCK}" + word for word in _WORDS)]):
        saved.pieces.add(piece=word, score=-float(number), type=kinds.get(word, 1))
    (tmp_path / "spiece.model").write_bytes(saved.SerializeToString())
    prepared = _open(tmp_path).prepare(["the cat", "moss"])
    assert [row.sequences[0].ids.tolist() for row in prepared] == [[3, 5, 1], [10, 1]]
