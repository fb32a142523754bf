from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from flows.registration import register_dataset, register_model
from storage.catalog import Catalog
from storage.errors import EvaluationError
from storage.evaluations import Subject
from storage.mlflow_model import describe_for_mlflow
from storage.parts import whole
from tasks.host import Host
from tasks.reading import read_parts

OPTIONS: dict[str, Any] = {"epochs": 4, "lr": 0.005, "batch_size": 8, "seed": 0, "mode": "full"}
# What differs from run to run.
TIMES = {"rows_per_second", "peak_memory_bytes"}
# Models of every style, and data they take.
STYLES = {
    "image": "colours",
    "text": "nature",
    "image.keras": "colours",
    "text.keras": "nature",
    "exported": "photos",
    "vocabulary": "nature",
    "older": "colours",
    "dropout.keras": "colours",
}
# The export's features are probabilities, all alike before they are trained; the other knows half of the words alone.
RATES = {"exported": 0.005, "text.keras": 0.05}

Finetune = Callable[..., dict[str, Any]]


@pytest.fixture
def finetune(
    catalog: Catalog,
    home: Path,
    tensorflow_host: Host,
    saved_models: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Finetune:
    """Fine-tune a model of that name, registered when it is asked for, in the process that hosts TensorFlow.

    It goes on from the checkpoints of `key`, and is a training of its own without one.
    """

    monkeypatch.setattr("tasks.registration.host", lambda _: tensorflow_host)

    def part(name: str) -> dict[str, Any]:
        dataset = catalog.dataset(name)
        return whole(Subject(name, dataset.fingerprint), dataset.num_rows).json

    def tune(
        model: str, data: str, rung: int | None = None, key: str | None = None, test: str | None = None, **options: Any
    ) -> dict[str, Any]:
        if not any(known.name == model for known in catalog.models()):
            register_model(catalog, model, str(saved_models[model]))
        result = tensorflow_host.call(
            "tensorflow_child:finetune",
            home=str(home),
            model=model,
            model_fingerprint=catalog.model(model).fingerprint,
            train=[part(f"{data}-train")],
            test=[] if rung else [part(test or f"{data}-test")],
            params=OPTIONS | options,
            checkpoint=key or uuid4().hex,
            epochs=rung,
        )
        assert isinstance(result, dict)
        return result

    return tune


def _without_time(result: dict[str, Any]) -> dict[str, Any]:
    """What two runs have in common."""
    figures = {name: value for name, value in result["metrics"].items() if name not in TIMES}
    return {
        **{name: value for name, value in result.items() if name not in {"seconds", "epochs_trained"}},
        "metrics": figures,
    }


@pytest.mark.parametrize(("model", "data"), STYLES.items())
def test_a_model_of_every_style_learns_what_can_be_learnt(
    finetune: Finetune, catalog: Catalog, model: str, data: str
) -> None:
    result = finetune(model, data, epochs=12, lr=RATES.get(model, 0.02))
    assert result["value"] > 0.6
    assert result["metrics"]["validation_accuracy"] == max(result["curve"])
    assert result["n_test"] == len(result["per_row_correct"]) == catalog.dataset(f"{data}-test").num_rows
    assert result["value"] == pytest.approx(np.mean(result["per_row_correct"]))
    assert not result["collapsed"]


@pytest.mark.parametrize("model", ["image", "image.keras"])
def test_a_head_alone_learns_too(finetune: Finetune, model: str) -> None:
    assert finetune(model, "colours", epochs=12, lr=0.05, mode="head")["value"] > 0.6


@pytest.mark.parametrize(
    ("model", "mode"), [("image", "full"), ("image", "head"), ("text", "full"), ("dropout.keras", "full")]
)
def test_rungs_are_one_long_run_bit_for_bit(finetune: Finetune, model: str, mode: str) -> None:
    """Also where features are dropped out by chance; a shorter rung is what the longer one was."""
    once = finetune(model, STYLES[model], mode=mode)
    key = uuid4().hex
    for epochs in (3, 1):
        rung = finetune(model, STYLES[model], rung=epochs, key=key, mode=mode)
        assert rung["curve"] == once["curve"][:epochs]
        assert rung["value"] == max(rung["curve"])
    last = finetune(model, STYLES[model], key=key, mode=mode)
    assert last["epochs_trained"] == 1
    assert _without_time(last) == _without_time(once)


def test_a_rung_is_told_by_the_validation_part_alone(finetune: Finetune) -> None:
    rung = finetune("image", "colours", rung=2)
    assert rung["metric"] == "validation_accuracy"
    assert "n_test" not in rung
    assert len(rung["curve"]) == 2


def test_other_seeds_give_other_results(finetune: Finetune) -> None:
    results = [_without_time(finetune("text", "nature", lr=1e-3, seed=seed)) for seed in (0, 1, 2)]
    assert any(result != results[0] for result in results)


def test_the_test_split_chooses_nothing(finetune: Finetune, catalog: Catalog, tmp_path: Path) -> None:
    """Turning the test labels round turns the accuracy round and leaves training as it was."""
    turned = tmp_path / "turned.csv"
    with Path(catalog.dataset("nature-test").path).open(newline="") as file:
        _, *rows = csv.reader(file)
    other = {"animals": "plants", "plants": "animals"}
    with turned.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text, other[label]) for text, label in rows)])
    register_dataset(catalog, "turned", str(turned))
    straight, upside_down = finetune("text", "nature"), finetune("text", "nature", test="turned")
    assert upside_down["curve"] == straight["curve"]
    assert upside_down["value"] == pytest.approx(1 - straight["value"])


