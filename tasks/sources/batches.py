"""What models share that are run batch by batch: which rows fit, images at one size, pairs, probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from storage.fingerprints import fingerprint_of
from storage.views import LAST, PROBABILITIES, View
from tasks.readers.base import Pair, Row, Rows
from tasks.sources.failures import reasons, require_finite

_FALLBACK_SIDE = 224
_LONGEST_SIDE = 8192


class Outputs(NamedTuple):
    """What a model makes of a batch: (rows, dimensions) features and, where it has a head, (rows, classes)."""

    features: np.ndarray
    probabilities: np.ndarray | None


def kind_of(row: Row) -> str:
    """What a row is, in words."""
    if isinstance(row, str):
        return "sentences"
    if isinstance(row, Pair):
        return "pairs of sentences"
    if isinstance(row, list):
        return "words"
    return "tables" if row.ndim == 1 else "images"


def require_kind(rows: Rows, model: ModelRecord) -> None:
    """Raise EvaluationError when the model does not take such rows."""
    allowed = ("images",) if model.modality == "image" else ("sentences", "pairs of sentences")
    kind = kind_of(rows[0])
    if kind not in allowed:
        raise EvaluationError(
            f"it takes {' or '.join(allowed)}, and the rows are {kind}", subject=model.name, fix="leave it out"
        )


class BatchedModel(ABC):
    """A model of images of one size, or of sentences, that knows the last layer and perhaps classes.

    Pairs of sentences are embedded one by one and joined.
    """

    batch_rows = 64

    def __init__(self, model: ModelRecord) -> None:
        self._model = model
        self._side = model.image_size or _FALLBACK_SIDE
        self.preparation = fingerprint_of("resized", self._side if model.modality == "image" else None)

    def prepare(self, rows: Rows) -> list[Any]:
        require_kind(rows, self._model)
        return resize_images(rows, self._side) if self._model.modality == "image" else list(rows)

    def embed(self, prepared: Sequence[Any], views: Collection[View]) -> dict[View, np.ndarray]:
        unknown = [view for view in views if view not in (LAST, PROBABILITIES)]
        if unknown:
            raise EvaluationError(
                f"a {self._model.source} model has no layer {unknown[0].layer!r} pooled by {unknown[0].pooling!r}",
                subject=self._model.name,
                fix="leave out layer and pooling",
            )
        are_pairs = isinstance(prepared[0], Pair)
        single = [text for row in prepared for text in row] if are_pairs else prepared
        with reasons(self._model):
            starts = range(0, len(single), self.batch_rows)
            outputs = [self._run(self._batch(single[start : start + self.batch_rows])) for start in starts]
            return {view: self._gathered(view, outputs, len(single), are_pairs) for view in views}

    @abstractmethod
    def _run(self, batch: Any) -> Outputs:
        """The outputs of a batch."""

    def _batch(self, prepared: Sequence[Any]) -> Any:
        """Sentences as they are, images as (rows, side, side, 3) float32 in 0 to 1."""
        if self._model.modality == "text":
            return list(prepared)
        return np.stack(prepared).astype(np.float32) / 255

    def _gathered(self, view: View, outputs: list[Outputs], count: int, are_pairs: bool) -> np.ndarray:
        # The last batch may have been filled up.
        if view == LAST:
            features = np.concatenate([output.features for output in outputs])[:count]
            return require_finite(join_pairs(features) if are_pairs else features, self._model).astype(np.float32)
        known = [output.probabilities for output in outputs if output.probabilities is not None]
        if not known or are_pairs:
            raise EvaluationError(
                "it tells no classes of such rows apart",
                subject=self._model.name,
                fix="rank by LogME, which needs none, or leave it out",
            )
        return require_finite(np.concatenate(known)[:count], self._model).astype(np.float32)


def join_pairs(features: np.ndarray) -> np.ndarray:
    """Pairs' vectors (rows, 4 × dimensions) from their texts' in turn (2 × rows, dimensions): u, v, |u − v|, u · v.

    As Conneau et al., Supervised Learning of Universal Sentence Representations, 2017, join them.
    """
    first, second = features[::2], features[1::2]
    return np.concatenate([first, second, np.abs(first - second), first * second], axis=1)


def flatten_positions(output: np.ndarray) -> np.ndarray:
    """(rows, dimensions) from (rows, …, dimensions): the mean over positions; a single number a row is a dimension."""
    if output.ndim < 3:
        return output.reshape(len(output), -1)
    return output.mean(axis=tuple(range(1, output.ndim - 1)))


def as_probabilities(scores: np.ndarray) -> np.ndarray:
    """(rows, classes) probabilities; those that are none yet are taken as logits."""
    flat = scores.reshape(len(scores), -1).astype(np.float64)
    if (flat >= 0).all() and np.allclose(flat.sum(axis=1), 1, atol=1e-3):
        return flat
    shifted = np.exp(flat - flat.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def resize_images(rows: Rows, side: int) -> list[np.ndarray]:
    """Each image as (side, side, 3) uint8, bilinear. Raises EvaluationError for an absurd side."""
    from PIL import Image

    if side > _LONGEST_SIDE:
        raise EvaluationError(f"it takes images of {side:,} by {side:,}, more than {_LONGEST_SIDE:,}")
    images = [Image.fromarray(np.asarray(row)) for row in rows]
    return [np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)) for image in images]
