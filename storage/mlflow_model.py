"""A Hugging Face directory as a model that MLflow opens and serves: its MLmodel file, and the processor beside it."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path

from storage.in_place import put_in_place
from storage.lineage import LINEAGE_FILE

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
    """Add to a directory with a model and its processor what mlflow.transformers and mlflow.pyfunc load it by.

    The weights stay where they are; the small files of the processor are there twice then. A directory without such a
    model is left alone.
    """
    from mlflow.models import Model

    config = _read(directory / "config.json")
    architecture = next(iter(config.get("architectures") or ()), "")
    head = next((head for head in _TASKS if architecture.endswith(head)), None)
    if head is None or (directory / _MLMODEL).exists():
        return
    task, pipeline = _TASKS[head]
    component, kind = ("image_processor", "AutoImageProcessor") if "Image" in head else ("tokenizer", "AutoTokenizer")
    copies = directory / _COMPONENTS / component
    copies.mkdir(parents=True, exist_ok=True)
    for file in directory.iterdir():
        if file.suffix in _SMALL and file.name != LINEAGE_FILE:
            shutil.copy(file, copies)
    model = Model()
    model.add_flavor(
        "transformers",
        task=task,
        instance_type=pipeline,
        pipeline_model_type=f"AutoModel{head}",
        model_binary=".",
        components=[component],
        transformers_version=config.get("transformers_version"),
        **{f"{component}_type": kind},
    )
    model.add_flavor("python_function", loader_module="mlflow.transformers", python_version=platform.python_version())
    with put_in_place(directory / _MLMODEL) as unfinished:
        model.save(unfinished)


def _read(file: Path) -> dict[str, list[str]]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
