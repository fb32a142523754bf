"""Embedding a dataset with a model: forward passes for the rows whose features are not in the store yet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from storage.baselines import RAW
from storage.catalog import Catalog, DatasetRecord, ModelRecord
from storage.database import Database
from storage.embedding_version import LAYER
from storage.errors import EvaluationError
from storage.features import FeatureStore
from storage.manifests import load_manifest
from storage.settings import current_settings
from tasks.readers import open_reader
from tasks.registration import is_untouched
from tasks.sources import source_named
from tasks.sources.base import Model, Rows

_SEGMENT_BYTES = 64 << 20

# The model opened last stays open: its other split usually comes next.
_opened: tuple[str, Model] | None = None


def embed_dataset(model: str, model_fingerprint: str, dataset: str, dataset_fingerprint: str) -> dict[str, Any]:
    """Bring the features of every row of a dataset into the feature store.

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
    missing = store.missing(key, hashes)
    if len(missing):
        opened = _open(catalog, model, model_fingerprint)
        segment = _Segment(store, key)
        for rows, row_hashes in _rows_at(missing, catalog.dataset(dataset), hashes):
            segment.add(row_hashes, opened.embed(rows)[LAYER])
        segment.write()
    return {"embedded_rows": len(missing), "seconds": time.perf_counter() - started}


def _rows_at(wanted: np.ndarray, dataset: DatasetRecord, hashes: np.ndarray) -> Iterator[tuple[Rows, np.ndarray]]:
    """The dataset's rows at these indices with their hashes, chunk by chunk, checked against the manifest."""
    picked = np.zeros(len(hashes), dtype=bool)
    picked[wanted] = True
    start = 0
    for chunk in open_reader(dataset.type, dataset.path, dataset.reader_options).chunks():
        stop = start + len(chunk.rows)
        if not np.array_equal(chunk.row_hashes, hashes[start:stop]):
            raise EvaluationError(f"dataset {dataset.name} changed while it was read", transient=True, fix="ask again")
        indices = np.flatnonzero(picked[start:stop])
        if len(indices):
            yield [chunk.rows[index] for index in indices], chunk.row_hashes[indices]  # type: ignore[misc, call-overload]
        start = stop


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
