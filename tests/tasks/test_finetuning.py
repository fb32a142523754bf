from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from flows.registration import register_dataset, register_model
from storage.catalog import Catalog
from storage.checkpoints import CheckpointStore
from storage.database import Database
from storage.derivation import change_parts
from storage.errors import EvaluationError
from storage.evaluations import Subject
from storage.parts import Part, whole
from storage.settings import current_settings
from tasks.finetuning.huggingface import finetune_model
from tasks.finetuning.torch_training import TorchTraining

OPTIONS: dict[str, Any] = {"epochs": 3, "lr": 5e-3, "batch_size": 8, "seed": 0}
# What differs from run to run.
TIMES = {"rows_per_second", "peak_memory_bytes"}


def _part(name: str) -> Part:
    dataset = Catalog(Database(current_settings())).dataset(name)
    return whole(Subject(name, dataset.fingerprint), dataset.num_rows)


def _finetune(
    model: str,
    train: Sequence[str | Part],
    test: Sequence[str | Part],
    rung: int | None = None,
    key: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Fine-tune on parts, and on whole datasets by their names; arguments travel as JSON.

    It goes on from the checkpoints of `key`, and is a training of its own without one.
    """
    fingerprint = Catalog(Database(current_settings())).model(model).fingerprint
    splits = [[(_part(each) if isinstance(each, str) else each).json for each in split] for split in (train, test)]
    parts = json.loads(json.dumps(splits))
    return finetune_model(model, fingerprint, *parts, OPTIONS | options, key or uuid4().hex, rung)


def _tune(model: str, data: str, **options: Any) -> dict[str, Any]:
    tested = [] if options.get("rung") else [f"{data}-test"]
    return _finetune(model, [f"{data}-train"], tested, **options)


def _without_time(result: dict[str, Any]) -> dict[str, Any]:
    """What two runs have in common, however much of the training either had to do."""
    figures = {name: value for name, value in result["metrics"].items() if name not in TIMES}
    common = {name: value for name, value in result.items() if name not in {"seconds", "epochs_trained"}}
    return {**common, "metrics": figures}


@pytest.mark.parametrize(("model", "data"), [("bert", "nature"), ("vit", "colours")])
def test_a_model_learns_what_can_be_learnt(catalog: Catalog, model: str, data: str) -> None:
    result = _tune(model, data, epochs=12, lr=1e-2)
    assert result["value"] > 0.7
    assert result["seconds"] > 0


@pytest.mark.parametrize(("model", "data"), [("roberta", "nature"), ("resnet", "photos")])
def test_figures_fit_together(catalog: Catalog, model: str, data: str) -> None:
    result = _tune(model, data)
    assert len(result["curve"]) == OPTIONS["epochs"]
    assert result["metrics"]["validation_accuracy"] == max(result["curve"])
    assert len(result["per_row_correct"]) == catalog.dataset(f"{data}-test").num_rows
    assert result["value"] == pytest.approx(np.mean(result["per_row_correct"]))


def test_equal_seeds_give_equal_results_and_others_differ(catalog: Catalog) -> None:
    first, second = _tune("bert", "nature", lr=1e-3), _tune("bert", "nature", lr=1e-3)
    assert _without_time(first) == _without_time(second)
    others = [_tune("bert", "nature", lr=1e-3, seed=seed) for seed in (1, 2)]
    assert any(_without_time(other) != _without_time(first) for other in others)


def test_the_test_split_chooses_nothing(catalog: Catalog, tmp_path: Path) -> None:
    """Turning the test labels round turns the accuracy round and leaves training as it was."""
    turned = tmp_path / "turned.csv"
    with Path(catalog.dataset("nature-test").path).open(newline="") as file:
        _, *rows = csv.reader(file)
    other = {"animals": "plants", "plants": "animals"}
    with turned.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text, other[label]) for text, label in rows)])
    register_dataset(catalog, "turned-train", catalog.dataset("nature-train").path)
    register_dataset(catalog, "turned-test", str(turned))
    straight, upside_down = _tune("bert", "nature"), _tune("bert", "turned")
    assert upside_down["curve"] == straight["curve"]
    assert upside_down["value"] == pytest.approx(1 - straight["value"])


def test_a_class_that_training_never_saw_is_never_right(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "unseen.csv"
    path.write_text("text,label\na rose,minerals\na cat,minerals\n")
    register_dataset(catalog, "unseen", str(path))
    result = _finetune("bert", ["nature-train"], ["unseen"], epochs=1)
    assert result["per_row_correct"] == [0, 0]


def test_several_splits_are_taken_as_one(catalog: Catalog) -> None:
    result = _finetune("bert", ["nature-train", "nature-test"], ["nature-test", "nature-train"], epochs=1)
    assert len(result["per_row_correct"]) == 60


def test_equal_content_gives_equal_results_whatever_way_it_was_made(catalog: Catalog, tmp_path: Path) -> None:
    """Rows replaced train like a file with the same rows."""
    train, test = _part("nature-train"), _part("nature-test")
    changed = change_parts(train.dataset, train.num_rows, [([4, 0, 5], test.dataset, [7, 6, 8])])
    with Path(catalog.dataset("nature-train").path).open(newline="") as file:
        header, *rows = csv.reader(file)
    with Path(catalog.dataset("nature-test").path).open(newline="") as file:
        _, *others = csv.reader(file)
    rows[4], rows[0], rows[5] = others[7], others[6], others[8]
    with (tmp_path / "written.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    register_dataset(catalog, "written", str(tmp_path / "written.csv"))
    tested = Part(test.dataset, ((0, 5),))
    assert _without_time(_finetune("bert", changed, [tested], epochs=2)) == _without_time(
        _finetune("bert", ["written"], [tested], epochs=2)
    )


def test_the_rows_that_are_tested_are_those_of_the_part_in_their_order(catalog: Catalog) -> None:
    tuned = _tune("bert", "nature", epochs=1)
    spans = ((20, 24), (3, 9))
    part = Part(_part("nature-test").dataset, spans)
    result = _finetune("bert", ["nature-train"], [part], epochs=1)
    assert result["per_row_correct"] == [*tuned["per_row_correct"][20:24], *tuned["per_row_correct"][3:9]]
    assert 0 < sum(tuned["per_row_correct"]) < len(tuned["per_row_correct"])


def test_rows_that_changed_meanwhile_are_a_transient_error(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("text,label\n" + "a rose,x\na cat,y\n" * 5)
    register_dataset(catalog, "d", str(path))
    path.write_text("text,label\n" + "a rose,x\na dog,y\n" * 5)
    with pytest.raises(EvaluationError, match="d changed while it was read") as caught:
        _finetune("bert", ["d"], ["nature-test"])
    assert caught.value.transient


def _register_filled(catalog: Catalog, pool: Any, path: Path, value: float) -> str:
    """A BERT all of whose weights are one number; its name."""
    shutil.copytree(pool.models["bert"], path)
    weights = load_file(path / "model.safetensors")
    for array in weights.values():
        array.fill(value)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    register_model(catalog, path.name, str(path))
    return path.name


def test_a_loss_that_is_not_a_number_is_a_collapse(catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    result = _tune(_register_filled(catalog, pool, tmp_path / "nan", np.nan), "nature", epochs=1)
    assert result["reason"].startswith("the loss is not finite at lr=0.005")
    assert result["collapsed"]
    assert result["seconds"] > 0


def test_one_class_for_every_row_is_a_collapse(catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    assert not _tune("bert", "nature", epochs=12, lr=1e-2)["collapsed"]
    assert _tune(_register_filled(catalog, pool, tmp_path / "zero", 0.0), "nature", epochs=1)["collapsed"]


def test_broken_weights_are_an_error_with_a_reason(catalog: Catalog, pool: Any, tmp_path: Path) -> None:
    path = shutil.copytree(pool.models["vit"], tmp_path / "torn")
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[: len(content) // 2])
    register_model(catalog, "torn", str(path))
    with pytest.raises(EvaluationError, match=r"\w+") as caught:
        _tune("torn", "colours", epochs=1)
    assert not caught.value.transient


def test_too_few_rows_are_an_error(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "few.csv"
    path.write_text("text,label\na rose,x\na cat,y\n")
    register_dataset(catalog, "few", str(path))
    with pytest.raises(EvaluationError, match="2 training rows are too few"):
        _finetune("bert", ["few"], ["few"])


def test_training_leaves_nothing_behind(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path / "scratch")
    _tune("bert", "nature", epochs=1)
    assert list((tmp_path / "scratch").iterdir()) == []


def _weights_of(key: str) -> dict[str, np.ndarray]:
    """The weights in a training's checkpoint, by file and name."""
    checkpoint = CheckpointStore(current_settings()).latest(key)
    assert checkpoint is not None
    files = sorted(checkpoint.directory.glob("*.safetensors"))
    return {f"{file.name}/{name}": array for file in files for name, array in load_file(file).items()}


@pytest.mark.parametrize(("model", "data"), [("bert", "nature"), ("resnet", "photos")])
@pytest.mark.parametrize("rungs", [[1, 2, 3], [2], [3, 1]])
def test_rungs_are_one_long_run_bit_for_bit(catalog: Catalog, model: str, data: str, rungs: list[int]) -> None:
    once = _tune(model, data, epochs=4, key="once")
    by_rungs = [_tune(model, data, epochs=4, key="rungs", rung=rung) for rung in rungs]
    last = _tune(model, data, epochs=4, key="rungs")
    assert _without_time(last) == _without_time(once)
    assert [result["curve"] for result in by_rungs] == [once["curve"][:rung] for rung in rungs]
    weights, others = _weights_of("once"), _weights_of("rungs")
    assert weights.keys() == others.keys()
    assert all(np.array_equal(weights[name], others[name]) for name in weights)


def test_rungs_of_two_runs_have_equal_weights_to_go_on_from(catalog: Catalog) -> None:
    _tune("bert", "nature", epochs=4, key="once", rung=3)
    for rung in (1, 3):
        _tune("bert", "nature", epochs=4, key="rungs", rung=rung)
    weights, others = _weights_of("once"), _weights_of("rungs")
    assert "last.safetensors/classifier.weight" in weights
    assert all(np.array_equal(weights[name], others[name]) for name in weights)


def test_a_rung_is_told_by_the_validation_part_alone(catalog: Catalog) -> None:
    rung = _tune("bert", "nature", epochs=4, rung=2)
    assert (rung["metric"], rung["value"]) == ("validation_accuracy", max(rung["curve"]))
    assert not {"n_test", "per_row_correct"} & rung.keys()
    assert rung["metrics"]["epochs"] == 2


def test_a_rung_trains_what_no_checkpoint_has(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    train = TorchTraining.train
    monkeypatch.setattr(TorchTraining, "train", lambda self, epoch: (trained.append(epoch), train(self, epoch))[1])
    for rung in (1, 3, 2, None, None):
        _tune("bert", "nature", epochs=4, key="k", rung=rung)
    assert trained == [0, 1, 2, 3]


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_a_lost_checkpoint_is_trained_again(catalog: Catalog, damage: str) -> None:
    first = _tune("bert", "nature", key="k", rung=2)
    directory = current_settings().checkpoints / "k" / "2"
    if damage == "gone":
        shutil.rmtree(directory)
    else:
        (directory / "last.safetensors").write_bytes(b"torn")
    assert _without_time(_tune("bert", "nature", key="k", rung=2)) == _without_time(first)
    assert _without_time(_tune("bert", "nature", key="k")) == _without_time(_tune("bert", "nature", key="other"))


def test_another_test_split_trains_nothing(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _tune("bert", "nature", key="k")
    monkeypatch.delattr(TorchTraining, "train")
    swapped = _finetune("bert", ["nature-train"], ["nature-train"], key="k")
    assert (swapped["curve"], len(swapped["per_row_correct"])) == (first["curve"], 36)


def test_checkpoints_stay_within_their_limit(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFT_CHECKPOINT_BYTES", "0")
    _tune("bert", "nature", epochs=1, key="k")
    assert list(current_settings().checkpoints.iterdir()) == []
