"""Hugging Face models: hub ids or directories, any encoder of text or images that AutoModel opens."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from storage.workload import fits_one_core
from tasks.sources.failures import reasons
from tasks.sources.pixels import ImagePreparation
from tasks.sources.texts import TextPreparation, longest_text
from tasks.sources.transformers_models import ImageModel, TextModel

if TYPE_CHECKING:
    import torch

    from tasks.readers.base import Rows
    from tasks.sources.base import Model

ALL_CORES = len(os.sched_getaffinity(0))
# How the names of architectures with a classifier end.
_HEADS = ("ForImageClassification", "ForSequenceClassification", "ForTokenClassification")
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

        device = best_device()
        with reasons(model):
            torch.set_num_threads(1 if fits_one_core(model) else ALL_CORES)
            options = {"dtype": _dtype(device), **loading_options(model)}
            network, loading = AutoModel.from_pretrained(model.path, output_loading_info=True, **options)
            require_all_weights(loading["missing_keys"])
            if network.config.is_encoder_decoder:
                network = network.get_encoder()
            elif model.modality == "image":
                # Of a model of images and texts, as CLIP, the part that sees.
                network = getattr(network, "vision_model", network)
            network.config.use_cache = False
            network.eval().requires_grad_(False).to(device)
            head = partial(_open_head, model, device, options)
            processor = load_processor(model)
            if model.modality == "image":
                pooler_is_trained = not any("pooler" in name for name in loading["missing_keys"])
                return ImageModel(model, network, head, ImagePreparation(processor, ALL_CORES), pooler_is_trained)
            preparation = TextPreparation(processor, longest_text(processor, network.config))
            return TextModel(model, network, head, processor, preparation)


def _dtype(device: torch.device) -> torch.dtype:
    """Half the bytes on a GPU that computes with them; bfloat16 has the range of float32, so nothing overflows."""
    import torch

    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def _open_head(model: ModelRecord, device: torch.device, options: Mapping[str, Any]) -> Any:
    """The model with the classifier it was trained with. Raises EvaluationError when its files hold none."""
    import transformers

    architecture = model.architecture or ""
    task = next((task for task in _HEADS if architecture.endswith(task)), None)
    if task is None:
        raise EvaluationError(
            f"it has no classes of its own ({architecture})", fix="rank by LogME, which needs none, or leave it out"
        )
    auto = getattr(transformers, f"AutoModel{task}")
    network, loading = auto.from_pretrained(model.path, output_loading_info=True, **options)
    if network.config.num_labels < 2 or loading["missing_keys"]:
        raise EvaluationError("its head tells no classes apart", fix="rank by LogME, which needs none, or leave it out")
    return network.eval().requires_grad_(False).to(device)


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
