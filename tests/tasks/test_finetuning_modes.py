"""How much of a model is fine-tuned, how long, and by which learning rate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from safetensors.numpy import load_file

from flows.registration import register_model
from storage.catalog import Catalog
from storage.checkpoints import CheckpointStore
from storage.errors import EvaluationError
from storage.evaluations import Subject
from storage.parts import whole
from storage.settings import current_settings
from tasks.finetuning import sleeping
from tasks.finetuning.exporting import export_model
from tasks.finetuning.huggingface import finetune_model
from tasks.finetuning.schedules import rate
from tasks.finetuning.torch_training import TorchTraining
from tasks.reading import read_parts

OPTIONS: dict[str, Any] = {"epochs": 3, "lr": 1e-2, "batch_size": 8, "seed": 0}
MODES = ("head", "lora")


def _parts(catalog: Catalog, name: str) -> list[dict[str, Any]]:
    dataset = catalog.dataset(name)
    return [json.loads(json.dumps(whole(Subject(name, dataset.fingerprint), dataset.num_rows).json))]


def _tune(
    catalog: Catalog, model: str, data: str, key: str | None = None, rung: int | None = None, **options: Any
) -> dict[str, Any]:
    splits = (_parts(catalog, f"{data}-{split}") for split in ("train", "test"))
    fingerprint = catalog.model(model).fingerprint
    return finetune_model(model, fingerprint, *splits, OPTIONS | options, key or uuid4().hex, rung)


def _export(catalog: Catalog, model: str, data: str, key: str, to: Path, **options: Any) -> dict[str, np.ndarray]:
    train = _parts(catalog, f"{data}-train")
    export_model(model, catalog.model(model).fingerprint, train, OPTIONS | options, str(to), key)
    return load_file(to / "model.safetensors")


def _checkpoint(key: str) -> Path:
    checkpoint = CheckpointStore(current_settings()).latest(key)
    assert checkpoint is not None
    return checkpoint.directory


@pytest.mark.parametrize(
    ("mode", "model", "data"), [("head", "vit", "colours"), ("lora", "vit", "colours"), ("lora", "bert", "nature")]
)
def test_less_than_the_whole_model_learns_too(catalog: Catalog, mode: str, model: str, data: str) -> None:
    assert _tune(catalog, model, data, mode=mode, epochs=40)["metrics"]["train_loss"] < 0.3


@pytest.mark.parametrize(
    ("mode", "model", "data"),
    [
        *((mode, model, data) for mode in MODES for model, data in (("bert", "nature"), ("vit", "colours"))),
        ("head", "resnet", "photos"),
    ],
)
def test_rungs_are_one_long_run_in_every_mode(catalog: Catalog, mode: str, model: str, data: str) -> None:
    once = _tune(catalog, model, data, "once", mode=mode)
    _tune(catalog, model, data, "rungs", rung=1, mode=mode)
    rungs = _tune(catalog, model, data, "rungs", mode=mode)
    assert (rungs["curve"], rungs["per_row_correct"]) == (once["curve"], once["per_row_correct"])
    weights, others = (load_file(_checkpoint(key) / "best.safetensors") for key in ("once", "rungs"))
    assert all(np.array_equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize(
    ("model", "data", "body"),
    [
        ("bert", "nature", "BertModel"),
        ("roberta", "nature", "RobertaModel"),
        ("vit", "colours", "ViTModel"),
        ("resnet", "photos", "ResNetModel"),
    ],
)
def test_in_mode_head_the_rest_is_run_once_however_many_epochs_there_are(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, model: str, data: str, body: str
) -> None:
    import transformers

    network, runs = getattr(transformers, body), list[int]()
    forward = network.forward

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        outputs = forward(self, *arguments, **named)
        runs.append(len(outputs[0]))
        return outputs

    monkeypatch.setattr(network, "forward", counted)
    _tune(catalog, model, data, epochs=2, mode="head")
    few = sum(runs)
    runs.clear()
    _tune(catalog, model, data, epochs=6, mode="head")
    assert sum(runs) == few


@pytest.mark.parametrize(("model", "data"), [("bert", "nature"), ("vit", "colours"), ("resnet", "photos")])
def test_in_mode_head_what_is_kept_is_learnt_from_as_what_is_computed_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, model: str, data: str
) -> None:
    kept = _tune(catalog, model, data, "kept", mode="head")
    monkeypatch.setattr(sleeping, "_MOST_BYTES", 0)
    again = _tune(catalog, model, data, "again", mode="head")
    assert kept["metrics"]["train_loss"] == pytest.approx(again["metrics"]["train_loss"], rel=1e-4)
    weights, others = (load_file(_checkpoint(key) / "best.safetensors") for key in ("kept", "again"))
    assert all(np.allclose(weights[name], others[name], rtol=1e-3, atol=1e-5) for name in weights)


def test_only_the_head_changes_in_mode_head(catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    """Also averages of batch norm stay as they are."""
    _tune(catalog, "resnet", "photos", "k", mode="head")
    before = load_file(pool.models["resnet"] / "model.safetensors")
    after = _export(catalog, "resnet", "photos", "k", tmp_path / "head", mode="head")
    assert {name for name in after if not np.array_equal(after[name], before[name])} == {
        "classifier.1.weight",
        "classifier.1.bias",
    }


def test_a_pooler_that_no_file_has_is_trained_with_the_head(catalog: Catalog) -> None:
    _tune(catalog, "roberta", "nature", "k", mode="head", rung=1)
    trained = load_file(_checkpoint("k") / "last.safetensors")
    assert any(name.startswith("classifier.") for name in trained)
    assert not any(".encoder." in name for name in trained)


def test_low_rank_changes_become_weights_of_the_architecture_when_exported(
    catalog: Catalog, pool: Any, tmp_path: Path
) -> None:
    import torch
    import transformers

    measured = _tune(catalog, "bert", "nature", "k", mode="lora")
    before = load_file(pool.models["bert"] / "model.safetensors")
    after = _export(catalog, "bert", "nature", "k", tmp_path / "lora", mode="lora")
    assert after.keys() == before.keys()
    changes = (
        after["bert.encoder.layer.0.attention.self.query.weight"]
        - before["bert.encoder.layer.0.attention.self.query.weight"]
    )
    assert 0 < np.linalg.matrix_rank(changes, tol=1e-5) <= 8
    test = catalog.dataset("nature-test")
    rows, labels = read_parts(catalog, [whole(Subject("nature-test", test.fingerprint), test.num_rows)])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "lora")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "lora")
    with torch.no_grad():
        places = model(**tokenizer(rows, return_tensors="pt", padding=True)).logits.argmax(dim=1).tolist()
    told = [model.config.id2label[place] for place in places]
    assert [int(a == b) for a, b in zip(told, labels, strict=True)] == measured["per_row_correct"]


def test_a_model_without_linear_layers_says_which_mode_is_for_it(catalog: Catalog) -> None:
    with pytest.raises(EvaluationError, match="no linear layers") as caught:
        _tune(catalog, "resnet", "photos", mode="lora")
    assert caught.value.fix is not None
    assert "mode='full'" in caught.value.fix


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("steps", [4, 9])
def test_the_learning_rate_rises_to_its_peak_and_falls_to_its_last_step(steps: int, warmup: int) -> None:
    rates = [rate(step, steps, warmup) for step in range(steps)]
    peak = max(warmup - 1, 0)
    assert rates[peak] == max(rates) == 1
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert min(rates) > 0


def test_the_schedule_is_fixed_by_the_most_epochs_and_not_by_a_rung(catalog: Catalog) -> None:
    rung = _tune(catalog, "bert", "nature", epochs=4, warmup=0.5, rung=1)
    assert rung["metrics"]["learning_rate"] == pytest.approx(OPTIONS["lr"] / 2)
    assert _tune(catalog, "bert", "nature", epochs=2, rung=1)["metrics"]["learning_rate"] > OPTIONS["lr"] / 2


def test_patience_ends_a_training_where_nothing_gets_better(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five equal epochs the first is the best, and two more are waited for."""
    whole_run = _tune(catalog, "bert", "nature", "whole", epochs=5, lr=1e-9)
    patient = _tune(catalog, "bert", "nature", "patient", epochs=5, lr=1e-9, patience=2)
    assert patient["curve"] == whole_run["curve"][:3]
    assert patient["value"] == whole_run["value"]
    monkeypatch.delattr(TorchTraining, "train")
    rung = _tune(catalog, "bert", "nature", "patient", rung=4, epochs=5, lr=1e-9, patience=2)
    assert rung["curve"] == patient["curve"]