def test_pairs_are_learnt_from_what_they_are_embedded_as(finetune: Finetune, catalog: Catalog, tmp_path: Path) -> None:
    for split, seed in (("train", 1), ("test", 2)):
        random = np.random.default_rng(seed)
        pairs = [(str(a), str(b)) for a, b in random.choice(["cat dog", "rose tree"], (60, 2))]
        with (tmp_path / f"pairs-{split}.csv").open("w", newline="") as file:
            rows = [(a, b, "alike" if a == b else "apart") for a, b in pairs]
            csv.writer(file).writerows([("sentence1", "sentence2", "label"), *rows])
        register_dataset(catalog, f"pairs-{split}", str(tmp_path / f"pairs-{split}.csv"))
    for model in ("text", "text.keras"):
        assert finetune(model, "pairs", epochs=12, lr=0.02)["value"] > 0.9


def test_numbers_are_learnt_too(finetune: Finetune, catalog: Catalog, tmp_path: Path) -> None:
    for split, seed in (("train", 1), ("test", 2)):
        random = np.random.default_rng(seed)
        numbers = random.integers(0, 8, 60)
        with (tmp_path / f"ages-{split}.csv").open("w", newline="") as file:
            rows = [(" ".join(["old"] * number + ["cat"] * (8 - number)), 10.5 * number) for number in numbers]
            csv.writer(file).writerows([("text", "label"), *rows])
        register_dataset(catalog, f"ages-{split}", str(tmp_path / f"ages-{split}.csv"))
    result = finetune("text", "ages", epochs=20, lr=0.02)
    assert result["metric"] == "rmse"
    assert not result["higher_is_better"]
    assert result["value"] < 10
    assert result["metrics"]["validation_rmse"] == min(result["curve"])


@pytest.mark.parametrize("model", ["fixed", "rounded"])
def test_what_training_cannot_change_gets_a_head_alone(
    finetune: Finetune, catalog: Catalog, tensorflow_host: Host, tmp_path: Path, model: str
) -> None:
    tensorflow_host.call("tensorflow_child:save_fixed_models", root=str(tmp_path))
    register_model(catalog, model, str(tmp_path / model))
    with pytest.raises(EvaluationError, match="no gradient reaches a weight") as caught:
        finetune(model, "colours")
    assert not caught.value.transient
    assert "mode='head'" in (caught.value.fix or "")
    assert finetune(model, "colours", epochs=12, lr=0.05, mode="head")["value"] > 0.7


def test_features_that_are_no_numbers_are_an_error(
    finetune: Finetune, catalog: Catalog, tensorflow_host: Host, tmp_path: Path
) -> None:
    tensorflow_host.call("tensorflow_child:save_filled_model", path=str(tmp_path / "nan"), value=float("nan"))
    register_model(catalog, "nan", str(tmp_path / "nan"))
    for mode in ("full", "head"):
        with pytest.raises(EvaluationError, match="are not finite"):
            finetune("nan", "colours", mode=mode)


def test_a_loss_that_is_lost_is_a_collapse(finetune: Finetune) -> None:
    result = finetune("image.keras", "colours", lr=1e30)
    assert result["collapsed"]
    assert "lr=1e+30; try a smaller lr" in result["reason"]


