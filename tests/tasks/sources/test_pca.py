from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from storage.catalog import DatasetRecord, ModelRecord
from storage.errors import EvaluationError
from storage.views import LAST
from tasks.registration import describe_model, inspect_dataset
from tasks.sources.pca import SUFFIX, PCASource, fit_components
from tasks.sources.raw import RawModel


def test_a_file_tells_nothing_of_its_model_but_what_it_was_fitted_to(tmp_path: Path) -> None:
    path = tmp_path / f"made-up{SUFFIX}"
    told = {"modality": "image", "upstream_dataset": "rows", "source": "huggingface", "path": "/", "trusted": True}
    zeros = np.zeros((1, 4), np.float32)
    save_file({"mean": zeros[0], "components": zeros}, path, metadata={"described": json.dumps(told)})
    described = describe_model("pca", str(path))
    assert described["upstream_dataset"] == "rows"
    assert not {"source", "path", "trusted"} & set(described)


def test_features_are_the_centred_rows_on_the_axes_of_most_variance(home: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (50, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "rows.npz", images=images, labels=np.array(["a", "b"] * 25))
    dataset = DatasetRecord(name="rows", **inspect_dataset(str(tmp_path / "rows.npz")))
    path = fit_components(dataset, tmp_path, 4)
    record = ModelRecord(
        name="pca", source="pca", path=str(path), fingerprint="", signature="", **describe_model("pca", str(path))
    )
    model = PCASource().open(record)
    features = model.embed(model.prepare(list(images)), [LAST])[LAST]
    raw = RawModel().embed(list(images), [LAST])[LAST].astype(float)
    centred = raw - raw.mean(axis=0)
    # By the singular values, without the library: rows on the first axes, up to their signs.
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(features), np.abs(left[:, :4] * singular[:4]), atol=1e-3)
    with pytest.raises(EvaluationError, match="768 raw features, and these rows have 1024"):
        model.embed(model.prepare(["a sentence"]), [LAST])
