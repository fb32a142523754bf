"""Keras models: `.keras` files, opened by Keras 3 on TensorFlow."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from tasks.sources.batches import BatchedModel, Outputs, as_probabilities, flatten_positions
from tasks.sources.failures import reasons
from tasks.sources.untrusted_programs import require_plain_layers

if TYPE_CHECKING:
    from tasks.sources.base import Model

SUFFIX = ".keras"
_HEAD_ACTIVATIONS = {"softmax", "sigmoid", "linear"}


class KerasSource:
    """Files of `model.save("name.keras")` whose one input is images or sentences."""

    name = "keras"

    def accepts(self, path: Path) -> bool:
        return path.suffix == SUFFIX and path.is_file()

    def require_safe(self, path: Path, trusted: bool) -> None:
        require_plain_layers(path, trusted)

    def describe(self, path: Path) -> dict[str, Any]:
        """Columns from the config and the weights' shapes in the file."""
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            counts = _counts(archive)
        layers = config.get("config", {}).get("layers", [])
        dtype, shape = _input(config, layers)
        return {
            "modality": "text" if dtype == "string" else "image",
            "architecture": config["config"].get("name") or config["class_name"],
            "num_params": sum(counts.values()) if counts else None,
            "dtype": max(counts, key=counts.__getitem__, default=None),
            "size_bytes": path.stat().st_size,
            "embedding_dim": _width(layers[-1]),
            "image_size": shape[1] if len(shape) == 4 and dtype != "string" else None,
        }

    def content_files(self, path: Path) -> list[Path]:
        return [path]

    def open(self, model: ModelRecord) -> Model:
        self.require_safe(Path(model.path), model.trusted)
        import keras

        with reasons(model):
            return KerasModel(model, keras.saving.load_model(model.path, compile=False, safe_mode=not model.trusted))


class KerasModel(BatchedModel):
    """An opened Keras model; text is given as strings, images as float32 at its input size.

    They are in 0 to 1, or in 0 to 255 where a layer of its own scales them. Features are what its last layer is given,
    where that is a classifier (a Dense layer with softmax, sigmoid or no activation), else its output.
    """

    def __init__(self, model: ModelRecord, network: Any) -> None:
        import keras

        super().__init__(model)
        # A network that scales pixels itself takes them as they are in files.
        scales = [layer.scale for layer in network.layers if isinstance(layer, keras.layers.Rescaling)]
        self._brightest = 255 if any(np.max(scale) < 0.1 for scale in scales) else 1
        layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.Softmax)]
        head = layers[-1]
        has_head = isinstance(head, keras.layers.Dense) and head.activation.__name__ in _HEAD_ACTIVATIONS
        self._network = keras.Model(
            network.inputs, [head.input, network.outputs[0]] if has_head else [network.outputs[0]]
        )

    @property
    def body(self) -> Any:
        """The network (keras.Model) from what it is fed to its features, made of the same layers."""
        import keras

        return keras.Model(self._network.inputs, self._network.outputs[0])

    def feed(self, batch: Any) -> Any:
        """What the network takes, of a tensor of sentences, or of images in 0 to 1."""
        return batch[:, None] if self._model.modality == "text" else batch * self._brightest

    def close(self) -> None:
        self._network = None

    def _run(self, batch: Any) -> Outputs:
        import tensorflow as tf

        features, *scores = self._network(self.feed(tf.constant(batch)), training=False)
        return Outputs(flatten_positions(features.numpy()), as_probabilities(scores[0].numpy()) if scores else None)


def _width(last: dict[str, Any]) -> int | None:
    """The length of the features, where the last layer tells it."""
    if last["class_name"] != "Dense":
        return None
    if last["config"].get("activation") in _HEAD_ACTIVATIONS:
        return (last.get("build_config") or {}).get("input_shape", [None])[-1]
    return last["config"]["units"]


def _input(config: dict[str, Any], layers: list[dict[str, Any]]) -> tuple[str, list[int | None]]:
    """Type and shape of the one input."""
    inputs = [layer["config"] for layer in layers if layer["class_name"] == "InputLayer"]
    if len(inputs) != 1:
        raise EvaluationError(f"it has {len(inputs)} inputs; one, of images or of sentences, can be fed")
    dtype = inputs[0].get("dtype")
    return str(dtype), inputs[0].get("batch_shape") or inputs[0].get("batch_input_shape") or []


def _counts(archive: zipfile.ZipFile) -> dict[str, int]:
    """Parameters by type, by the headers of the weights."""
    import h5py

    counts: dict[str, int] = {}

    def count(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            counts[str(item.dtype)] = counts.get(str(item.dtype), 0) + item.size

    with archive.open("model.weights.h5") as member, h5py.File(member) as weights:
        weights.visititems(count)
    return counts