def test_one_class_for_every_row_is_a_collapse(
    finetune: Finetune, catalog: Catalog, tensorflow_host: Host, tmp_path: Path
) -> None:
    tensorflow_host.call("tensorflow_child:save_filled_model", path=str(tmp_path / "zero"), value=0.0)
    register_model(catalog, "zero", str(tmp_path / "zero"))
    assert finetune("zero", "colours", mode="head")["collapsed"]
    assert finetune("zero", "colours", mode="head", rung=1)["collapsed"]


def test_rows_that_do_not_fit_are_an_error(finetune: Finetune) -> None:
    with pytest.raises(EvaluationError, match="it takes images, and the rows are sentences"):
        finetune("image", "nature")


def test_code_is_run_only_where_the_model_is_trusted(
    finetune: Finetune, catalog: Catalog, tensorflow_host: Host, tmp_path: Path
) -> None:
    tensorflow_host.call("tensorflow_child:save_hostile", root=str(tmp_path), canary=str(tmp_path / "canary"))
    register_model(catalog, "writes", str(tmp_path / "writes"), columns={"trusted": True})
    catalog.save_model("writes", {"trusted": False})
    with pytest.raises(EvaluationError, match="WriteFile"):
        finetune("writes", "nature")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("model", "mode"), [("image", "full"), ("vocabulary", "full"), ("text.keras", "head"), ("dropout.keras", "full")]
)
def test_what_is_exported_says_what_was_measured(
    finetune: Finetune,
    catalog: Catalog,
    home: Path,
    tensorflow_host: Host,
    saved_models: dict[str, Path],
    tmp_path: Path,
    model: str,
    mode: str,
) -> None:
    """A SavedModel on its own, opened by plain TensorFlow and MLflow, and a model of the pool, that can be trained."""
    data, key = STYLES[model], uuid4().hex
    measured = finetune(model, data, key=key, mode=mode)
    dataset = catalog.dataset(f"{data}-train")
    told = tensorflow_host.call(
        "tensorflow_child:export",
        home=str(home),
        model=model,
        model_fingerprint=catalog.model(model).fingerprint,
        train=[whole(Subject(dataset.name, dataset.fingerprint), dataset.num_rows).json],
        params=OPTIONS | {"mode": mode},
        directory=str(tmp_path / "kept"),
        checkpoint=key,
    )
    assert told["validation_accuracy"] == measured["metrics"]["validation_accuracy"]
    kept = register_model(catalog, "kept", str(tmp_path / "kept"))
    classes = json.loads(kept.labels)
    assert (kept.source, classes) == ("tfhub", sorted(dataset.class_names))
    test = catalog.dataset(f"{data}-test")
    rows, labels = read_parts(catalog, [whole(Subject(test.name, test.fingerprint), test.num_rows)])
    np.savez(tmp_path / "rows.npz", *map(np.asarray, rows))
    arguments = {
        "record": kept.model_dump(exclude={"date_added"}),
        "rows_file": str(tmp_path / "rows.npz"),
    }
    said = np.array(tensorflow_host.call("tensorflow_child:predict", **arguments))
    right = [classes[place] == label for place, label in zip(said.argmax(axis=1), labels, strict=True)]
    assert np.mean(right) == measured["value"]
    describe_for_mlflow(tmp_path / "kept")
    assert tensorflow_host.call("tensorflow_child:predict", **arguments, by="mlflow") == said.tolist()
    seen = tensorflow_host.call(
        "tensorflow_child:embed", **arguments, batches=[len(rows)], view=["probabilities", "default"]
    )
    np.testing.assert_allclose(np.load(seen), said, atol=1e-5)
    assert finetune("kept", data, epochs=1)["value"] > 0


def test_the_learning_rate_rises_and_falls_by_the_whole_training(finetune: Finetune) -> None:
    """Rungs of 4 epochs of 4 steps each, the first half of which it rises for: of the last step of each epoch."""
    rates = [
        finetune("image", "colours", rung=epochs, lr=0.008, warmup=0.5)["metrics"]["learning_rate"]
        for epochs in (1, 2, 3)
    ]
    assert rates == pytest.approx([0.004, 0.008, 0.005])


def test_low_rank_changes_are_for_other_models(finetune: Finetune) -> None:
    with pytest.raises(EvaluationError, match="mode='lora' is for Hugging Face models alone") as caught:
        finetune("image", "colours", mode="lora")
    assert "mode='head'" in (caught.value.fix or "")


def test_results_travel(finetune: Finetune) -> None:
    result = finetune("text", "nature", epochs=1)
    assert json.loads(json.dumps(result)) == result
