"""Hugging Face models: hub ids or directories, any encoder of text or images that AutoModel opens."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from storage.views import LAST, View
from storage.workload import fits_one_core
from tasks.sources.failures import reasons, require_finite

if TYPE_CHECKING:
    import numpy as np
    import torch

    from tasks.readers.base import Rows
    from tasks.sources.base import Model

BATCH_ROWS = 64
ALL_CORES = len(os.sched_getaffinity(0))
_LONGEST_TEXT_TOKENS = 512
_CONTENT_SUFFIXES = {".safetensors", ".bin", ".json", ".txt", ".model", ".py"}
_NOT_CONTENT = {"training_args.bin", "trainer_state.json", "all_results.json", "train_results.json"}


class HuggingFaceSource:
    """Directories in the layout of `save_pretrained`, and hub ids, which are downloaded first."""

    name = "huggingface"

    def accepts(self, path: Path) -> bool:
        return (path / "config.json").is_file()

    def describe(self, path: Path) -> dict[str, Any]:
        """Columns from config.json and the headers of the safetensors files."""
        config = _read_config(path)
        text = config.get("text_config") or config
        modality = "image" if "num_channels" in config or "image_size" in config else "text"
        weights = [file for file in self.content_files(path) if file.suffix in {".safetensors", ".bin"}]
        if not weights:
            raise EvaluationError(f"{path} has no weights (*.safetensors)", subject=str(path))
        image_size = (config.get("image_size") or _processor_size(path)) if modality == "image" else None
        sizes = config.get("hidden_sizes")
        return {
            "modality": modality,
            "architecture": (config.get("architectures") or [config.get("model_type")])[0],
            "num_params": _count_parameters(weights),
            "size_bytes": sum(file.stat().st_size for file in weights),
            "embedding_dim": sizes[-1] if sizes else text.get("hidden_size") or text.get("d_model") or text.get("dim"),
            "image_size": image_size[0] if isinstance(image_size, list) else image_size,
            "token_length": text.get("max_position_embeddings") if modality == "text" else None,
        }

    def content_files(self, path: Path) -> list[Path]:
        return sorted(
            file
            for file in path.iterdir()
            if file.is_file() and file.suffix in _CONTENT_SUFFIXES and file.name not in _NOT_CONTENT
        )

    def open(self, model: ModelRecord) -> Model:
        import torch
        from transformers import AutoModel

        with reasons(model):
            torch.set_num_threads(1 if fits_one_core(model) else ALL_CORES)
            network, loading = AutoModel.from_pretrained(
                model.path, dtype=torch.float32, output_loading_info=True, **loading_options(model)
            )
            require_all_weights(loading["missing_keys"])
            if network.config.is_encoder_decoder:
                network = network.get_encoder()
            network.eval().requires_grad_(False).to(best_device())
            if model.modality == "image":
                pooler_is_trained = not any("pooler" in name for name in loading["missing_keys"])
                return ImageModel(model, network, load_processor(model), pooler_is_trained)
            return TextModel(model, network, load_processor(model))


class ImageModel:
    """An image encoder with its own processor.

    Features are the model's pooled output where its weights hold a trained pooler (or it needs none), else
    the class token where there is one, else the mean over positions.
    """

    def __init__(self, model: ModelRecord, network: Any, processor: Any, pooler_is_trained: bool) -> None:
        self._model = model
        self._network = network
        self._processor = processor
        self._pooler_is_trained = pooler_is_trained
        self._has_class_token = any(name.endswith("cls_token") for name, _ in network.named_parameters())

    def embed(self, rows: Rows, views: Collection[View]) -> dict[View, np.ndarray]:
        import torch

        with reasons(self._model), torch.inference_mode():
            batches = [rows[start : start + BATCH_ROWS] for start in range(0, len(rows), BATCH_ROWS)]
            features = [self._embed_batch(batch) for batch in batches]
            return {LAST: require_finite(torch.cat(features).float().cpu().numpy(), self._model)}

    def close(self) -> None:
        self._network = None

    def _embed_batch(self, rows: Rows) -> torch.Tensor:
        inputs = prepare_images(self._processor, rows).to(self._network.device)
        outputs = self._network(**inputs)
        pooled = getattr(outputs, "pooler_output", None)
        if pooled is not None and self._pooler_is_trained:
            return pooled.flatten(1)
        hidden = outputs.last_hidden_state
        if hidden.ndim == 4:
            return hidden.mean(dim=(2, 3))
        return hidden[:, 0] if self._has_class_token else hidden.mean(dim=1)


class TextModel:
    """A text encoder with its own tokenizer. Features are the mean over the tokens that are not padding."""

    def __init__(self, model: ModelRecord, network: Any, tokenizer: Any) -> None:
        self._model = model
        self._network = network
        self._tokenizer = tokenizer
        self._longest = longest_text(tokenizer, network.config)

    def embed(self, rows: Rows, views: Collection[View]) -> dict[View, np.ndarray]:
        import numpy as np
        import torch

        # Rows of like length share a batch, which keeps padding and so work small.
        order = np.argsort([len(row) for row in rows], kind="stable")
        batches = [
            [str(rows[index]) for index in order[start : start + BATCH_ROWS]]
            for start in range(0, len(order), BATCH_ROWS)
        ]
        with reasons(self._model), torch.inference_mode():
            features = [self._embed_batch(batch) for batch in batches]
            sorted_features = torch.cat(features).float().cpu().numpy()
        result = np.empty_like(sorted_features)
        result[order] = sorted_features
        return {LAST: require_finite(result, self._model)}

    def close(self) -> None:
        self._network = None

    def _embed_batch(self, texts: list[str]) -> torch.Tensor:
        inputs = self._tokenizer(
            texts, return_tensors="pt", padding=True, truncation=True, max_length=self._longest
        ).to(self._network.device)
        hidden = self._network(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def require_all_weights(missing: Iterable[str]) -> None:
    """Raise EvaluationError when weights are missing that would be random; a pooler may be, it is not used then."""
    names = sorted(name for name in missing if "pooler" not in name)
    if names:
        raise EvaluationError(f"{len(names)} weights are missing from the files, {names[0]} among them")


def loading_options(model: ModelRecord) -> dict[str, Any]:
    """How `from_pretrained` may load the model: no code and no pickles from its files unless it is trusted.

    Raises EvaluationError where that leaves no weights.
    """
    if not model.trusted and not any(Path(model.path).glob("*.safetensors")):
        raise EvaluationError(
            "it has no safetensors weights, and pickled ones, which can run code, are opened only where it is trusted",
            transient=True,
            fix=f"shiftql models add {model.name} {model.path} --trust",
        )
    return {
        "local_files_only": True,
        "trust_remote_code": model.trusted,
        "use_safetensors": None if model.trusted else True,
    }


def load_processor(model: ModelRecord) -> Any:
    """The tokenizer or image processor that the model's own files describe."""
    from transformers import AutoImageProcessor, AutoTokenizer

    options = {"local_files_only": True, "trust_remote_code": model.trusted}
    if model.modality == "image":
        return AutoImageProcessor.from_pretrained(model.path, backend="pil", **options)
    tokenizer = AutoTokenizer.from_pretrained(model.path, **options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def prepare_images(processor: Any, rows: Rows) -> Any:
    """The processor's tensors for images. Where the channels are is said, since it guesses wrong for thin images."""
    return processor(images=list(rows), input_data_format="channels_last", return_tensors="pt")


def longest_text(tokenizer: Any, config: Any) -> int:
    """The most tokens the model takes: what its tokenizer says, its positions allow, and 512 at most."""
    positions = getattr(config, "max_position_embeddings", None) or _LONGEST_TEXT_TOKENS
    # RoBERTa counts positions from one past the padding token.
    if config.model_type in {"roberta", "xlm-roberta", "camembert", "longformer", "mpnet"}:
        positions -= config.pad_token_id + 1
    return min(tokenizer.model_max_length, positions, _LONGEST_TEXT_TOKENS)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path / 'config.json'} cannot be read: {error}", subject=str(path)) from error
    if not isinstance(config, dict):
        raise EvaluationError(f"{path / 'config.json'} is not a JSON object", subject=str(path))
    return config


def _processor_size(path: Path) -> int | None:
    """The side of the images that the model's processor makes, where its file says."""
    file = path / "preprocessor_config.json"
    size = json.loads(file.read_text()).get("size") if file.is_file() else None
    if isinstance(size, dict):
        return size.get("height") or size.get("shortest_edge")
    return size if isinstance(size, int) else None


def _count_parameters(weights: list[Path]) -> int | None:
    """Parameters by the safetensors headers; None when there are none or one is unreadable."""
    from safetensors import SafetensorError, safe_open

    files = [file for file in weights if file.suffix == ".safetensors"]
    if not files:
        return None
    total = 0
    for file in files:
        try:
            with safe_open(file, framework="numpy") as tensors:
                total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except (OSError, SafetensorError):
            return None
    return total