def test_what_does_not_fit_the_memory_is_taken_in_parts(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps are those of the whole batch, but for rounding."""
    sizes: list[int] = []
    backward = TorchTraining._backward

    def cramped(self: TorchTraining, part: np.ndarray, rows: np.ndarray) -> Any:
        if len(part) > 3:
            raise RuntimeError("CUDA out of memory.")
        sizes.append(len(part))
        return backward(self, part, rows)

    roomy = _tune(catalog, "vit", "colours", "roomy", epochs=1)
    monkeypatch.setattr(TorchTraining, "_backward", cramped)
    assert _tune(catalog, "vit", "colours", "cramped", epochs=1)["curve"] == roomy["curve"]
    assert max(sizes) <= 3
    weights, others = (load_file(_checkpoint(key) / "best.safetensors") for key in ("roomy", "cramped"))
    assert all(np.allclose(weights[name], others[name], atol=1e-3) for name in weights)


def test_one_row_that_does_not_fit_is_a_transient_error(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: TorchTraining, part: np.ndarray, rows: np.ndarray) -> Any:
        raise RuntimeError("CUDA out of memory.")

    monkeypatch.setattr(TorchTraining, "_backward", full)
    with pytest.raises(EvaluationError, match="out of memory") as caught:
        _tune(catalog, "vit", "colours", epochs=1)
    assert caught.value.transient


@pytest.mark.parametrize(("factor", "reason"), [(float("nan"), "is not finite"), (1e6, "rose to")])
def test_a_loss_that_is_lost_ends_a_training_at_once(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, factor: float, reason: str
) -> None:
    steps = 0
    step = TorchTraining._step

    def lost(self: TorchTraining, rows: np.ndarray) -> Any:
        nonlocal steps
        steps += 1
        return step(self, rows) * (1 if steps == 1 else factor)

    monkeypatch.setattr(TorchTraining, "_step", lost)
    result = _tune(catalog, "bert", "nature", epochs=50, rung=25)
    assert reason in result["reason"]
    assert result["collapsed"]
    assert steps <= 16


def test_a_rung_tells_that_the_validation_part_is_told_alike(catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = shutil.copytree(pool.models["bert"], tmp_path / "zero")
    weights = load_file(path / "model.safetensors")
    for array in weights.values():
        array.fill(0)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    register_model(catalog, "zero", str(path))
    assert _tune(catalog, "zero", "nature", rung=1)["collapsed"]
    assert not _tune(catalog, "vit", "colours", rung=1)["collapsed"]


@pytest.mark.parametrize("mode", MODES)
def test_the_head_of_a_model_of_images_and_texts_is_what_no_file_has(
    catalog: Catalog, pool: Any, tmp_path: Path, mode: str
) -> None:
    import transformers as hf

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vision = {**small, "image_size": 16, "patch_size": 4}
    config = hf.CLIPConfig(text_config={**small, "vocab_size": 40}, vision_config=vision, projection_dim=16)
    hf.CLIPModel(config).save_pretrained(tmp_path / "clip")
    shutil.copy(pool.models["vit"] / "preprocessor_config.json", tmp_path / "clip")
    register_model(catalog, "clip", str(tmp_path / "clip"))
    _tune(catalog, "clip", "colours", "k", mode=mode, rung=1)
    trained = load_file(_checkpoint("k") / "last.safetensors").keys()
    assert {"classifier.weight", "classifier.bias"} <= trained
    assert all("lora_" in name for name in trained - {"classifier.weight", "classifier.bias"})
