"""Torch modules: programs of `torch.export` (.pt2 files), and modules that installed packages offer.

A package offers one by an entry point of the group `shiftql.models`: a callable without arguments that returns an
`nn.Module` with its weights. The module may have

- `modality`: "image" (default) or "text";
- `image_size`: the side of the images it takes, 224 by default;
- `transform`: a callable from a list of rows ((height, width, 3) uint8 images, or sentences) to the one argument of
  the module, on its device. By default images become (rows, 3, image_size, image_size) float32 in 0 to 1. For text it
  is needed.

The module returns a tensor, or a dict or tuple of them: see `PyTorchModel`.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.catalog import ModelRecord
from storage.errors import EvaluationError, StoreError
from storage.fingerprints import fingerprint_of
from storage.workload import cores_for
from tasks.sources.batches import BatchedModel, Outputs, as_probabilities, require_kind
from tasks.sources.failures import reasons
from tasks.sources.huggingface import best_device
from tasks.sources.untrusted_programs import require_plain_program

if TYPE_CHECKING:
    import torch

    from tasks.readers.base import Rows
    from tasks.sources.base import Model

GROUP = "shiftql.models"
SUFFIX = ".pt2"
_FALLBACK_SIDE = 224
_FEATURES = ("features", "pooler_output", "embedding", "embeddings", "last_hidden_state")
_PROBABILITIES = ("probabilities", "probs", "predictions", "logits", "scores")
# The types of torch's own enumeration of them, as an exported program numbers them.
_DTYPES = {6: "float16", 7: "float32", 8: "float64", 13: "bfloat16"}


class PyTorchSource:
    """`.pt2` files by their path, modules of installed packages by the name of their entry point."""

    name = "torch"

    def accepts(self, path: Path) -> bool:
        return (path.suffix == SUFFIX and path.is_file()) or str(path) in offered()

    def require_safe(self, path: Path, trusted: bool) -> None:
        # An installed package is code that was let in when it was installed.
        if path.suffix == SUFFIX:
            require_plain_program(path, trusted)

    def describe(self, path: Path) -> dict[str, Any]:
        """Columns from the program's own description; an entry point's module is made for it."""
        return _describe_program(path) if path.suffix == SUFFIX else _describe_module(_make(str(path)))

    def content_files(self, path: Path) -> list[Path]:
        """The file; of an entry point, the files of the package it is in."""
        if path.suffix == SUFFIX:
            return [path]
        origin = Path(_found(str(path)))
        if origin.name != "__init__.py":
            return [origin]
        files = origin.parent.rglob("*")
        return sorted(file for file in files if file.is_file() and "__pycache__" not in file.parts)

    def open(self, model: ModelRecord) -> Model:
        path = Path(model.path)
        self.require_safe(path, model.trusted)
        import torch
        from torch.export.passes import move_to_device_pass

        with reasons(model):
            device = best_device()
            if path.suffix != SUFFIX:
                module = _make(model.path).eval().to(device)
                return PyTorchModel(model, module, device, getattr(module, "transform", None))
            program = move_to_device_pass(torch.export.load(path), device)
            # Its checks of the input are code of its own, and the input is made to measure.
            module = program.module(check_guards=False)
            return PyTorchModel(model, module, device, None, _input_shape(_description(path))[0])


class PyTorchModel(BatchedModel):
    """An opened module. `exact_rows` is how many rows it takes at a time, where it takes no other number.

    Of a dict, the features are the output named so (features, pooler_output, embedding, embeddings, last_hidden_state),
    else its first, as of a tuple; probabilities are the one named probabilities, probs, predictions, logits or scores.
    Positions are averaged: of (rows, dimensions, height, width) and of (rows, positions, dimensions).
    """

    def __init__(
        self,
        model: ModelRecord,
        module: Any,
        device: torch.device,
        transform: Callable[[Rows], Any] | None,
        exact_rows: int | None = None,
    ) -> None:
        super().__init__(model)
        if transform is None and model.modality == "text":
            raise EvaluationError("it takes text and has no transform to make tensors of it", subject=model.name)
        self._module = module
        self._device = device
        self._transform = transform
        self._exact_rows = exact_rows
        self.batch_rows = exact_rows or self.batch_rows
        if transform is not None:
            self.preparation = fingerprint_of("as it is", model.modality)

    def prepare(self, rows: Rows) -> list[Any]:
        if self._transform is None:
            return super().prepare(rows)
        require_kind(rows, self._model)
        return list(rows)

    def close(self) -> None:
        self._module = None

    def _batch(self, prepared: Sequence[Any]) -> Any:
        import torch

        if self._transform is not None:
            return self._transform(prepared)
        pixels = torch.from_numpy(super()._batch(prepared)).permute(0, 3, 1, 2)
        missing = (self._exact_rows or len(prepared)) - len(prepared)
        return torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)]).contiguous().to(self._device)

    def _run(self, batch: Any) -> Outputs:
        import torch

        torch.set_num_threads(cores_for(self._model))
        with torch.inference_mode():
            output = self._module(batch)
        named = output if isinstance(output, dict) else {"features": output}
        features = next((named[name] for name in _FEATURES if name in named), next(iter(named.values())))
        scores = next((named[name] for name in _PROBABILITIES if name in named), None)
        if isinstance(features, tuple | list):
            features = features[0]
        return Outputs(
            _pooled(features).float().cpu().numpy(),
            None if scores is None else as_probabilities(scores.float().cpu().numpy()),
        )


def offered() -> dict[str, Any]:
    """The entry points of installed packages that make modules, by name; none is loaded."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _pooled(features: torch.Tensor) -> torch.Tensor:
    if features.ndim == 4:
        return features.mean(dim=(2, 3))
    return features.mean(dim=1) if features.ndim == 3 else features.flatten(1)


