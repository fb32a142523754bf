"""The `raw` baseline: the data itself as features, with no model at all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storage.baselines import RAW
from storage.catalog import ModelRecord
from storage.views import View
from tasks.readers.base import Pair, Rows
from tasks.sources.base import Model

_IMAGE_SIDE = 16
_TEXT_DIMENSIONS = 1024


class RawSource:
    """Opens the one model of this source; there are no files to describe."""

    name = RAW

    def accepts(self, path: Path) -> bool:
        return False

    def require_safe(self, path: Path, trusted: bool) -> None:
        """There are no files."""

    def describe(self, path: Path) -> dict[str, Any]:
        return {}

    def content_files(self, path: Path) -> list[Path]:
        return []

    def open(self, model: ModelRecord) -> Model:
        return RawModel()


class RawModel:
    """Pixels of the image at 16 by 16; hashed counts of words and word pairs of a text; a vector as it is.

    The counts of the two texts of a pair stand side by side. A word that is a row of its own is counted by its
    letters, three at a time.
    """

    preparation = RAW

    def prepare(self, rows: Rows) -> list[Any]:
        return list(rows)

    def embed(self, prepared: Sequence[Any], views: Collection[View]) -> dict[View, np.ndarray]:
        first = prepared[0]
        if isinstance(first, str):
            features = _counts(prepared)
        elif isinstance(first, Pair):
            features = np.hstack([_counts([row[side] for row in prepared]) for side in (0, 1)])
        elif isinstance(first, list):
            features = _counts([word for row in prepared for word in row], analyzer="char_wb", ngram_range=(3, 3))
        elif first.ndim == 1:
            features = np.stack(prepared)
        else:
            features = np.stack([_thumbnail(image) for image in prepared]) / 255
        return dict.fromkeys(views, features.astype(np.float32))

    def close(self) -> None:
        """Nothing is held."""


def _counts(texts: Sequence[str], **options: Any) -> np.ndarray:
    from sklearn.feature_extraction.text import HashingVectorizer

    options = {"ngram_range": (1, 2), **options}
    return HashingVectorizer(n_features=_TEXT_DIMENSIONS, alternate_sign=False, **options).transform(texts).toarray()


def _thumbnail(image: np.ndarray) -> np.ndarray:
    from PIL import Image

    side = (_IMAGE_SIDE, _IMAGE_SIDE)
    return np.asarray(Image.fromarray(image).resize(side, Image.Resampling.BILINEAR), np.float32).reshape(-1)
