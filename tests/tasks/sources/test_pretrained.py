"""What is told of a Hugging Face model by its files alone, checked against what transformers makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from storage.errors import EvaluationError
from tasks.sources import source_named

_TEXT = {"vocab_size": 50}
_SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
_PATCHES = {"image_size": 32, "patch_size": 8}
_STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
_GPT2 = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64}
_T5 = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_layers": 3, "num_heads": 2}
_BART = {"d_model": 16, "encoder_layers": 3, "encoder_ffn_dim": 32, "encoder_attention_heads": 2}
_SWIN = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "image_size": 32, "window_size": 2}

# The configuration; modality, embedding_dim, num_layers, image_size and token_length it is to be told to have.
CASES: dict[str, tuple[str, dict[str, Any], tuple[Any, ...]]] = {
    "gpt2": ("GPT2Config", {**_TEXT, **_GPT2}, ("text", 16, 3, None, 64)),
    "llama": ("LlamaConfig", {**_TEXT, **_SMALL}, ("text", 16, 3, None, 2048)),
    "t5": ("T5Config", {**_TEXT, **_T5}, ("text", 16, 3, None, None)),
    "bart": ("BartConfig", {**_TEXT, **_BART, "max_position_embeddings": 40}, ("text", 16, 3, None, 40)),
    "distilbert": (
        "DistilBertConfig",
        {**_TEXT, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
        ("text", 16, 3, None, 512),
    ),
    "vit": ("ViTConfig", {**_SMALL, **_PATCHES}, ("image", 16, 3, 32, None)),
    "dinov2": (
        "Dinov2Config",
        {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, **_PATCHES},
        ("image", 16, 3, 32, None),
    ),
    "convnext": ("ConvNextConfig", {**_STAGES, "num_stages": 2, "image_size": 48}, ("image", 16, 2, 48, None)),
    "resnet": ("ResNetConfig", {**_STAGES, "embedding_size": 8}, ("image", 16, 2, None, None)),
    "swin": ("SwinConfig", _SWIN, ("image", 16, 2, 32, None)),
    "clip's images": ("CLIPVisionConfig", {**_SMALL, **_PATCHES}, ("image", 16, 3, 32, None)),
    "clip": (
        "CLIPConfig",
        {"vision_config": {**_SMALL, **_PATCHES}, "text_config": {**_SMALL, **_TEXT}, "projection_dim": 12},
        ("image", 16, 3, 32, None),
    ),
}


def _saved(path: Path, config: Any, auto: str = "AutoModel") -> Any:
    import transformers

    network = getattr(transformers, auto).from_config(config)
    network.save_pretrained(path)
    return network


@pytest.mark.parametrize("name", CASES)
def test_every_architecture_is_told_from_its_files(name: str, tmp_path: Path) -> None:
    import transformers

    kind, settings, told = CASES[name]
    network = _saved(tmp_path, getattr(transformers, kind)(**settings))
    columns = source_named("huggingface").describe(tmp_path)
    keys = ("modality", "embedding_dim", "num_layers", "image_size", "token_length")
    assert tuple(columns[key] for key in keys) == told
    assert columns["architecture"] == type(network).__name__
    # Tied weights are saved once.
    unique = {tensor.data_ptr(): tensor.numel() for tensor in network.state_dict().values()}
    assert columns["num_params"] == sum(unique.values())
    assert (columns["dtype"], columns["labels"]) == ("float32", "[]")


def test_the_type_of_most_weights_is_the_models(tmp_path: Path) -> None:
    import torch
    import transformers

    network = transformers.AutoModel.from_config(transformers.ViTConfig(**_SMALL, **_PATCHES))
    network.to(torch.bfloat16)
    network.layernorm.to(torch.float32)
    network.save_pretrained(tmp_path)
    assert source_named("huggingface").describe(tmp_path)["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        (
            {"id2label": {number: f"class {number}" for number in range(12)}},
            [f"class {number}" for number in range(12)],
        ),
        ({}, ["LABEL_0", "LABEL_1"]),
    ],
    ids=["named", "unnamed"],
)
def test_the_labels_are_those_of_the_head_in_order(tmp_path: Path, settings: Any, labels: list[str]) -> None:
    import transformers

    config = transformers.BertConfig(**_TEXT, **_SMALL, **settings)
    _saved(tmp_path / "with", config, "AutoModelForSequenceClassification")
    _saved(tmp_path / "without", config)
    source = source_named("huggingface")
    assert json.loads(source.describe(tmp_path / "with")["labels"]) == labels
    assert json.loads(source.describe(tmp_path / "without")["labels"]) == []


def test_licence_and_tags_are_the_cards(pool: Any, tmp_path: Path) -> None:
    _copy_config(pool.models["bert"], tmp_path)
    source = source_named("huggingface")
    assert not {"licence", "tags"} & source.describe(tmp_path).keys()
    (tmp_path / "README.md").write_text("---\nlicense: mit\ntags:\n- small\n- english\n---\n# A model\n")
    described = source.describe(tmp_path)
    assert (described["licence"], described["tags"]) == ("mit", "small,english")
    for card in ("no front matter", "---\nlicense: [\n---\n", "---\n- a list\n---\n"):
        (tmp_path / "README.md").write_text(card)
        assert not {"licence", "tags"} & source.describe(tmp_path).keys()


def test_the_tokenizer_says_how_much_it_takes_where_the_config_does_not(pool: Any, tmp_path: Path) -> None:
    _copy_config(pool.models["bert"], tmp_path, max_position_embeddings=None)
    source = source_named("huggingface")
    for length, told in ((77, 77), (1e30, None)):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": length}))
        assert source.describe(tmp_path)["token_length"] == told


def test_a_model_of_sound_is_refused(pool: Any, tmp_path: Path) -> None:
    _copy_config(pool.models["bert"], tmp_path, feat_extract_norm="group")
    with pytest.raises(EvaluationError, match="a model of sound"):
        source_named("huggingface").describe(tmp_path)


def _copy_config(model: Path, target: Path, **settings: Any) -> None:
    """A model's config with other settings, beside its weights."""
    config = json.loads((model / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **settings}))
    (target / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
