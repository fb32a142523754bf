"""Registering models and datasets in the catalog, and keeping the catalog true to the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shiftql.progress import progress
from storage.catalog import Catalog, DatasetRecord, ModelRecord
from storage.errors import StoreError
from storage.locations import TEST_SPLITS, divide, exists, full_name
from tasks.readers import split_names
from tasks.registration import changed_dataset, changed_model, inspect_dataset, inspect_model, is_untouched

if TYPE_CHECKING:
    from tasks.playground.build import Manifest


_UNTOLD: Mapping[str, Any] = {
    "upstream_dataset": None,
    "upstream_accuracy": None,
    "licence": None,
    "tags": "",
    "finetuned": False,
    "trusted": False,
}


def register_model(
    catalog: Catalog, name: str, location: str, source: str | None = None, columns: Mapping[str, Any] | None = None
) -> ModelRecord:
    """Add or update a model from a directory, file, hub id or handle; `columns` are what its files do not tell.

    Nothing of that, trust least of all, is kept from a model that had the name before.
    """
    told = columns or {}
    described = inspect_model(location, source, bool(told.get("trusted")))
    return catalog.save_model(name, {**_UNTOLD, **described, **told})


def register_dataset(
    catalog: Catalog, name: str, path: str, reader: str | None = None, options: Mapping[str, str] | None = None
) -> DatasetRecord:
    """Add or update a dataset split from a file, a folder, or a name that a reader knows."""
    return catalog.save_dataset(name, inspect_dataset(path, reader, options, progress.get().note))


def register_paths(catalog: Catalog, names: set[str]) -> list[str]:
    """Register those of the names that are no dataset's but a place, under its full path; the new ones.

    A place is a file or folder, or a name that a reader knows, with the split that is meant behind `#`. Where none is
    meant and the place has a split to test on, that is registered too.
    """
    places = {full_name(name) for name in names - catalog.find_datasets(names).keys() if exists(name)}
    new = sorted(places - catalog.find_datasets(places).keys())
    for place in new:
        path, split = divide(place)
        register_dataset(catalog, place, path, options={"split": split} if split else {})
    return [*new, *(name for place in new if divide(place)[1] is None for name in _register_test_split(catalog, place))]


def _register_test_split(catalog: Catalog, path: str) -> list[str]:
    """Register the split of a place that is meant for testing, if it has one that can be read; its name."""
    splits = split_names(catalog.dataset(path).type, path, {})
    for split in (each for each in TEST_SPLITS if each in splits):
        name = f"{path}#{split}"
        try:
            register_dataset(catalog, name, path, options={"split": split})
        except StoreError as error:
            progress.get().note(f"{name} is not tested on: {error.message}")
        else:
            return [name]
    return []


def refresh_models(catalog: Catalog) -> None:
    """Bring the fingerprints of all models up to date with their files; costs one look at each file's times."""
    for model in catalog.models():
        if changes := changed_model(model):
            catalog.save_model(model.name, changes)


def refresh_datasets(catalog: Catalog, names: set[str]) -> list[str]:
    """Read again those of the named datasets whose files changed; their names."""
    changed = []
    for dataset in catalog.datasets():
        is_named = dataset.name in names or divide(dataset.name)[0] in names
        if is_named and (changes := changed_dataset(dataset, progress.get().note)):
            catalog.save_dataset(dataset.name, changes)
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
    registered = {model.name: model for model in catalog.models()}
    for model in manifest.models:
        before = registered.get(model.name)
        if before is None or before.path != str(model.path) or not is_untouched(before):
            columns = {
                "upstream_dataset": model.upstream_dataset,
                "upstream_accuracy": model.upstream_accuracy,
                "tags": ",".join(model.tags),
            }
            register_model(catalog, model.name, str(model.path), model.source, columns)
    known = {dataset.name: dataset for dataset in catalog.datasets()}
    for dataset in manifest.datasets:
        earlier = known.get(dataset.name)
        if earlier is None or earlier.path != str(dataset.path) or changed_dataset(earlier):
            register_dataset(catalog, dataset.name, str(dataset.path), dataset.reader)
    return manifest
