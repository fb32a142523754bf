"""Model sources by name. Light to import: an adapter's library is loaded when a model is opened."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import StoreError

if TYPE_CHECKING:
    from tasks.sources.base import ModelSource

_ADAPTERS = {
    "huggingface": "tasks.sources.huggingface:HuggingFaceSource",
    "tfhub": "tasks.sources.tfhub:TFHubSource",
    "torch": "tasks.sources.pytorch:PyTorchSource",
    "keras": "tasks.sources.keras:KerasSource",
    "pca": "tasks.sources.pca:PCASource",
    "raw": "tasks.sources.raw:RawSource",
}

# Registered by people; `raw` is the built-in baseline.
SOURCES = ("huggingface", "tfhub", "torch", "keras", "pca")

# The child process (see tasks.host) in which a source's models live; None means this one.
HOSTS = {
    "huggingface": "torch",
    "torch": "torch",
    "tfhub": "tensorflow",
    "keras": "tensorflow",
    "pca": None,
    "raw": None,
}
# The sources whose models are described there too: that takes the library.
DESCRIBED_IN_HOST = {"tfhub", "torch"}


def source_named(name: str) -> ModelSource:
    """The adapter of that name. Raises StoreError naming the ones there are."""
    if name not in _ADAPTERS:
        raise StoreError(f"there is no model source {name!r}", subject=name, allowed=SOURCES)
    module, _, adapter = _ADAPTERS[name].partition(":")
    return getattr(import_module(module), adapter)()


def guess_source(path: Path) -> str:
    """The source whose file layout the directory or file has. Raises StoreError when it has none."""
    for name in SOURCES:
        if source_named(name).accepts(path):
            return name
    raise StoreError(
        f"{path} is no model",
        subject=str(path),
        allowed=(
            "a Hugging Face directory (config.json beside weights)",
            "a TensorFlow SavedModel (saved_model.pb)",
            "a file of torch.export (.pt2)",
            "a file of Keras 3 (.keras)",
        ),
        fix="check the path, or name the source with --source",
    )
