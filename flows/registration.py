"""Registering models and datasets in the catalog, and keeping the catalog true to the files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.announcing import announce
from shiftql.progress import progress
from storage.catalog import TOLD, Catalog, DatasetRecord, ModelRecord
from storage.errors import ShiftError, StoreError
from storage.event_log import log_to
from storage.events import tell
from storage.lineage import Lineage
from storage.locations import TEST_SPLITS, divide, exists, full_name
from storage.settings import current_settings
from tasks.readers import split_names
from tasks.registration import (
    UNREADABLE,
    changed_dataset,
    changed_model,
    inspect_dataset,
    inspect_model,
)
from tasks.shared_datasets import share_dataset
from tasks.shared_models import share_model

if TYPE_CHECKING:
    from tasks.playground.build import Manifest
    from tasks.pools import Candidate


# What a model is by its files, as far as they are here.
_CONTENT = {"path", "fingerprint", "signature", "revision"}
# Every column that need not be given.
_DEFAULTS: Mapping[str, Any] = {
    column: field.default
    for column, field in ModelRecord.model_fields.items()
    if not field.is_required() and column not in {"model_id", "date_added"}
}
_AT_ONCE = 4


@dataclass(frozen=True)
class Outcome:
    """What became of one of many models to be registered. `reason` says why it failed, or what is worth knowing."""

    name: str
    status: Literal["added", "updated", "failed"]
    model: ModelRecord | None = None
    reason: str | None = None


def register_model(
    catalog: Catalog, name: str, location: str, source: str | None = None, columns: Mapping[str, Any] | None = None
) -> ModelRecord:
    """Add or update a model from a directory, file, hub id or handle; `columns` are what its files do not tell.

    Nothing of that, trust least of all, is kept from a model that had the name before.
    """
    before = catalog.find_models([name]).get(name)
    model = _register_model(catalog, name, before, location, source, columns or {})
    if _differs(model, before):
        announce("model", "registered", [name])
    return model


def _register_model(
    catalog: Catalog,
    name: str,
    before: ModelRecord | None,
    location: str,
    source: str | None,
    told: Mapping[str, Any],
) -> ModelRecord:
    inspected = inspect_model(location, source, bool(told.get("trusted")))
    return _save_model(catalog, name, before, {**inspected, **told})


def register_finetuned(catalog: Catalog, name: str, directory: Path, dataset: str, lineage: Lineage) -> ModelRecord:
    """Add a model that was fine-tuned from another on a dataset; its lineage then knows its content."""
    parent = catalog.model(lineage.parent.name)
    inspected = inspect_model(str(directory), trusted=parent.trusted)
    told = {
        "upstream_dataset": dataset,
        "upstream_accuracy": lineage.value if lineage.metric == "validation_accuracy" else None,
        "licence": parent.licence,
        "finetuned": True,
        # Its code, where it has any, is the parent's.
        "trusted": parent.trusted,
        "parent": parent.name,
        "lineage": replace(lineage, content=inspected["fingerprint"]).json,
    }
    model = _save_model(catalog, name, None, {**inspected, **told})
    announce("model", "registered", [name])
    return model


def register_models(
    catalog: Catalog,
    location: str,
    prefix: str = "",
    source: str | None = None,
    columns: Mapping[str, Any] | None = None,
) -> Iterator[Outcome]:
    """Add or update the models of a hub's listing, a directory tree or a CSV file; what became of each, in their order.

    `columns` are what the files of none of them tell; a `prefix` stands before every name, with a slash.
    """
    from tasks.pools import candidates

    return _register_each(catalog, candidates(location, source), prefix, columns or {})


def register_starters(catalog: Catalog, modality: str) -> Iterator[Outcome]:
    """Add or update well-known models of a hub for one kind of input; needs no network."""
    from tasks.pools import starters

    return _register_each(catalog, starters(modality), "", {})


def _register_each(
    catalog: Catalog, found: Iterable[Candidate], prefix: str, columns: Mapping[str, Any]
) -> Iterator[Outcome]:
    known = {model.name: model for model in catalog.models()}
    taken: set[str] = set()
    changed: list[str] = []
    try:
        for candidate, inspected in _inspected(found):
            name = f"{prefix}/{candidate.name}" if prefix else candidate.name
            if name in taken or isinstance(inspected, ShiftError):
                reason = str(inspected) if isinstance(inspected, ShiftError) else "another of them has that name"
                yield Outcome(name, "failed", reason=" ".join(reason.split()))
                continue
            taken.add(name)
            model = _save_model(catalog, name, known.get(name), {**inspected, **columns})
            if _differs(model, known.get(name)):
                changed.append(name)
            yield Outcome(name, "updated" if name in known else "added", model, candidate.note)
    finally:
        # What is registered before it is interrupted stays.
        announce("model", "registered", changed)


def _inspected(found: Iterable[Candidate]) -> Iterator[tuple[Candidate, dict[str, Any] | ShiftError]]:
    """Each candidate with its columns, or with why there are none; some are inspected at a time."""

    def inspect(candidate: Candidate) -> dict[str, Any] | ShiftError:
        try:
            return candidate.inspect()
        except ShiftError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as executor:
        begun = [(candidate, executor.submit(inspect, candidate)) for candidate in found]
        for candidate, inspected in begun:
            yield candidate, inspected.result()


def _save_model(catalog: Catalog, name: str, before: ModelRecord | None, columns: Mapping[str, Any]) -> ModelRecord:
    """Save a model, of whose name nothing is kept but what a download of the same commit has told."""
    forgotten = _DEFAULTS
    is_same = before is not None and before.handle is not None and before.handle == columns["handle"]
    if is_same and not columns["path"] and columns["revision"] in (None, getattr(before, "revision", None)):
        forgotten = {column: _DEFAULTS[column] for column in TOLD}
        columns = {column: value for column, value in columns.items() if value is not None and column not in _CONTENT}
    else:
        share_model(columns)
    saved = catalog.save_model(name, {**forgotten, **columns})
    _tell_registered(model=name, content=saved.fingerprint)
    return saved


def register_dataset(
    catalog: Catalog, name: str, path: str, reader: str | None = None, options: Mapping[str, str] | None = None
) -> DatasetRecord:
    """Add or update a dataset split from a file, a folder, or a name that a reader knows."""
    before = catalog.find_datasets([name]).get(name)
    dataset = _register_dataset(catalog, name, path, reader, options)
    if _differs(dataset, before):
        announce("dataset", "registered", [name])
    return dataset


def _register_dataset(
    catalog: Catalog, name: str, path: str, reader: str | None = None, options: Mapping[str, str] | None = None
) -> DatasetRecord:
    saved = update_dataset(catalog, name, inspect_dataset(path, reader, options, progress.get().note))
    _tell_registered(dataset=name, content=saved.fingerprint)
    return saved


def _tell_registered(**what: Any) -> None:
    log_to(current_settings())
    tell("registered", **what)


def update_model(catalog: Catalog, model: ModelRecord, changes: Mapping[str, Any]) -> ModelRecord:
    """Take note of what changed with the files of a model."""
    if not changes["fingerprint"].startswith(UNREADABLE):
        share_model({**model.model_dump(), **changes})
    return catalog.save_model(model.name, changes)


def update_dataset(catalog: Catalog, name: str, columns: Mapping[str, Any]) -> DatasetRecord:
    """Save what was read of a dataset, and put its files where other machines find them."""
    share_dataset(columns, progress.get().note)
    return catalog.save_dataset(name, columns)


def register_paths(catalog: Catalog, names: set[str]) -> list[str]:
    """Register those of the names that are no dataset's but a place, under its full path; the new ones.

    A place is a file or folder, or a name that a reader knows, with the split that is meant behind `#`. Where none is
    meant and the place has a split to test on, that is registered too.
    """
    places = {full_name(name) for name in names - catalog.find_datasets(names).keys() if exists(name)}
    new = sorted(places - catalog.find_datasets(places).keys())
    for place in new:
        path, split = divide(place)
        _register_dataset(catalog, place, path, options={"split": split} if split else {})
    return [*new, *(name for place in new if divide(place)[1] is None for name in _register_test_split(catalog, place))]


def _register_test_split(catalog: Catalog, path: str) -> list[str]:
    """Register the split of a place that is meant for testing, if it has one that can be read; its name."""
    splits = split_names(catalog.dataset(path).type, path, {})
    for split in (each for each in TEST_SPLITS if each in splits):
        name = f"{path}#{split}"
        try:
            _register_dataset(catalog, name, path, options={"split": split})
        except StoreError as error:
            progress.get().note(f"{name} is not tested on: {error.message}")
        else:
            return [name]
    return []


def refresh_models(catalog: Catalog) -> None:
    """Bring the fingerprints of all models up to date with their files; costs one look at each file's times."""
    for model in catalog.models():
        if changes := changed_model(model):
            update_model(catalog, model, changes)


