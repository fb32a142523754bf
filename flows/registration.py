"""Registering models and datasets in the catalog, and keeping the catalog true to the files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from storage.catalog import Catalog, DatasetRecord, ModelRecord
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
    """Add or update a model from a directory, hub id or handle; `columns` are what its files do not tell.

    Nothing of that, trust least of all, is kept from a model that had the name before.
    """
    return catalog.save_model(name, {**_UNTOLD, **inspect_model(location, source), **(columns or {})})


def register_dataset(
    catalog: Catalog, name: str, path: str, reader: str | None = None, options: Mapping[str, str] | None = None
) -> DatasetRecord:
    """Add or update a dataset split from a file or folder."""
    return catalog.save_dataset(name, inspect_dataset(path, reader, options))


def register_paths(catalog: Catalog, names: set[str]) -> list[str]:
    """Register those of the names that are no dataset's but a file or folder, under its full path; the new ones."""
    paths = {os.path.abspath(name) for name in names - catalog.find_datasets(names).keys() if Path(name).exists()}
    new = sorted(paths - catalog.find_datasets(paths).keys())
    for path in new:
        register_dataset(catalog, path, path)
    return new


def refresh_models(catalog: Catalog) -> None:
    """Bring the fingerprints of all models up to date with their files; costs one look at each file's times."""
    for model in catalog.models():
        if changes := changed_model(model):
            catalog.save_model(model.name, changes)


def refresh_datasets(catalog: Catalog, names: set[str]) -> list[str]:
    """Read again those of the named datasets whose files changed; their names."""
    changed = []
    for dataset in catalog.datasets():
        if dataset.name in names and (changes := changed_dataset(dataset)):
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
