from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.catalog import Catalog
from storage.checkpoints import CheckpointStore, training_key
from storage.evaluations import Evaluation, Subject
from storage.parts import Part, whole
from storage.settings import current_settings
from tasks.finetuning.exporting import export_model
from tasks.finetuning.huggingface import finetune_model
from tasks.finetuning.torch_training import TorchTraining
from tasks.rankers.specs import RANKERS
from tasks.reading import read_parts

PARAMS: dict[str, Any] = {"epochs": 4, "lr": 1e-2, "batch_size": 8, "seed": 0}


def _evaluation(catalog: Catalog, model: str, data: str) -> Evaluation:
    splits = [catalog.dataset(f"{data}-{split}") for split in ("train", "test")]
    train, test = (Subject(split.name, split.fingerprint) for split in splits)
    subject = Subject(model, catalog.model(model).fingerprint)
    return Evaluation(subject, train, test, "finetune", str(RANKERS["finetune"].version), PARAMS)


def _part(catalog: Catalog, name: str) -> Part:
    dataset = catalog.dataset(name)
    return whole(Subject(name, dataset.fingerprint), dataset.num_rows)


def _parts(catalog: Catalog, name: str) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(_part(catalog, name).json))]


def _finetune(catalog: Catalog, model: str, data: str) -> dict[str, Any]:
    evaluation = _evaluation(catalog, model, data)
    splits = (_parts(catalog, f"{data}-{split}") for split in ("train", "test"))
    return finetune_model(model, evaluation.model.fingerprint, *splits, PARAMS, training_key(evaluation))


def _export(catalog: Catalog, model: str, data: str, directory: Path) -> dict[str, Any]:
    evaluation, train = _evaluation(catalog, model, data), _parts(catalog, f"{data}-train")
    return export_model(model, evaluation.model.fingerprint, train, PARAMS, str(directory), training_key(evaluation))


@pytest.mark.parametrize(("model", "data"), [("bert", "nature"), ("vit", "colours")])
def test_what_is_loaded_by_two_lines_is_what_was_measured(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, data: str
) -> None:
    measured = _finetune(catalog, model, data)
    # Its checkpoint is there.
    monkeypatch.delattr(TorchTraining, "train")
    exported = _export(catalog, model, data, tmp_path / "exported")
    assert exported["validation_accuracy"] == measured["metrics"]["validation_accuracy"]
    rows, labels = read_parts(catalog, [_part(catalog, f"{data}-test")])
    predicted = _predict(tmp_path / "exported", rows, is_image=data == "colours")
    assert [int(told == label) for told, label in zip(predicted, labels, strict=True)] == measured["per_row_correct"]


def test_an_evicted_training_is_exported_to_the_same_bits(catalog: Catalog, tmp_path: Path) -> None:
    _finetune(catalog, "bert", "nature")
    exported = []
    for name in ("kept", "evicted"):
        _export(catalog, "bert", "nature", tmp_path / name)
        exported.append((tmp_path / name / "model.safetensors").read_bytes())
        CheckpointStore(current_settings()).evict(0)
    assert exported[0] == exported[1]


def _predict(directory: Path, rows: list[Any], is_image: bool) -> list[str]:
    """The class of every row, as a user of transformers gets it."""
    import torch
    import transformers

    if is_image:
        inputs = transformers.AutoImageProcessor.from_pretrained(directory)(images=rows, return_tensors="pt")
        model = transformers.AutoModelForImageClassification.from_pretrained(directory)
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        inputs = tokenizer(rows, return_tensors="pt", padding=True)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(directory)
    with torch.no_grad():
        logits = model(**inputs).logits
    return [model.config.id2label[place] for place in np.argmax(logits.numpy(), axis=1).tolist()]
