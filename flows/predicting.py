"""Predictions of one model for new rows; nothing is recorded, so that no flow is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.registration import update_model
from storage.catalog import Catalog, ModelRecord
from storage.errors import StoreError
from storage.locations import divide, exists, full_name
from storage.names import did_you_mean
from tasks.host import host
from tasks.registration import changed_model
from tasks.shared_datasets import local_dataset
from tasks.sources import HOSTS


def predict(catalog: Catalog, name: str, data: str) -> Mapping[str, Any]:
    """What a model says of a registered dataset, or of what lies at a path; see tasks.predicting.predict_rows."""
    model = catalog.model(name)
    _require_head(model)
    if changes := changed_model(model):
        model = update_model(catalog, model, changes)
    registered = catalog.find_datasets([data, full_name(data)])
    dataset = registered.get(data) or registered.get(full_name(data))
    if dataset is None and not exists(data):
        names = [each.name for each in catalog.datasets()]
        raise StoreError(
            f"there is neither a file nor a dataset {data!r}",
            subject=data,
            allowed=names,
            fix=did_you_mean(data, names) or "check the path",
        )
    if dataset is not None:
        here = local_dataset(dataset)
        path, reader, options = here.path, here.type, here.reader_options
    else:
        path, split = divide(data)
        reader, options = None, {} if split is None else {"split": split}
    return host(str(HOSTS[model.source])).call(
        "tasks.predicting:predict_rows",
        model=model.name,
        model_fingerprint=model.fingerprint,
        path=path,
        reader=reader,
        options=options,
    )


def _require_head(model: ModelRecord) -> None:
    """Refuse a model that predicts nothing, or is not here."""
    if HOSTS[model.source] is None or (model.source == "huggingface" and model.labels == "[]"):
        raise StoreError(
            f"{model.name} has no classes of its own, and predicts nothing",
            subject=model.name,
            fix=f"fine-tune it first: FINETUNE {model.name} WITH <dataset> AS '<name>'",
        )
    if not model.is_local:
        raise StoreError(
            f"the files of {model.name} are not on this machine",
            subject=model.name,
            fix="ask a question that uses it, which downloads them",
        )
