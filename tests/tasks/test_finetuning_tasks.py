"""Fine-tuning for every task there is, and what is exported of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from flows.registration import register_dataset
from storage.catalog import Catalog
from storage.errors import EvaluationError
from storage.evaluations import Subject
from storage.parts import Part, whole
from tasks.finetuning import sleeping
from tasks.finetuning.exporting import export_model
from tasks.finetuning.huggingface import finetune_model
from tasks.finetuning.results import measurement_of
from tasks.rankers.metrics import score_predictions
from tasks.reading import read_derived
from tests.conftest import FILLERS, WORDS

OPTIONS: dict[str, Any] = {"epochs": 10, "lr": 1e-2, "batch_size": 8, "seed": 0}
KINDS = {word: kind for kind, words in WORDS.items() for word in words}


def _record(task: str, random: np.random.Generator) -> dict[str, Any]:
    """A row whose label the model can learn from its words."""
    first, second = random.choice(sorted(KINDS), 2)
    match task:
        case "pairs":
            told = "same" if KINDS[first] == KINDS[second] else "other"
            return {"sentence1": str(first), "sentence2": f"a {second}", "label": told}
        case "words":
            words = [str(word) for word in random.choice([*FILLERS, *KINDS], random.integers(1, 9))]
            return {"tokens": words, "tags": [KINDS.get(word, "O") for word in words]}
        case "numbers":
            return {"text": f"a {first}", "label": 1000.5 if KINDS[first] == "plants" else 400.25}
        case _:
            return {"text": f"{first} {second}", "labels": sorted({KINDS[first], KINDS[second]})}


@pytest.fixture
def datasets(catalog: Catalog, tmp_path: Path) -> Catalog:
    """The pool, and a split to train and one to test on of every task that is not plain classification."""
    for task in ("pairs", "words", "numbers", "several"):
        for seed, (split, rows) in enumerate((("train", 60), ("test", 20))):
            random = np.random.default_rng(seed)
            path = tmp_path / f"{task}-{split}.jsonl"
            path.write_text("".join(json.dumps(_record(task, random)) + "\n" for _ in range(rows)))
            register_dataset(catalog, f"{task}-{split}", str(path))
    return catalog


def _whole(catalog: Catalog, name: str) -> Part:
    dataset = catalog.dataset(name)
    return whole(Subject(name, dataset.fingerprint), dataset.num_rows)


def _parts(catalog: Catalog, name: str) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(_whole(catalog, name).json))]


def _tune(catalog: Catalog, task: str, model: str = "bert", key: str | None = None, **options: Any) -> dict[str, Any]:
    splits = (_parts(catalog, f"{task}-{split}") for split in ("train", "test"))
    rung = options.pop("rung", None)
    fingerprint = catalog.model(model).fingerprint
    return finetune_model(model, fingerprint, *splits, OPTIONS | options, key or uuid4().hex, rung)


@pytest.mark.parametrize(
    ("task", "metric", "reached"),
    [("pairs", "accuracy", 0.5), ("words", "accuracy", 0.9), ("several", "macro_f1", 0.8)],
)
def test_what_can_be_learnt_is_learnt(datasets: Catalog, task: str, metric: str, reached: float) -> None:
    result = _tune(datasets, task)
    assert (result["metric"], result["higher_is_better"]) == (metric, True)
    assert result["value"] > reached
    assert result["metrics"][f"validation_{metric}"] == max(result["curve"])


@pytest.mark.parametrize("model", ["bert", "roberta"])
@pytest.mark.parametrize("task", ["pairs", "words", "several", "numbers"])
def test_a_head_alone_learns_from_what_is_kept_as_from_what_is_computed_again(
    datasets: Catalog, monkeypatch: pytest.MonkeyPatch, task: str, model: str
) -> None:
    kept = _tune(datasets, task, model, mode="head", epochs=2)
    monkeypatch.setattr(sleeping, "_MOST_BYTES", 0)
    again = _tune(datasets, task, model, mode="head", epochs=2)
    assert kept["metrics"]["train_loss"] == pytest.approx(again["metrics"]["train_loss"], rel=1e-4)
    assert kept["value"] == pytest.approx(again["value"], rel=1e-3)


def test_numbers_are_learnt_on_their_own_scale_and_less_error_is_better(datasets: Catalog) -> None:
    result = _tune(datasets, "numbers")
    assert (result["metric"], result["higher_is_better"]) == ("rmse", False)
    assert result["value"] < 100
    assert result["metrics"]["validation_rmse"] == min(result["curve"])
    assert result["metrics"]["r2"] > 0.8
    measurement = measurement_of(result)
    assert measurement.utility == -result["value"]
    assert (measurement.per_row_correct, measurement.n_test) == (None, 20)
    assert measurement.replicates is not None


def test_every_word_is_measured(datasets: Catalog) -> None:
    _, manifest = read_derived(datasets, [_whole(datasets, "words-test")])
    result = _tune(datasets, "words", epochs=1)
    assert result["n_test"] == len(result["per_row_correct"]) == len(manifest.labels) > manifest.num_rows


def test_macro_f1_stands_beside_accuracy_and_may_choose_the_epoch(datasets: Catalog) -> None:
    by_accuracy, by_f1 = _tune(datasets, "pairs"), _tune(datasets, "pairs", metric="macro_f1")
    assert by_accuracy["metrics"]["accuracy"] == by_accuracy["value"]
    assert 0 <= by_accuracy["metrics"]["macro_f1"] <= 1
    assert (by_f1["metric"], by_f1["value"]) == ("macro_f1", by_f1["metrics"]["macro_f1"])
    assert by_f1["curve"] != by_accuracy["curve"]


def test_a_metric_of_another_task_is_refused(datasets: Catalog) -> None:
    with pytest.raises(EvaluationError, match="rmse is no metric of classification"):
        _tune(datasets, "pairs", metric="rmse")


def test_splits_for_two_tasks_are_refused(datasets: Catalog) -> None:
    train, test = _parts(datasets, "pairs-train"), _parts(datasets, "numbers-test")
    with pytest.raises(EvaluationError, match="for pair_classification and the test rows for regression"):
        finetune_model("bert", datasets.model("bert").fingerprint, train, test, OPTIONS | {"epochs": 1}, "k")


@pytest.mark.parametrize("task", ["words", "numbers", "several"])
def test_rungs_are_one_long_run_for_every_task(datasets: Catalog, task: str) -> None:
    once = _tune(datasets, task, epochs=3)
    rung = _tune(datasets, task, epochs=3, key="k", rung=1)
    last = _tune(datasets, task, epochs=3, key="k")
    assert rung["curve"] == once["curve"][:1]
    assert (last["curve"], last["value"], last["per_row_correct"]) == (
        once["curve"],
        once["value"],
        once["per_row_correct"],
    )


def test_a_rung_is_tested_alike_whether_or_not_training_went_on(datasets: Catalog) -> None:
    before = _tune(datasets, "words", epochs=3, key="k", rung=1)
    _tune(datasets, "words", epochs=3, key="k")
    after = _tune(datasets, "words", epochs=3, key="k", rung=1)
    assert before["metric"] == "accuracy"
    assert {**before, "seconds": 0.0, "metrics": 0} == {**after, "seconds": 0.0, "metrics": 0}


def test_long_rows_of_words_are_learnt_to_their_end(catalog: Catalog, tmp_path: Path) -> None:
    """Words that do not fit in one sequence go on in another."""
    for seed, split in enumerate(("train", "test")):
        words = np.random.default_rng(seed).choice(sorted(KINDS), (12, 60)).tolist()
        rows = [{"tokens": row, "tags": [KINDS[word] for word in row]} for row in words]
        path = tmp_path / f"long-{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        register_dataset(catalog, f"long-{split}", str(path))
    result = _tune(catalog, "long")
    assert result["n_test"] == 12 * 60
    assert np.mean(np.reshape(result["per_row_correct"], (12, 60))[:, 40:]) > 0.9


def test_exported_numbers_are_those_of_the_dataset(datasets: Catalog, tmp_path: Path) -> None:
    import torch
    import transformers

    measured = _tune(datasets, "numbers", key="k")
    train = _parts(datasets, "numbers-train")
    export_model("bert", datasets.model("bert").fingerprint, train, OPTIONS, str(tmp_path / "bert"), "k")
    rows, manifest = read_derived(datasets, [_whole(datasets, "numbers-test")])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "bert")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "bert")
    with torch.no_grad():
        predicted = model(**tokenizer(rows, return_tensors="pt", padding=True)).logits[:, 0].double().numpy()
    score = score_predictions("regression", "rmse", manifest.labels, predicted)
    assert score.value == pytest.approx(measured["value"], rel=1e-4)
