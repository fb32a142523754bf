"""Hugging Face models: hub ids or directories, any encoder of text or images that AutoModel opens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from storage.lineage import LINEAGE_FILE
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

# What the names of architectures with a classifier have in them.
_HEADS = ("ForImageClassification", "ForSequenceClassification", "ForTokenClassification")
_CONTENT_SUFFIXES = {".safetensors", ".bin", ".json", ".txt", ".model", ".py"}
_POOLING = "*_Pooling/config.json"
# Of a sentence transformer, by pooling: the switch that older files have, and the one word that newer ones have.
_POOLING_MODES = {
    "cls": ("pooling_mode_cls_token", "cls"),
    "max": ("pooling_mode_max_tokens", "max"),
    "last": ("pooling_mode_lasttoken", "lasttoken"),
}
_NOT_CONTENT = {LINEAGE_FILE, "training_args.bin", "trainer_state.json", "all_results.json", "train_results.json"}


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
        device = best_device()
        with reasons(model):
            options = {"dtype": _dtype(device), **loading_options(model)}
            network, missing = load_network(model, options)
            network.config.use_cache = False
            network.requires_grad_(False).to(device)
            processor = load_processor(model)
            head = partial(_open_head, model, device, options, getattr(processor, "pad_token_id", None))
            if model.modality == "image":
                pooler_is_trained = not any("pooler" in name for name in missing)
                pixels = ImagePreparation(processor, cores_for(model))
                return ImageModel(model, network, head, pixels, pooler_is_trained)
            tokens = TextPreparation(processor, longest_text(processor, network))
            return TextModel(model, network, head, processor, tokens, _own_pooling(Path(model.path)))


def _own_pooling(path: Path) -> str:
    """How a sentence transformer pools tokens, by the folder that says so; `mean` where none does, or otherwise."""
    for file in sorted(path.glob(_POOLING)):
        told = read_json(file)
        for pooling, (name, alone) in _POOLING_MODES.items():
            if told.get(name) or told.get("pooling_mode") == alone:
                return pooling
    return "mean"


def load_network(model: ModelRecord, options: Mapping[str, Any]) -> tuple[Any, set[str]]:
    """The part of the model that makes features, for inference, and the names of its weights that the files lack.

    Raises EvaluationError when it lacks more than a pooler.
    """
    from transformers import AutoModel

    whole, loading = AutoModel.from_pretrained(model.path, output_loading_info=True, **options)
    network = whole
    # The config of an encoder that was saved alone may deny that there ever was a decoder.
    if whole.config.is_encoder_decoder or (model.architecture or "").endswith("EncoderModel"):
        network = whole.get_encoder()
    elif model.modality == "image":
        # Of a model of images and texts, as CLIP, the part that sees.
        network = getattr(whole, "vision_model", whole)
    # Weights of one part may be saved without the others, and shared by parts under a name of neither.
    used = {id(weights) for weights in (*network.parameters(), *network.buffers())}
    named = (*whole.named_parameters(remove_duplicate=False), *whole.named_buffers(remove_duplicate=False))
    missing = {name for name, weights in named if id(weights) in used} & set(loading["missing_keys"])
    require_all_weights(missing)
    _leave_nothing_to_chance(network)
    return network.eval(), missing


def _leave_nothing_to_chance(network: Any) -> None:
    """Have a network see all of every row, whatever it saw in training and however far its batch is padded."""
    if getattr(network.config, "mask_ratio", 0):
        network.config.mask_ratio = 0.0
    if hasattr(network, "set_attention_type"):
        network.set_attention_type("original_full")


def _dtype(device: torch.device) -> torch.dtype:
    """Half the bytes on a GPU that computes with them; bfloat16 has the range of float32, so nothing overflows."""
    import torch

    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def _open_head(model: ModelRecord, device: torch.device, options: Mapping[str, Any], padding: int | None) -> Any:
    """The model with the classifier it was trained with. Raises EvaluationError when its files hold none.

    The head of a decoder looks for the last token that is not `padding`.
    """
    import transformers

    architecture = model.architecture or ""
    task = next((task for task in _HEADS if task in architecture), None)
    if task is None:
        raise EvaluationError(
            f"it has no classes of its own ({architecture})", fix="rank by LogME, which needs none, or leave it out"
        )
    auto = getattr(transformers, f"AutoModel{task}")
    network, loading = auto.from_pretrained(model.path, output_loading_info=True, **options)
    if loading["missing_keys"]:
        raise EvaluationError("its head tells no classes apart", fix="rank by LogME, which needs none, or leave it out")
    if padding is not None:
        network.config.get_text_config().pad_token_id = padding
    _leave_nothing_to_chance(network.base_model)
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
