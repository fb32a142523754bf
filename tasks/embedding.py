"""Embedding a dataset with a model: forward passes for the rows whose features are not in the store yet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from storage.baselines import RAW
from storage.catalog import Catalog, ModelRecord
from storage.database import Database
from storage.derivation import rows_in
from storage.errors import EvaluationError
from storage.features import FeatureStore
from storage.manifests import load_manifest
from storage.settings import current_settings
from storage.views import LAST
from tasks.reading import read_rows
from tasks.registration import is_untouched
from tasks.sources import source_named
from tasks.sources.base import Model

_SEGMENT_BYTES = 64 << 20

# The model opened last stays open: its other split usually comes next.
_opened: tuple[str, Model] | None = None


def embed_dataset(
    model: str, model_fingerprint: str, dataset: str, dataset_fingerprint: str, spans: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Bring the features of the rows [start, stop) of a dataset, span by span, into the feature store.

    Models and datasets are named as in the catalog; the fingerprints say which content is meant. Returns how
    many rows were embedded and the seconds it took. Raises EvaluationError with the reason when the model
    cannot be opened, does not fit the rows, or the files changed meanwhile.
    """
    started = time.perf_counter()
    settings = current_settings()
    catalog = Catalog(Database(settings))
    store = FeatureStore(settings.features)
    key = store.key(model_fingerprint)
    hashes = load_manifest(settings.manifests, dataset_fingerprint).row_hashes
    wanted = rows_in(spans)
    missing = wanted[store.missing(key, hashes[wanted])]
    if len(missing):
        opened = _open(catalog, model, model_fingerprint)
        segment = _Segment(store, key)
        for rows, numbers in read_rows(catalog.dataset(dataset), missing, hashes):
            segment.add(hashes[numbers], opened.embed(rows, [LAST])[LAST])
        segment.write()
    return {"embedded_rows": len(missing), "seconds": time.perf_counter() - started}


class _Segment:
    """Gathers features until a segment's worth is there, so that small chunks do not make many files."""

    def __init__(self, store: FeatureStore, key: str) -> None:
        self._store = store
        self._key = key
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, row_hashes: np.ndarray, vectors: np.ndarray) -> None:
        self._parts.append((row_hashes, vectors))
        if sum(part.nbytes for _, part in self._parts) >= _SEGMENT_BYTES:
            self.write()

    def write(self) -> None:
        if self._parts:
            row_hashes, vectors = zip(*self._parts, strict=True)
            self._store.write(self._key, np.concatenate(row_hashes), np.concatenate(vectors))
            self._parts.clear()


def unchanged_model(catalog: Catalog, name: str, fingerprint: str) -> ModelRecord:
    """The model of that name, if its files still have that content. Raises a transient EvaluationError if not."""
    record = catalog.model(name)
    if record.fingerprint != fingerprint or not is_untouched(record):
        raise EvaluationError(
            f"the files of {name} changed since the query was planned", transient=True, fix="ask again"
        )
    return record


def _open(catalog: Catalog, name: str, fingerprint: str) -> Model:
    global _opened
    if _opened is not None and _opened[0] == fingerprint:
        return _opened[1]
    if _opened is not None:
        _opened[1].close()
        _opened = None
    if name == RAW:
        record = ModelRecord(name=RAW, source=RAW, path="", fingerprint=fingerprint, signature="", modality="")
    else:
        record = unchanged_model(catalog, name, fingerprint)
    model = source_named(record.source).open(record)
    _opened = (fingerprint, model)
    return model
