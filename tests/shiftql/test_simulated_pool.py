"""What the cost model expects of registered models, for a simulation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shiftql.cost import UNMEASURED
from shiftql.simulated_pool import Pool, open_pool
from shiftql.simulation import Setting, simulate_finetuning, simulate_plain
from storage.catalog import DatasetRecord, ModelRecord
from storage.errors import BindingError

VIT = ModelRecord(
    name="vit", fingerprint="vit", modality="image", num_params=5_000_000, size_bytes=20_000_000, image_size=224
)
RESNET = ModelRecord(
    name="resnet", fingerprint="resnet", modality="image", num_params=100_000, size_bytes=400_000, image_size=32
)
BERT = ModelRecord(name="bert", fingerprint="bert", modality="text", num_params=200_000, size_bytes=800_000)
DATASETS = [
    DatasetRecord(name="digits-train", modality="image", num_rows=600, num_classes=10),
    DatasetRecord(name="digits-test", modality="image", num_rows=400),
    DatasetRecord(name="sounds-train", modality="audio", num_rows=50),
    DatasetRecord(name="sounds-test", modality="audio", num_rows=50),
]
CATALOG: Any = SimpleNamespace(models=lambda: [BERT, RESNET, VIT], datasets=lambda: DATASETS)


def pool(models: str = "*", trained_on: str | None = None, by: str = "Linear") -> Pool:
    return open_pool(CATALOG, UNMEASURED, models, trained_on, by)


def test_a_dataset_is_for_the_models_that_take_its_rows_and_brings_their_number() -> None:
    found = pool(trained_on="digits")
    assert found.names == ("resnet", "vit")
    assert (found.train_rows, found.test_rows, found.classes) == (600, 400, 10)


def test_without_a_dataset_all_models_are_meant_and_no_rows() -> None:
    found = pool()
    assert (found.names, found.train_rows, found.test_rows) == (("bert", "resnet", "vit"), None, None)


def test_a_simulation_of_one_device_takes_what_the_cost_model_expects_of_the_evaluations() -> None:
    found = pool("vit", "digits")
    setting = Setting(600, 400)
    expected = UNMEASURED.opening(VIT) + 1000 * UNMEASURED.row(VIT).seconds + UNMEASURED.scoring("linear", 1000).seconds
    assert simulate_plain(found.costs, setting).seconds == pytest.approx(expected)
    tuned = UNMEASURED.finetuning(VIT, 600, 400, 25).seconds + UNMEASURED.scoring("linear", 0).seconds
    # A simulation does not count what a training takes to begin.
    assert simulate_finetuning(found.costs, setting, 25).seconds == pytest.approx(tuned, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nope",), "no model 'nope'"),
        (("bert", "digits"), "none of these models takes rows of digits"),
        (("*", "*"), "'\\*' is several datasets"),
        (("*", "nope"), "no dataset 'nope'"),
        (("*", None, "FineTune"), "FineTune is no proxy"),
        (("*", None, "nope"), "no ranker 'nope'"),
    ],
)
def test_what_names_no_pool_is_refused(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(BindingError, match=said):
        pool(*arguments)
