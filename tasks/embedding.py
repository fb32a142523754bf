"""Embedding a dataset with a model: forward passes for the rows whose features are not in the store yet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, starmap
from typing import Any, Generic, TypeVar

import numpy as np

from storage.baselines import RAW
from storage.catalog import Catalog, DatasetRecord, ModelRecord
from storage.database import Database
from storage.derivation import rows_in
from storage.errors import EvaluationError
from storage.features import FeatureStore, open_features
from storage.manifests import load_manifest
from storage.settings import current_settings
from storage.unembedded import unembedded, union
from storage.views import LAST, View
from tasks.prepared_rows import PreparedRows, size_of
from tasks.readers.base import CHUNK_ROWS, Rows
from tasks.reading import read_chunks
from tasks.registration import changed_model
from tasks.shared_datasets import local_dataset
from tasks.shared_models import local_model
from tasks.sources import source_named
from tasks.sources.base import Model

_Item = TypeVar("_Item")

_SEGMENT_BYTES = 64 << 20
# Rows that are embedded together, those of like length side by side, the vectors that may come of them (a row of words
# has many, and of each view), and the bytes of the rows kept for other models.
_WINDOW_ROWS = 4096
_WINDOW_BYTES = 128 << 20
_WINDOW_VECTORS = 1 << 16
_PREPARED_BYTES = 512 << 20
# And of the rows that were read, of which a halved query wants others in each round.
_READ_BYTES = 128 << 20

# The model opened last stays open: its other split usually comes next.
_opened: tuple[str, Model] | None = None
# The one that is asked for next is loaded while it runs, if it is not larger than this.
_coming: tuple[str, Future[Model]] | None = None
_loader = ThreadPoolExecutor(1)
# Whether a model computed in this process before: the first sets up libraries.
_is_warm = False
_AHEAD_BYTES = 512 << 20
_prepared = PreparedRows(_PREPARED_BYTES)
_read = PreparedRows(_READ_BYTES)
_UNPREPARED = ""


def embed_dataset(
    model: str,
    model_fingerprint: str,
    dataset: str,
    dataset_fingerprint: str,
    spans: Sequence[tuple[int, int]],
    views: Sequence[tuple[str, str]] = (LAST,),
    then: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Bring views of the rows [start, stop) of a dataset, span by span, into the feature store.

    Models and datasets are named as in the catalog; the fingerprints say which content is meant. `then` is the
    model (name, fingerprint) that will be asked for next. One at a time embeds with a model (storage.turns). Returns
    how many rows were embedded, the seconds it took once all files were here, in how many of these the model was opened
    and in how many rows were waited for, whether the process had computed before (`was_warm`), how many torn segments
    of features were `dropped` before, and about how many bytes were written.
    Raises EvaluationError with the reason when the model cannot be opened, does not fit the rows, or the files changed
    meanwhile, and StoreError when the disk refuses the features.
    """
    global _is_warm
    started = time.perf_counter()
    settings = current_settings()
    catalog = Catalog(Database(settings))
    store = open_features(settings)
    manifest = load_manifest(settings.manifests, dataset_fingerprint)
    opening_seconds, waited_seconds, was_warm, written_bytes = 0.0, 0.0, _is_warm, 0
    wanted = rows_in(spans)
    lacking = unembedded(store, model_fingerprint, manifest, wanted, list(starmap(View, views)))
    missing = union(lacking)
    dropped = sum(store.drop_torn(store.key(model_fingerprint, view)) for view in lacking)
    if len(missing):
        started += _fetch(catalog, model, model_fingerprint, dataset)
        opening = time.perf_counter()
        opened = _open(catalog, model, model_fingerprint)
        opening_seconds = time.perf_counter() - opening
        if then is not None:
            _load_ahead(catalog, *then)
        size = _SEGMENT_BYTES // len(lacking)
        segments = {view: _Segment(store, store.key(model_fingerprint, view), size) for view in lacking}
        prepared = _prepare(opened, catalog.dataset(dataset), missing, manifest.row_hashes)
        windows = _Ahead(_windows(prepared, manifest.lengths, _WINDOW_VECTORS // len(lacking)))
        for numbers, rows in windows:
            for view, vectors in opened.embed(rows, lacking).items():
                segments[view].add(manifest.take(numbers).feature_hashes, vectors)
        for segment in segments.values():
            segment.write()
        waited_seconds = windows.waited_seconds
        written_bytes = sum(segment.written_bytes for segment in segments.values())
        _is_warm = True
    return {
        "embedded_rows": len(missing),
        "seconds": time.perf_counter() - started,
        "opening_seconds": opening_seconds,
        "waited_seconds": waited_seconds,
        "was_warm": was_warm,
        "dropped": dropped,
        "written_bytes": written_bytes,
    }


def _fetch(catalog: Catalog, model: str, fingerprint: str, dataset: str) -> float:
    """Bring what this machine lacks from the shared store; the seconds, which say nothing of the next time."""
    started = time.perf_counter()
    if current_settings().store_url:
        if model != RAW:
            unchanged_model(catalog, model, fingerprint)
        local_dataset(catalog.dataset(dataset))
    return time.perf_counter() - started


def _prepare(
    model: Model, dataset: DatasetRecord, rows: np.ndarray, hashes: np.ndarray
) -> Iterator[tuple[list[int], list[Any]]]:
    """The rows as the model takes them, with their numbers, chunk by chunk; only those not at hand are read."""

    def prepared(numbers: np.ndarray, rows: Rows) -> tuple[list[int], list[Any]]:
        items = model.prepare(rows)
        for number, item in zip(numbers, items, strict=True):
            _prepared.put(model.preparation, hashes[number].tobytes(), item)
        return numbers.tolist(), items

    is_at_hand = _are_in(_prepared, model.preparation, hashes[rows])
    for row in rows[is_at_hand].tolist():
        yield [row], [_prepared.get(model.preparation, hashes[row].tobytes())]
    rows = rows[~is_at_hand]
    was_read = _are_in(_read, _UNPREPARED, hashes[rows])
    for numbers in np.array_split(rows[was_read], range(CHUNK_ROWS, int(was_read.sum()), CHUNK_ROWS)):
        if len(numbers):
            kept: list[Any] = [_read.get(_UNPREPARED, hashes[number].tobytes()) for number in numbers]
            yield prepared(numbers, kept)
    rows = rows[~was_read]
    if not len(rows):
        return
    for chunk, start, found in read_chunks(dataset, rows, hashes):
        for number, row in enumerate(chunk, start):
            _read.put(_UNPREPARED, hashes[number].tobytes(), row)
        if len(found):
            yield prepared(start + found, [chunk[index] for index in found])


def _are_in(kept: PreparedRows, preparation: str, hashes: np.ndarray) -> np.ndarray:
    """Which of the rows with these hashes are kept so prepared, as bools."""
    return np.fromiter(((preparation, each.tobytes()) in kept for each in hashes), bool, len(hashes))


def _windows(
    chunks: Iterator[tuple[list[int], list[Any]]], lengths: np.ndarray | None, most_vectors: int
) -> Iterator[tuple[np.ndarray, list[Any]]]:
    """Chunks taken apart and put together up to a window's rows, bytes or vectors (a row has `lengths` of them)."""
    numbers: list[int] = []
    items: list[Any] = []
    held = vectors = 0
    for number, item in chain.from_iterable(zip(*chunk, strict=True) for chunk in chunks):
        numbers.append(number)
        items.append(item)
        held += size_of(item)
        vectors += 1 if lengths is None else int(lengths[number])
        if len(items) >= _WINDOW_ROWS or held >= _WINDOW_BYTES or vectors >= most_vectors:
            yield np.asarray(numbers), items
            numbers, items, held, vectors = [], [], 0, 0
    if items:
        yield np.asarray(numbers), items


class _Ahead(Generic[_Item]):
    """The same items; while one is worked on, a thread makes the next, and how long that was waited for is told."""

    def __init__(self, items: Iterator[_Item]) -> None:
        self._items = items
        self.waited_seconds = 0.0

    def __iter__(self) -> Iterator[_Item]:
        end = object()
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(next, self._items, end)
            while (item := self._waited_for(coming)) is not end:
                coming = thread.submit(next, self._items, end)
                yield item  # type: ignore[misc]

    def _waited_for(self, coming: Future[object]) -> object:
        started = time.perf_counter()
        item = coming.result()
        self.waited_seconds += time.perf_counter() - started
        return item


class _Segment:
    """Gathers features until there are `size` bytes of them, so that small chunks do not make many files."""

    def __init__(self, store: FeatureStore, key: str, size: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self.written_bytes = 0

    def add(self, row_hashes: np.ndarray, vectors: np.ndarray) -> None:
        self._parts.append((row_hashes, vectors))
        if sum(part.nbytes for _, part in self._parts) >= self._size:
            self.write()

    def write(self) -> None:
        if self._parts:
            row_hashes, vectors = zip(*self._parts, strict=True)
            self._store.write(self._key, np.concatenate(row_hashes), np.concatenate(vectors))
            self.written_bytes += sum(part.nbytes for part in chain(row_hashes, vectors))
            self._parts.clear()


def unchanged_model(catalog: Catalog, name: str, fingerprint: str) -> ModelRecord:
    """The model of that name, with the path where it is on this machine, if its files still have that content.

    Raises a transient EvaluationError if not, and what tasks.shared_models.local_model does.
    """
    record = catalog.model(name)
    now = changed_model(record) or {"fingerprint": record.fingerprint}
    if now["fingerprint"] != fingerprint:
        raise EvaluationError(
            f"the files of {name} changed since the query was planned", transient=True, fix="ask again"
        )
    return local_model(record)


def _open(catalog: Catalog, name: str, fingerprint: str) -> Model:
    global _opened, _coming
    if _opened is not None and _opened[0] == fingerprint:
        return _opened[1]
    if _opened is not None:
        _opened[1].close()
        _opened = None
    coming, _coming = _coming, None
    if coming is not None and coming[0] == fingerprint:
        model = coming[1].result()
    else:
        model = _load(catalog, name, fingerprint)
    _opened = (fingerprint, model)
    return model


def _load(catalog: Catalog, name: str, fingerprint: str) -> Model:
    if name == RAW:
        record = ModelRecord(name=RAW, source=RAW, path="", fingerprint=fingerprint, signature="", modality="")
    else:
        record = unchanged_model(catalog, name, fingerprint)
    return source_named(record.source).open(record)


def _load_ahead(catalog: Catalog, name: str, fingerprint: str) -> None:
    """Have a thread load the model that will be asked for next, unless two such would not fit side by side."""
    global _coming
    record = catalog.find_models([name]).get(name)
    if _coming is None and record is not None and (record.size_bytes or 0) <= _AHEAD_BYTES:
        _coming = (fingerprint, _loader.submit(_load, catalog, name, fingerprint))
