from __future__ import annotations

import pytest

from shiftql.probes import default_probe
from storage.catalog import ModelRecord


def _model(name: str, num_params: int | None, **columns: object) -> ModelRecord:
    return ModelRecord(name=name, **{"modality": "image", "source": "huggingface", "num_params": num_params, **columns})


def _chosen(*models: ModelRecord) -> str | None:
    probe = default_probe(models, "image")
    return probe and probe.name


def test_the_largest_model_is_the_probe() -> None:
    assert _chosen(_model("small", 10), _model("large", 1000), _model("medium", 100)) == "large"


def test_of_equal_models_it_is_the_first_by_name() -> None:
    assert _chosen(_model("b", 10), _model("a", 10)) == "a"


@pytest.mark.parametrize(
    "unfit",
    [
        _model("of texts", 1000, modality="text"),
        _model("without derivatives", 1000, source="tfhub"),
        _model("too large", 150_000_001),
        _model("of unknown size", None),
        _model("poor", 1000, upstream_accuracy=0.1),
    ],
    ids=lambda model: model.name,
)
def test_it_is_none_that(unfit: ModelRecord) -> None:
    assert _chosen(unfit, _model("small", 10)) == "small"


def test_a_poor_model_is_better_than_none() -> None:
    assert _chosen(_model("poor", 10, upstream_accuracy=0.1)) == "poor"
    assert _chosen() is None
