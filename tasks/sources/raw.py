"""The `raw` baseline: the data itself as features, with no model at all."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from storage.baselines import RAW
from storage.catalog import ModelRecord
from storage.views import LAST, View
from tasks.readers.base import Rows
from tasks.sources.base import Model

_IMAGE_SIDE = 16
_TEXT_DIMENSIONS = 1024


class RawSource:
    """Opens the one model of this source; there are no files to describe."""

    name = RAW

    def accepts(self, path: Path) -> bool:
        return False

    def describe(self, path: Path) -> dict[str, Any]:
        return {}

    def content_files(self, path: Path) -> list[Path]:
        return []

    def open(self, model: ModelRecord) -> Model:
        return RawModel()


class RawModel:
    """Pixels of the image at 16 by 16; for text, hashed counts of words and word pairs."""

    def embed(self, rows: Rows, views: Collection[View]) -> dict[View, np.ndarray]:
        if isinstance(rows[0], str):
            from sklearn.feature_extraction.text import HashingVectorizer

            vectorizer = HashingVectorizer(n_features=_TEXT_DIMENSIONS, ngram_range=(1, 2), alternate_sign=False)
            return {LAST: vectorizer.transform(rows).toarray().astype(np.float32)}
        from PIL import Image

        side = (_IMAGE_SIDE, _IMAGE_SIDE)
        pixels = [np.asarray(Image.fromarray(np.asarray(row)).resize(side, Image.Resampling.BILINEAR)) for row in rows]
        return {LAST: np.stack(pixels).reshape(len(rows), -1).astype(np.float32) / 255}

    def close(self) -> None:
        """Nothing is held."""
