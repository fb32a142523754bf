"""Models and datasets whose files other machines cannot get: the shared store lacks them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from storage.archives import DATASETS, MODELS
from storage.catalog import Catalog, DatasetRecord, ModelRecord
from storage.errors import StoreError
from storage.findings import Finding, finding
from storage.locations import is_remote
from storage.manifests import SHARED, has_manifest, share_manifest
from storage.settings import current_settings
from storage.shared_files import SharedFiles
from tasks.shared_datasets import is_dataset_here, is_shared, share_dataset
from tasks.shared_models import is_model_here, share_model

_PUT_THERE = "put there from here"
_REGISTER = "run 'shiftql doctor --fix' where they are, or remove them"


def check_shared(catalog: Catalog) -> Iterator[Finding]:
    """What the shared store lacks, which is put there where it is on this machine. Lists three folders of the store."""
    shared = SharedFiles(str(current_settings().store_url))
    yield from _check_models(catalog, shared.names(MODELS))
    yield from _check_datasets(catalog, shared.names(DATASETS))
    yield from _check_manifests(catalog, shared.names(SHARED))


def _check_models(catalog: Catalog, names: Collection[str]) -> Iterator[Finding]:
    # What is installed as a package has no path.
    models = [model for model in catalog.models() if model.handle is None and Path(model.path).is_absolute()]
    lacking = [model for model in models if f"{model.fingerprint}.tar" not in names]
    here = [model for model in lacking if is_model_here(model)]

    def put_there() -> None:
        for model in here:
            share_model(model.model_dump())

    yield from finding("models that the shared store lacks", _names(here), _PUT_THERE, put_there)
    nowhere = [model for model in lacking if model not in here]
    yield from finding("models whose files are neither here nor in the shared store", _names(nowhere), _REGISTER)


def _check_datasets(catalog: Catalog, names: Collection[str]) -> Iterator[Finding]:
    datasets = [dataset for dataset in catalog.datasets() if not is_remote(dataset.path)]
    lacking = [dataset for dataset in datasets if not is_shared(dataset, names)]
    here = [dataset for dataset in lacking if is_dataset_here(dataset)]

    def put_there() -> None:
        for dataset in here:
            share_dataset(dataset.model_dump(), _refuse)

    yield from finding("datasets that the shared store lacks", _names(here), _PUT_THERE, put_there)
    nowhere = [dataset for dataset in lacking if dataset not in here]
    yield from finding("datasets whose files are neither here nor in the shared store", _names(nowhere), _REGISTER)


def _check_manifests(catalog: Catalog, names: Collection[str]) -> Iterator[Finding]:
    root = current_settings().manifests
    lacking = [dataset for dataset in catalog.datasets() if f"{dataset.fingerprint}.npz" not in names]
    here = [dataset for dataset in lacking if has_manifest(root, dataset.fingerprint)]

    def put_there() -> None:
        for dataset in here:
            share_manifest(root / f"{dataset.fingerprint}.npz", dataset.fingerprint)

    yield from finding("datasets whose manifest the shared store lacks", _names(here), _PUT_THERE, put_there)


def _refuse(reason: str) -> None:
    raise StoreError(reason)


def _names(records: Collection[ModelRecord] | Collection[DatasetRecord]) -> list[str]:
    return [record.name for record in records]
