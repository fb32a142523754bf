"""The `pca` baseline: the principal components of a dataset's raw features, fitted when it is registered.

It is a model like any other: a file with the components, so that its features depend on the file and the row alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.catalog import DatasetRecord, ModelRecord
from storage.errors import EvaluationError
from storage.fingerprints import fingerprint_of
from storage.views import LAST, View
from tasks.readers import open_reader
from tasks.sources.failures import reasons, require_finite
from tasks.sources.raw import RawModel
from tasks.sources.untrusted import require_header

if TYPE_CHECKING:
    import numpy as np

    from tasks.sources.base import Model

SUFFIX = ".pca.safetensors"
COMPONENTS = 64
# Columns that only the data they were fitted to tells. Others are not taken from a file, trust least of all.
_DESCRIBED = ("modality", "upstream_dataset")
# The components of more rows are hardly others.
_MOST_ROWS = 10_000


class PCASource:
    """Files that `fit_components` made."""

    name = "pca"

    def accepts(self, path: Path) -> bool:
        return path.name.endswith(SUFFIX) and path.is_file()

    def require_safe(self, path: Path, trusted: bool) -> None:
        require_header(path)

    def describe(self, path: Path) -> dict[str, Any]:
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as tensors:
            described = json.loads(tensors.metadata()["described"])
            count, width = tensors.get_slice("components").get_shape()
        return {
            **{column: described[column] for column in _DESCRIBED},
            "architecture": "PCA",
            "num_params": (count + 1) * width,
            "dtype": "float32",
            "size_bytes": path.stat().st_size,
            "embedding_dim": count,
        }

    def content_files(self, path: Path) -> list[Path]:
        return [path]

    def open(self, model: ModelRecord) -> Model:
        from safetensors.numpy import load_file

        self.require_safe(Path(model.path), model.trusted)
        with reasons(model):
            return PCAModel(model, load_file(model.path))


class PCAModel(RawModel):
    """Features are (raw features − mean) · components; the raw ones are those of tasks.sources.raw."""

    def __init__(self, model: ModelRecord, tensors: Mapping[str, np.ndarray]) -> None:
        self._model = model
        self._mean = tensors["mean"]
        self._components = tensors["components"]

    def embed(self, prepared: Sequence[Any], views: Collection[View]) -> dict[View, np.ndarray]:
        raw = super().embed(prepared, [LAST])[LAST]
        if raw.shape[1] != len(self._mean):
            raise EvaluationError(
                f"its components are of {len(self._mean)} raw features, and these rows have {raw.shape[1]}",
                subject=self._model.name,
                fix="fit one to a dataset of the same kind",
            )
        return dict.fromkeys(views, require_finite((raw - self._mean) @ self._components.T, self._model))


def fit_components(dataset: DatasetRecord, folder: Path, components: int = COMPONENTS) -> Path:
    """Fit the principal components of the first 10,000 rows of a dataset, labels unseen; the file they are kept in.

    Fewer are kept where there are fewer rows or features.
    """
    import numpy as np
    from safetensors.numpy import save_file
    from sklearn.decomposition import PCA

    parts: list[np.ndarray] = []
    for chunk in open_reader(dataset.type, dataset.path, dataset.reader_options).chunks():
        parts.append(RawModel().embed(chunk.rows, [LAST])[LAST])
        if sum(map(len, parts)) >= _MOST_ROWS:
            break
    raw = np.concatenate(parts)[:_MOST_ROWS]
    count = min(components, *raw.shape)
    fitted = PCA(count, svd_solver="covariance_eigh" if raw.shape[1] <= len(raw) else "full").fit(raw)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (fingerprint_of(dataset.fingerprint, count) + SUFFIX)
    save_file(
        {
            "mean": np.ascontiguousarray(fitted.mean_, dtype=np.float32),
            "components": np.ascontiguousarray(fitted.components_, dtype=np.float32),
        },
        path,
        metadata={"described": json.dumps({"modality": dataset.modality, "upstream_dataset": dataset.name})},
    )
    return path
