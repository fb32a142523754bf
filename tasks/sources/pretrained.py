"""What the files of `save_pretrained` tell of a model without its weights: config.json, safetensors headers, card."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from storage.errors import EvaluationError
from tasks.sources.untrusted import read_json

# What transformers' configs call the same thing, the more telling names first; OPT projects its last layer.
_WIDTH = (
    "word_embed_proj_dim",
    "hidden_size",
    "d_model",
    "n_embd",
    "dim",
    "embed_dim",
    "emb_dim",
    "num_features",
    "hidden_dim",
)
_DEPTH = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers")
_TOKENS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length", "max_seq_length")
_OF_SOUND = ("num_mel_bins", "feat_extract_norm")
# Tokenizers write 10^30 where they know no limit.
_NO_LIMIT = 10**9
# As safetensors abbreviate types.
DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_DEFAULT_NUM_LABELS = 2


def describe_pretrained(path: Path, weights: list[Path]) -> dict[str, Any]:
    """Catalog columns of the model in a directory with these files of weights."""
    config = read_json(path / "config.json")
    if any(key in config for key in _OF_SOUND):
        raise EvaluationError(f"{path} is a model of sound, not of text or images", subject=str(path))
    is_image = _is_of_images(config)
    part = config.get("vision_config" if is_image else "text_config")
    # Of a model of images and texts, as CLIP, the part that is used.
    used = {**config, **part} if isinstance(part, dict) else config
    return {
        "modality": "image" if is_image else "text",
        "architecture": _architecture(config),
        "size_bytes": sum(file.stat().st_size for file in weights),
        "embedding_dim": _embedding_dim(used),
        "image_size": _image_size(path, used) if is_image else None,
        "token_length": None if is_image else _first(used, _TOKENS) or _tokenizer_length(path),
        "num_layers": _num_layers(used),
        "labels": json.dumps(_labels(config)),
        **_count_parameters(weights, config),
        **_read_card(path / "README.md"),
    }


def _is_of_images(config: Mapping[str, Any]) -> bool:
    return any(key in config for key in ("num_channels", "image_size", "vision_config", "pretrained_cfg"))


def _architecture(config: Mapping[str, Any]) -> str | None:
    named = config.get("architectures")
    return named[0] if named else config.get("architecture") or config.get("model_type")


def _first(config: Mapping[str, Any], keys: Iterable[str]) -> int | None:
    """The first of these that is a whole number."""
    return next((config[key] for key in keys if isinstance(config.get(key), int)), None)


def _embedding_dim(used: Mapping[str, Any]) -> int | None:
    # A neck follows the last stage, as in MobileViT.
    for sizes in (used.get("neck_hidden_sizes"), used.get("hidden_sizes")):
        if isinstance(sizes, list) and sizes:
            return sizes[-1]
    return _first(used, _WIDTH)


def _num_layers(used: Mapping[str, Any]) -> int | None:
    """Hidden layers, as `output_hidden_states` counts them: stages, where the network has stages."""
    for stages in (used.get("depths"), used.get("hidden_sizes")):
        if isinstance(stages, list):
            return len(stages)
    blocks = used.get("num_block_repeats")
    if isinstance(blocks, list):
        # EfficientNet's are scaled, and its num_hidden_layers counts something else.
        return sum(math.ceil(used.get("depth_coefficient", 1) * repeats) for repeats in blocks)
    return _first(used, _DEPTH)


def _image_size(path: Path, used: Mapping[str, Any]) -> int | None:
    size = used.get("image_size") or _processor_size(path) or used.get("pretrained_cfg", {}).get("input_size")
    return size[-1] if isinstance(size, list) else size


def _tokenizer_length(path: Path) -> int | None:
    """The most tokens the model's tokenizer leaves, where its file says so."""
    file = path / "tokenizer_config.json"
    length = read_json(file).get("model_max_length") if file.is_file() else None
    return int(length) if isinstance(length, int | float) and length < _NO_LIMIT else None


def _processor_size(path: Path) -> int | None:
    """The side of the images that the model's processor makes, where its file says."""
    file = path / "preprocessor_config.json"
    if not file.is_file():
        return None
    processor = read_json(file)
    for size in (processor.get("crop_size") if processor.get("do_center_crop") else None, processor.get("size")):
        if isinstance(size, dict) and size:
            return size.get("height") or size.get("shortest_edge")
        if isinstance(size, int):
            return size
    return None


def _labels(config: Mapping[str, Any]) -> list[str]:
    """The classes that a classification head tells apart, in order; none where there is no such head."""
    if "Classification" not in (_architecture(config) or ""):
        return []
    labels = config.get("id2label")
    # Without names they are left out of the file, and where there are two of them, so is how many.
    unnamed = [f"LABEL_{number}" for number in range(config.get("num_labels") or _DEFAULT_NUM_LABELS)]
    return [str(labels[key]) for key in sorted(labels, key=int)] if labels else unnamed


def _count_parameters(weights: list[Path], config: Mapping[str, Any]) -> dict[str, Any]:
    """Number of parameters and the type most have, by the safetensors headers; the number is None without them."""
    from safetensors import SafetensorError, safe_open

    counts: dict[str, int] = {}
    for file in (file for file in weights if file.suffix == ".safetensors"):
        try:
            with safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    tensor = tensors.get_slice(name)
                    kind = DTYPES.get(tensor.get_dtype(), tensor.get_dtype().lower())
                    counts[kind] = counts.get(kind, 0) + math.prod(tensor.get_shape())
        except (OSError, SafetensorError):
            counts.clear()
            break
    if not counts:
        return {"num_params": None, "dtype": config.get("dtype") or config.get("torch_dtype")}
    return {"num_params": sum(counts.values()), "dtype": max(counts, key=counts.__getitem__)}


def _read_card(file: Path) -> dict[str, str]:
    """Licence and tags by the front matter of a model card; what it does not tell is left out."""
    if not file.is_file():
        return {}
    from huggingface_hub import metadata_load
    from yaml import YAMLError

    try:
        card = metadata_load(file) or {}
    except (ValueError, YAMLError):
        return {}  # A card no one can read is no reason to do without the model.
    tags = card.get("tags")
    told = {
        "licence": card.get("license"),
        "tags": ",".join(map(str, tags)) if isinstance(tags, list) else tags,
    }
    return {column: str(value) for column, value in told.items() if value}
