"""TensorFlow Hub models: SavedModel directories and hub handles that `hub.load` opens."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from storage.fingerprints import fingerprint_of
from storage.views import LAST, View
from tasks.sources.failures import reasons, require_finite

if TYPE_CHECKING:
    import numpy as np

    from tasks.readers.base import Rows
    from tasks.sources.base import Model

BATCH_ROWS = 64
_FALLBACK_SIDE = 224


class TFHubSource:
    """SavedModels in the TF2 hub style: callable, or with a `serving_default` signature of one input."""

    name = "tfhub"

    def accepts(self, path: Path) -> bool:
        return (path / "saved_model.pb").is_file()

    def describe(self, path: Path) -> dict[str, Any]:
        """Columns from the file sizes and the saved signatures, read without loading the model."""
        from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

        saved = SavedModel()
        try:
            saved.ParseFromString((path / "saved_model.pb").read_bytes())
        except Exception as error:
            raise EvaluationError(f"{path / 'saved_model.pb'} cannot be read: {error}", subject=str(path)) from error
        signatures = [graph.signature_def["serving_default"] for graph in saved.meta_graphs]
        inputs = [tensor for signature in signatures for tensor in signature.inputs.values()]
        outputs = [tensor for signature in signatures for tensor in signature.outputs.values()]
        if not inputs:
            raise EvaluationError(f"{path} has no serving_default signature", subject=str(path))
        shape = [dimension.size for dimension in inputs[0].tensor_shape.dim]
        is_text = inputs[0].dtype == 7  # DT_STRING
        return {
            "modality": "text" if is_text else "image",
            "architecture": "SavedModel",
            "num_params": _count_parameters(path),
            "size_bytes": sum(file.stat().st_size for file in self.content_files(path)),
            "embedding_dim": max(
                (
                    t.tensor_shape.dim[-1].size
                    for t in outputs
                    if t.tensor_shape.dim and t.tensor_shape.dim[-1].size > 0
                ),
                default=None,
            ),
            "image_size": shape[1] if len(shape) == 4 and shape[1] > 0 else None,
        }

    def content_files(self, path: Path) -> list[Path]:
        # fingerprint.pb differs at every save of the same model.
        return sorted(file for file in path.rglob("*") if file.is_file() and file.name != "fingerprint.pb")

    def open(self, model: ModelRecord) -> Model:
        import tensorflow as tf
        import tensorflow_hub as hub

        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
        with reasons(model):
            return TFHubModel(model, hub.load(model.path))


class TFHubModel:
    """An opened SavedModel. Images are given as float32 in 0 to 1 at its input size, text as strings."""

    def __init__(self, model: ModelRecord, loaded: Any) -> None:
        self._model = model
        self.preparation = fingerprint_of("tfhub", model.modality, model.image_size)
        # The functions hold only weak references to the object that owns their variables.
        self._loaded = loaded
        signatures = getattr(loaded, "signatures", {})
        function: Any = loaded if callable(loaded) else signatures.get("serving_default")
        if function is None:
            raise EvaluationError("the SavedModel is not callable and has no serving_default signature")
        self._function = function
        self._by_keyword = not callable(loaded)

    def prepare(self, rows: Rows) -> list[Any]:
        return list(rows) if self._model.modality == "text" else self._images(rows)

    def embed(self, prepared: Sequence[Any], views: Collection[View]) -> dict[View, np.ndarray]:
        import numpy as np

        with reasons(self._model):
            batches = [
                self._embed_batch(prepared[start : start + BATCH_ROWS]) for start in range(0, len(prepared), BATCH_ROWS)
            ]
            return {LAST: require_finite(np.concatenate(batches).astype(np.float32), self._model)}

    def close(self) -> None:
        self._loaded = self._function = None

    def _embed_batch(self, rows: Sequence[Any]) -> np.ndarray:
        import numpy as np
        import tensorflow as tf

        is_text = self._model.modality == "text"
        batch = tf.constant(list(rows)) if is_text else tf.constant(np.stack(rows).astype(np.float32) / 255)
        if self._by_keyword:
            (name,) = self._function.structured_input_signature[1]
            output = self._function(**{name: batch})
        else:
            output = self._function(batch)
        if isinstance(output, dict):
            output = output.get("default", next(iter(output.values())))
        array = output.numpy()
        return array.reshape(len(rows), -1) if array.ndim == 2 else array.mean(axis=tuple(range(1, array.ndim - 1)))

    def _images(self, rows: Rows) -> list[np.ndarray]:
        import numpy as np
        from PIL import Image

        side = self._model.image_size or _FALLBACK_SIDE
        images = [Image.fromarray(np.asarray(row)) for row in rows]
        return [np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)) for image in images]


def _count_parameters(path: Path) -> int | None:
    """Parameters by the checkpoint's index, without reading the values; None when it is unreadable."""
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
        shapes = reader.get_variable_to_shape_map()
        kinds = reader.get_variable_to_dtype_map()
    except Exception:
        return None
    return sum(math.prod(shape) for name, shape in shapes.items() if kinds[name].is_floating)
