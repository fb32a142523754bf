"""TensorFlow Hub models: SavedModel directories and hub handles that `hub.load` opens."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from tasks.sources.batches import BatchedModel, Outputs, as_probabilities, flatten_positions
from tasks.sources.failures import reasons
from tasks.sources.untrusted import read_json, require_links_inside
from tasks.sources.untrusted_programs import require_computing_graph

if TYPE_CHECKING:
    from tasks.sources.base import Model

# Where a model that was fine-tuned here names its classes.
LABELS = Path("assets.extra") / "labels.json"
# What a model is loaded from.
_SAVED = ("*.pb", "*.pbtxt", "variables/**/*", "assets/**/*", "assets.extra/**/*")
_STRING = 7  # DT_STRING
_TOKENS = (3, 9)  # DT_INT32, DT_INT64
# Of training, and what Keras exports save a second time.
_NOT_WEIGHTS = ("optimizer/", "keras_api/metrics/", "_all_variables/")
# Signatures by which a model that is no function itself gives features, the best first.
_SIGNATURES = ("image_feature_vector", "serving_default", "default")
_FEATURES = ("default", "feature_vector", "pooled_output", "features", "embedding", "embeddings", "outputs")
_PROBABILITIES = ("probabilities", "probs", "predictions", "logits", "scores")


class TFHubSource:
    """SavedModels in the hub's styles: callable, with signatures (also Keras exports), and TF1-format modules."""

    name = "tfhub"

    def accepts(self, path: Path) -> bool:
        return (path / "saved_model.pb").is_file()

    def require_safe(self, path: Path, trusted: bool) -> None:
        if not trusted:
            require_links_inside(path)
            require_computing_graph(_read(path), path)

    def describe(self, path: Path) -> dict[str, Any]:
        """Columns from the file sizes and the saved signatures, read without loading the model."""
        graphs = _read(path).meta_graphs
        # Of a TF1-format module's variants the one without tags is for use, the others for training.
        graph = min(graphs, key=lambda one: len(one.meta_info_def.tags), default=None)
        inputs, outputs = _signature(graph) if graph else ([], [])
        if not inputs:
            raise EvaluationError(f"{path} can neither be called nor has a signature", subject=str(path))
        dtype, shape = inputs[0]
        if dtype in _TOKENS and len(shape) != 4:
            raise EvaluationError(f"{path} takes token numbers and has nothing that makes them", subject=str(path))
        widths = [shape[-1] for _, shape in outputs if shape and shape[-1] > 0]
        return {
            "modality": "text" if dtype == _STRING else "image",
            "architecture": "SavedModel",
            **_weights(path),
            "size_bytes": sum(file.stat().st_size for file in self.content_files(path)),
            "embedding_dim": max(widths, default=None),
            "image_size": shape[1] if len(shape) == 4 and shape[1] > 0 else None,
            **_labels(path / LABELS),
        }

    def content_files(self, path: Path) -> list[Path]:
        # Of what is saved, fingerprint.pb differs at every save of the same model.
        files = (file for pattern in _SAVED for file in path.glob(pattern))
        return sorted(file for file in files if file.is_file() and file.name != "fingerprint.pb")

    def open(self, model: ModelRecord) -> Model:
        import tensorflow as tf
        import tensorflow_hub as hub

        self.require_safe(Path(model.path), model.trusted)
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
        with reasons(model):
            return TFHubModel(model, hub.load(model.path))


class TFHubModel(BatchedModel):
    """An opened SavedModel. Images are given as float32 in 0 to 1 at its input size, text as strings."""

    def __init__(self, model: ModelRecord, loaded: Any) -> None:
        super().__init__(model)
        # The functions hold only weak references to the object that owns their variables.
        self._loaded = loaded
        self._function: Any = loaded
        self._input: str | None = None
        self._output = "default"
        if callable(loaded):
            # The function leaves its output unnamed; its signature says what it is.
            functions = getattr(loaded.__call__, "concrete_functions", ())
            name = _preferred(getattr(loaded, "signatures", {}))
            outputs = list(loaded.signatures[name].structured_outputs) if name else []
            self._output = outputs[0] if len(outputs) == 1 else "default"
        else:
            name = _preferred(loaded.signatures)
            if name is None:
                raise EvaluationError("the SavedModel can neither be called nor has a signature")
            self._function = loaded.signatures[name]
            arguments = list(self._function.structured_input_signature[1])
            if len(arguments) != 1:
                raise EvaluationError(
                    f"its signature {name} takes {', '.join(sorted(arguments)) or 'nothing'}; "
                    "only one input, of images or of sentences, can be fed"
                )
            (self._input,) = arguments
            functions = [self._function]
        self._rank = _rank(functions)

    def close(self) -> None:
        self._loaded = self._function = None

    @property
    def weights(self) -> list[Any]:
        """The variables that were trained, each once."""
        import tensorflow as tf

        held = tf.train.TrackableView(self._loaded).descendants()
        variables = {id(each): each for each in held if isinstance(each, tf.Variable)}
        return [each for each in variables.values() if each.trainable and each.dtype.is_floating]

    @property
    def loaded(self) -> Any:
        """The SavedModel itself, which owns variables and assets."""
        return self._loaded

    def feed(self, batch: Any) -> Any:
        """What its function takes, of a tensor of sentences, or of images in 0 to 1."""
        # Some take a column of sentences.
        return batch[:, None] if self._rank == 2 else batch

    def features(self, fed: Any) -> Any:
        """The tensor (rows, …, dimensions) of features."""
        return _features(self._outputs(fed))

    def _run(self, batch: Any) -> Outputs:
        import tensorflow as tf

        named = self._outputs(self.feed(tf.constant(batch)))
        scores = next((named[name] for name in _PROBABILITIES if name in named), None)
        return Outputs(
            flatten_positions(_features(named).numpy()), None if scores is None else as_probabilities(scores.numpy())
        )

    def _outputs(self, fed: Any) -> dict[str, Any]:
        output = self._function(fed) if self._input is None else self._function(**{self._input: fed})
        return output if isinstance(output, dict) else {self._output: output}


