"""A directory of a model as one that MLflow opens and serves: its MLmodel file, and a processor beside it."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from storage.in_place import put_in_place
from storage.lineage import LINEAGE_FILE

if TYPE_CHECKING:
    from mlflow.models import Model

_MLMODEL = "MLmodel"
_COMPONENTS = "components"
_SMALL = {".json", ".txt", ".model"}
# By how the architecture ends: what a pipeline of transformers calls the task, and itself.
_TASKS = {
    "ForImageClassification": ("image-classification", "ImageClassificationPipeline"),
    "ForSequenceClassification": ("text-classification", "TextClassificationPipeline"),
    "ForTokenClassification": ("token-classification", "TokenClassificationPipeline"),
}


def describe_for_mlflow(directory: Path) -> None:
    """Add to a directory with a model what mlflow.pyfunc, and mlflow.transformers or mlflow.tensorflow, load it by.

    The weights stay where they are; the small files of a processor are there twice then. A directory with neither a
    SavedModel nor a model of transformers with its processor is left alone.
    """
    from mlflow.models import Model

    config = _read(directory / "config.json")
    architecture = next(iter(config.get("architectures") or ()), "")
    head = next((head for head in _TASKS if architecture.endswith(head)), None)
    is_saved_model = (directory / "saved_model.pb").exists()
    if (head is None and not is_saved_model) or (directory / _MLMODEL).exists():
        return
    model = Model()
    if head is None:
        model.add_flavor("tensorflow", model_type="tf2-module", saved_model_dir=".")
    else:
        _add_transformers(model, directory, head, config.get("transformers_version"))
    loader = "mlflow.tensorflow" if head is None else "mlflow.transformers"
    model.add_flavor("python_function", loader_module=loader, python_version=platform.python_version())
    with put_in_place(directory / _MLMODEL) as unfinished:
        model.save(unfinished)


def _add_transformers(model: Model, directory: Path, head: str, version: object) -> None:
    """Tell of the model of transformers with that head, and put the files of its processor where it is looked for."""
    task, pipeline = _TASKS[head]
    component, kind = ("image_processor", "AutoImageProcessor") if "Image" in head else ("tokenizer", "AutoTokenizer")
    copies = directory / _COMPONENTS / component
    copies.mkdir(parents=True, exist_ok=True)
    for file in directory.iterdir():
        if file.suffix in _SMALL and file.name != LINEAGE_FILE:
            shutil.copy(file, copies)
    model.add_flavor(
        "transformers",
        task=task,
        instance_type=pipeline,
        pipeline_model_type=f"AutoModel{head}",
        model_binary=".",
        components=[component],
        transformers_version=version,
        **{f"{component}_type": kind},
    )


def _read(file: Path) -> dict[str, list[str]]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
