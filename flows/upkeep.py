"""Purging the stores, and holding stores, catalog and files against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from flows.registration import update_dataset, update_model
from flows.shared_checks import check_shared
from storage.catalog import Catalog, DatasetRecord
from storage.errors import ShiftError
from storage.findings import Finding, finding
from storage.manifests import has_manifest, load_manifest
from storage.purging import purge
from storage.settings import current_settings
from tasks.host import host
from tasks.registration import UNREADABLE, changed_model, inspect_dataset, is_untouched_dataset
from tasks.shared_datasets import is_dataset_here

_READ_AGAIN = "read again"


def purge_stores(what: str, *, dry_run: bool = False, **chosen: Any) -> Mapping[str, int]:
    """Delete what was stored, or only count it; see storage.purging."""
    counted = purge(what, dry_run=True, **chosen)
    if dry_run:
        return counted
    if not counted["results"]:
        return purge(what, **chosen)
    # MLflow's imports stay out of this process.
    return host("tracking").call("storage.purging:purge", what=what, **chosen)


def examine(catalog: Catalog, *, fix: bool, rebuild: bool) -> dict[str, Any]:
    """All that is wrong (`findings`), with `fix` put right, and how many results were `restored` by `rebuild`."""
    found = [(each.mended() if fix else each).to_json() for each in check_catalog(catalog)]
    stores = host("tracking").call("storage.checkup:check_stores", fix=fix, rebuild=rebuild)
    return {"restored": stores["restored"], "findings": [*found, *stores["findings"]]}


def check_catalog(catalog: Catalog) -> Iterator[Finding]:
    """Models and datasets whose files are gone or changed, or that other machines cannot get, and datasets whose
    manifest is gone.
    """
    yield from _check_models(catalog)
    yield from _check_datasets(catalog)
    if current_settings().store_url is not None:
        yield from check_shared(catalog)


def _check_models(catalog: Catalog) -> Iterator[Finding]:
    models = catalog.models()
    changes = {model.name: changed for model in models if (changed := changed_model(model)) is not None}
    fingerprints = {model.name: changes.get(model.name, {}).get("fingerprint", model.fingerprint) for model in models}
    gone = [name for name, fingerprint in fingerprints.items() if fingerprint.startswith(UNREADABLE)]

    def take_note() -> None:
        for model in models:
            if model.name in changes.keys() - set(gone):
                update_model(catalog, model, changes[model.name])

    put_back = "put them back, or 'shiftql models remove NAME'"
    yield from finding("models whose files are gone or unreadable", gone, put_back)
    changed_names = [name for name in changes if name not in gone]
    yield from finding("models whose files changed", changed_names, _READ_AGAIN, take_note)


def _check_datasets(catalog: Catalog) -> Iterator[Finding]:
    # What was read before says nothing of the files now.
    load_manifest.cache_clear()
    settings = current_settings()
    gone, changed, unmanifested = [], [], []
    for dataset in catalog.datasets():
        try:
            if not is_untouched_dataset(dataset):
                changed.append(dataset)
            elif not has_manifest(settings.manifests, dataset.fingerprint) and (
                settings.store_url is None or is_dataset_here(dataset)
            ):
                unmanifested.append(dataset)
        except ShiftError:
            gone.append(dataset)

    def read_again(datasets: list[DatasetRecord]) -> None:
        for dataset in datasets:
            columns = inspect_dataset(dataset.path, dataset.type, dataset.reader_options)
            update_dataset(catalog, dataset.name, columns)

    put_back = "put them back, or 'shiftql datasets remove NAME'"
    yield from finding("datasets whose files are gone or unreadable", _names(gone), put_back)
    yield from finding("datasets whose files changed", _names(changed), _READ_AGAIN, partial(read_again, changed))
    yield from finding(
        "datasets whose manifest is gone or damaged",
        _names(unmanifested),
        _READ_AGAIN,
        partial(read_again, unmanifested),
    )


def _names(datasets: list[DatasetRecord]) -> list[str]:
    return [dataset.name for dataset in datasets]