def _labels(file: Path) -> dict[str, str]:
    """The names of the classes that probabilities are of, where there is a file of them."""
    labels = read_json(file).get("labels") if file.is_file() else None
    return {"labels": json.dumps([str(label) for label in labels])} if isinstance(labels, list) else {}


def _features(named: dict[str, Any]) -> Any:
    return next((named[name] for name in _FEATURES if name in named), next(iter(named.values())))


def _read(path: Path) -> Any:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as error:
        raise EvaluationError(f"{path / 'saved_model.pb'} cannot be read: {error}", subject=str(path)) from error
    return saved


def _preferred(signatures: Any) -> str | None:
    """The signature to use: one named for features, else any but the initialiser's."""
    named = [name for name in _SIGNATURES if name in signatures]
    return next(iter([*named, *sorted(name for name in signatures if not name.startswith("__"))]), None)


def _signature(graph: Any) -> tuple[list[tuple[int, list[int]]], list[tuple[int, list[int]]]]:
    """The inputs and outputs, as type and shape: of the function that the model is, else of its signature."""
    objects = graph.object_graph_def
    name = _preferred(graph.signature_def)
    for child in objects.nodes[0].children if objects.nodes else ():
        functions = objects.nodes[child.node_id].function.concrete_functions
        if child.local_name == "__call__" and functions:
            called = objects.concrete_functions[functions[0]]
            inputs = list(_tensors(called.canonicalized_input_signature))
            return inputs[:1], list(_tensors(called.output_signature))
    if name is None:
        return [], []
    signature = graph.signature_def[name]
    return [_typed(one) for one in signature.inputs.values()], [_typed(one) for one in signature.outputs.values()]


def _rank(functions: Any) -> int | None:
    """How many dimensions the first argument of TensorFlow functions has."""
    import tensorflow as tf

    specs = tf.nest.flatten([function.structured_input_signature for function in functions])
    ranks = [spec.shape.rank for spec in specs if isinstance(spec, tf.TensorSpec)]
    return ranks[0] if ranks else None


def _tensors(value: Any) -> Iterator[tuple[int, list[int]]]:
    """The tensors of a nested signature (a StructuredValue), depth first."""
    kind = value.WhichOneof("kind")
    if kind == "tensor_spec_value":
        yield value.tensor_spec_value.dtype, [size.size for size in value.tensor_spec_value.shape.dim]
    elif kind in {"tuple_value", "list_value"}:
        for one in getattr(value, kind).values:
            yield from _tensors(one)
    elif kind == "dict_value":
        for name in sorted(value.dict_value.fields):
            yield from _tensors(value.dict_value.fields[name])


def _typed(tensor: Any) -> tuple[int, list[int]]:
    return tensor.dtype, [size.size for size in tensor.tensor_shape.dim]


def _weights(path: Path) -> dict[str, Any]:
    """Number and type of the parameters by the checkpoint's index, without reading the values."""
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
        shapes = reader.get_variable_to_shape_map()
        kinds = reader.get_variable_to_dtype_map()
    except Exception:
        return {"num_params": None, "dtype": None}
    counts: dict[str, int] = {}
    for name, shape in shapes.items():
        if kinds[name].is_floating and not name.startswith(_NOT_WEIGHTS):
            counts[kinds[name].name] = counts.get(kinds[name].name, 0) + math.prod(shape)
    return {"num_params": sum(counts.values()), "dtype": max(counts, key=counts.__getitem__, default=None)}