def refresh_datasets(catalog: Catalog, names: set[str]) -> list[str]:
    """Read again those of the named datasets whose files changed; their names."""
    changed = []
    for dataset in catalog.datasets():
        is_named = dataset.name in names or divide(dataset.name)[0] in names
        if is_named and (changes := changed_dataset(dataset, progress.get().note)):
            update_dataset(catalog, dataset.name, changes)
            changed.append(dataset.name)
    return changed


def make_playground(
    catalog: Catalog,
    directory: Path,
    size: Literal["small", "full"],
    seed: int,
    report: Callable[[str, int, int], None],
) -> Manifest:
    """Build the offline pool of models and datasets in a directory, where it is not there yet, and register it."""
    from tasks.playground.build import build

    manifest = build(directory, size, seed, report)
    models, datasets = [], []
    registered = {model.name: model for model in catalog.models()}
    for model in manifest.models:
        before = registered.get(model.name)
        if before is None or before.path != str(model.path) or changed_model(before):
            columns = {
                "upstream_dataset": model.upstream_dataset,
                "upstream_accuracy": model.upstream_accuracy,
                "tags": ",".join(model.tags),
            }
            _register_model(catalog, model.name, before, str(model.path), model.source, columns)
            models.append(model.name)
    known = {dataset.name: dataset for dataset in catalog.datasets()}
    for dataset in manifest.datasets:
        earlier = known.get(dataset.name)
        if earlier is None or earlier.path != str(dataset.path) or changed_dataset(earlier):
            _register_dataset(catalog, dataset.name, str(dataset.path), dataset.reader)
            datasets.append(dataset.name)
    # One event: who hears it looks at all there is.
    if models:
        announce("model", "registered", models)
    else:
        announce("dataset", "registered", datasets)
    return manifest


def _differs(record: ModelRecord | DatasetRecord, before: ModelRecord | DatasetRecord | None) -> bool:
    return before is None or record.model_dump() != before.model_dump()
