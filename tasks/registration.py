"""From files to catalog rows: what a model or dataset is, read without running it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.catalog import DatasetRecord, ModelRecord
from storage.errors import EvaluationError, ShiftError, StoreError
from storage.fingerprints import fingerprint_of, fingerprint_of_model, signature_of_files
from storage.settings import current_settings
from tasks.host import host
from tasks.readers import guess_reader, open_reader
from tasks.sources import HOSTS, guess_source, source_named

_UNREADABLE = "unreadable-"


def inspect_model(location: str, source: str | None = None) -> dict[str, Any]:
    """Catalog columns of the model in a directory, by a hub id or by a hub handle.

    Raises StoreError when there is no such model and EvaluationError when its files are unreadable.
    """
    path = _model_directory(location, source)
    name = source or guess_source(path)
    adapter = source_named(name)
    content = _model_content(adapter.content_files(path), path)
    return {"source": name, "path": str(path), **_described(name, path), **content}


def describe_model(source: str, path: str) -> dict[str, Any]:
    """What the adapter reads of a model without loading its weights."""
    try:
        return source_named(source).describe(Path(path))
    except ShiftError:
        raise
    except Exception as error:
        raise EvaluationError(f"{path} cannot be understood: {type(error).__name__}: {error}", subject=path) from error


def is_untouched(model: ModelRecord) -> bool:
    """Whether the model's files look as they did when they were last read; reads none of them."""
    try:
        files = source_named(model.source).content_files(Path(model.path))
        return signature_of_files(files) == model.signature
    except OSError:
        return False


def changed_model(model: ModelRecord) -> dict[str, Any] | None:
    """The catalog columns that changed with the model's files; None while they are untouched.

    Files that are gone or unreadable give a fingerprint of their own, so that asking goes on without them.
    """
    if is_untouched(model):
        return None
    path = Path(model.path)
    try:
        # Other files were not what was trusted.
        changes = {**_model_content(source_named(model.source).content_files(path), path), "trusted": False}
    except OSError as error:
        return {"fingerprint": _UNREADABLE + fingerprint_of(str(error)), "signature": _UNREADABLE}
    with contextlib.suppress(EvaluationError):
        changes |= _described(model.source, path)
    return changes


def inspect_dataset(path: str, reader: str | None = None, options: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Catalog columns of the dataset split in a file or folder, reading every row once.

    The row hashes and labels are kept as a manifest. Raises StoreError naming file, row and column.
    """
    place = Path(path).expanduser().absolute()
    if not place.exists():
        raise StoreError(f"{place} does not exist", subject=str(place), fix="check the path")
    import numpy as np

    from storage.manifests import Manifest, save_manifest

    kind = reader or guess_reader(str(place))
    opened = open_reader(kind, str(place), dict(options or {}))
    schema = opened.schema()
    signature = signature_of_files(Path(file) for file in opened.files())
    chunks = [(chunk.row_hashes, chunk.labels) for chunk in opened.chunks()]
    manifest = Manifest(
        row_hashes=np.concatenate([hashes for hashes, _ in chunks]),
        labels=np.concatenate([labels for _, labels in chunks]),
        classes=schema.classes,
    )
    save_manifest(current_settings().manifests, manifest)
    return {
        "path": str(place),
        "type": opened.name,
        "options": json.dumps(dict(options or {}), sort_keys=True),
        "fingerprint": manifest.fingerprint,
        "signature": signature,
        "modality": schema.modality,
        "task": schema.task,
        "num_rows": len(manifest.labels),
        "num_classes": len(schema.classes),
        "classes": json.dumps(list(schema.classes)),
    }


def changed_dataset(dataset: DatasetRecord) -> dict[str, Any] | None:
    """The catalog columns that changed with the dataset's files; None while they are untouched.

    Raises StoreError when the files are gone or no longer readable.
    """
    if not Path(dataset.path).exists():
        raise StoreError(
            f"the files of dataset {dataset.name} are gone: {dataset.path}",
            subject=dataset.name,
            fix=f"put them back, or 'shiftql datasets remove {dataset.name}'",
        )
    opened = open_reader(dataset.type, dataset.path, dataset.reader_options)
    if signature_of_files(Path(file) for file in opened.files()) == dataset.signature:
        return None
    return inspect_dataset(dataset.path, dataset.type, dataset.reader_options)


def _model_content(files: list[Path], root: Path) -> dict[str, str]:
    # The signature first: files that change while they are hashed are then hashed again the next time.
    signature = signature_of_files(files)
    return {"fingerprint": fingerprint_of_model(root, files), "signature": signature}


def _described(source: str, path: Path) -> dict[str, Any]:
    if HOSTS[source] == "tensorflow":
        return host("tensorflow").call("tasks.registration:describe_model", source=source, path=str(path))
    return describe_model(source, str(path))


def _model_directory(location: str, source: str | None) -> Path:
    path = Path(location).expanduser().absolute()
    if path.is_dir():
        return path
    try:
        if location.startswith(("http://", "https://")):
            return Path(host("tensorflow").call("tensorflow_hub:resolve", handle=location))
        if source != "tfhub" and _looks_like_hub_id(location):
            from huggingface_hub import snapshot_download

            return Path(snapshot_download(location, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except Exception as error:
        raise StoreError(
            f"{location} is no directory here, and cannot be downloaded: {str(error).splitlines()[0]}",
            subject=location,
            fix="check the path; for a hub, the name and the network, and HF_TOKEN where the model is gated",
        ) from error
    raise StoreError(f"{path} is not a directory", subject=location, fix="give a directory, a hub id or a hub handle")


def _looks_like_hub_id(location: str) -> bool:
    owner, _, name = location.partition("/")
    return bool(owner and name) and "/" not in name and not location.startswith((".", "~"))
