"""Hugging Face models: hub ids or directories, any encoder of text or images that AutoModel opens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from storage.workload import cores_for
from tasks.sources.failures import reasons
from tasks.sources.pixels import ImagePreparation
from tasks.sources.pretrained import describe_pretrained
from tasks.sources.texts import TextPreparation, longest_text
from tasks.sources.transformers_models import ImageModel, TextModel
from tasks.sources.untrusted import (
    read_json,
    require_header,
    require_links_inside,
    require_no_code,
    require_possible_sizes,
    require_tensors_only,
)

if TYPE_CHECKING:
    import torch

    from tasks.readers.base import Rows
    from tasks.sources.base import Model

# How the names of architectures with a classifier end.
_HEADS = ("ForImageClassification", "ForSequenceClassification", "ForTokenClassification")
_CONTENT_SUFFIXES = {".safetensors", ".bin", ".json", ".txt", ".model", ".py"}
_POOLING = "*_Pooling/config.json"
_NOT_CONTENT = {"training_args.bin", "trainer_state.json", "all_results.json", "train_results.json"}


class HuggingFaceSource:
    """Directories in the layout of `save_pretrained`, and hub ids, which are downloaded first."""

    name = "huggingface"

    def accepts(self, path: Path) -> bool:
        return (path / "config.json").is_file()

    def describe(self, path: Path) -> dict[str, Any]:
        """Columns from config.json, the headers of the safetensors files and the model card."""
        weights = self._weights(path)
        if not weights:
            raise EvaluationError(f"{path} has no weights (*.safetensors)", subject=str(path))
        return describe_pretrained(path, weights)

    def require_safe(self, path: Path, trusted: bool) -> None:
        weights = self._weights(path)
        size_bytes = sum(file.stat().st_size for file in weights)
        for config in (path / "config.json", *path.glob("*processor_config.json")):
            require_possible_sizes(read_json(config), size_bytes, config)
        for file in weights:
            if file.suffix == ".safetensors":
                require_header(file)
            else:
                require_tensors_only(file, trusted)
        if not trusted:
            require_links_inside(path)
            require_no_code(path)

    def _weights(self, path: Path) -> list[Path]:
        files = self.content_files(path)
        safe = [file for file in files if file.suffix == ".safetensors"]
        return safe or [file for file in files if file.suffix == ".bin"]

    def content_files(self, path: Path) -> list[Path]:
        return sorted(
            file
            for file in (*path.iterdir(), *path.glob(_POOLING))
            if file.is_file() and file.suffix in _CONTENT_SUFFIXES and file.name not in _NOT_CONTENT
        )

    def open(self, model: ModelRecord) -> Model:
        from transformers import AutoModel

        device = best_device()
        with reasons(model):
            options = {"dtype": _dtype(device), **loading_options(model)}
            network, loading = AutoModel.from_pretrained(model.path, output_loading_info=True, **options)
            require_all_weights(loading["missing_keys"])
            network = encoder_of(network, model)
            network.config.use_cache = False
            network.eval().requires_grad_(False).to(device)
            head = partial(_open_head, model, device, options)
            processor = load_processor(model)
            if model.modality == "image":
                pooler_is_trained = not any("pooler" in name for name in loading["missing_keys"])
                pixels = ImagePreparation(processor, cores_for(model))
                return ImageModel(model, network, head, pixels, pooler_is_trained)
            tokens = TextPreparation(processor, longest_text(processor, network.config))
            return TextModel(model, network, head, processor, tokens, _own_pooling(Path(model.path)))


def encoder_of(network: Any, model: ModelRecord) -> Any:
    """The part that makes features of the model's rows: of one of images and texts, as CLIP, the part that sees."""
    if network.config.is_encoder_decoder:
        return network.get_encoder()
    return getattr(network, "vision_model", network) if model.modality == "image" else network


def _own_pooling(path: Path) -> str:
    """How a sentence transformer pools tokens, by the folder that says so; `mean` where none does, or otherwise."""
    for file in sorted(path.glob(_POOLING)):
        told = read_json(file)
        for pooling, name in (("cls", "pooling_mode_cls_token"), ("max", "pooling_mode_max_tokens")):
            if told.get(name) or told.get("pooling_mode") == pooling:
                return pooling
    return "mean"


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
    """How `from_pretrained` may load the model: no code from its files unless it is trusted.

    Pickles are read as tensors only (`weights_only`, its default). Raises EvaluationError where that is not enough.
    """
    HuggingFaceSource().require_safe(Path(model.path), model.trusted)
    return {"local_files_only": True, "trust_remote_code": model.trusted, "weights_only": not model.trusted}


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