def _make(name: str) -> Any:
    points = offered()
    if name not in points:
        raise StoreError(f"no installed package offers a model {name!r}", subject=name, allowed=sorted(points))
    return points[name].load()()


def _found(name: str) -> str:
    """The file of the package that offers a model, found without importing it."""
    points = offered()
    spec = find_spec(points[name].module.split(".")[0]) if name in points else None
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"no installed package offers a model {name!r}")
    return spec.origin


def _describe_module(module: Any) -> dict[str, Any]:
    parameters = list(module.parameters())
    modality = getattr(module, "modality", "image")
    return {
        "modality": modality,
        "architecture": type(module).__name__,
        "num_params": sum(one.numel() for one in parameters),
        "dtype": str(parameters[0].dtype).removeprefix("torch.") if parameters else None,
        "size_bytes": sum(one.numel() * one.element_size() for one in parameters),
        "image_size": getattr(module, "image_size", _FALLBACK_SIDE) if modality == "image" else None,
    }


def _describe_program(path: Path) -> dict[str, Any]:
    program = _description(path)
    shape = _input_shape(program)
    if len(shape) != 4 or shape[1] != 3:
        raise EvaluationError(
            f"{path} takes {shape}, and only programs of images, (rows, 3, height, width), can be fed",
            subject=str(path),
        )
    with zipfile.ZipFile(path) as archive:
        (weights,) = (name for name in archive.namelist() if name.endswith("weights_config.json"))
        tensors = [one for one in json.loads(archive.read(weights))["config"].values() if one["is_param"]]
    sizes = [math.prod(size["as_int"] for size in one["tensor_meta"]["sizes"]) for one in tensors]
    return {
        "modality": "image",
        "architecture": "ExportedProgram",
        "num_params": sum(sizes),
        "dtype": _DTYPES.get(tensors[0]["tensor_meta"]["dtype"]) if tensors else None,
        "size_bytes": path.stat().st_size,
        "image_size": shape[2],
    }


def _description(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("models/model.json"))
        return json.loads(archive.read(name))


def _input_shape(program: dict[str, Any]) -> list[int | None]:
    """The shape of the one input; None where any length will do."""
    graph = program["graph_module"]
    inputs = [one["user_input"]["arg"] for one in graph["signature"]["input_specs"] if "user_input" in one]
    if len(inputs) != 1 or "as_tensor" not in inputs[0]:
        raise EvaluationError(f"the program takes {len(inputs)} inputs; one, of images, can be fed")
    sizes = graph["graph"]["tensor_values"][inputs[0]["as_tensor"]["name"]]["sizes"]
    return [size.get("as_int") for size in sizes]
