"""Models that several machines share: their files are put into the shared store when they are registered, and fetched
from there by a machine that lacks them when it opens them.

Without a shared store (SHIFT_STORE_URL) everything lies where it was registered, and nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.archives import MODELS, PUT_THERE, Archives, entry
from storage.catalog import ModelRecord
from storage.errors import EvaluationError, ShiftError
from storage.fingerprints import fingerprint_of_model, signature_of_files
from storage.seen_files import Seen, SeenFiles
from storage.settings import current_settings
from tasks.eviction import make_room_for_copies
from tasks.sources import source_named


def share_model(columns: Mapping[str, Any]) -> None:
    """Put the files of a model with these columns of the catalog into the shared store, where there is one.

    What a hub has, and what is installed as a package, every machine gets by itself. Raises StoreError when the store
    or the disk refuses.
    """
    settings = current_settings()
    path = Path(columns["path"])
    if settings.store_url is None or columns.get("handle") or not columns["path"] or not path.exists():
        return
    files = source_named(columns["source"]).content_files(path)
    Archives(settings, MODELS).put(columns["fingerprint"], path.parent, files)
    SeenFiles(settings).put(
        Seen(columns["signature"], columns["fingerprint"], columns["fingerprint"]), MODELS, str(path)
    )


def is_model_here(model: ModelRecord) -> bool:
    """Whether the files at the model's path on this machine are those that were registered."""
    return _content_of(model) == model.fingerprint


def is_changed_here(model: ModelRecord) -> bool:
    """Whether the files that this home registered as the model are of other content now."""
    content, seen = _content_of(model), SeenFiles(current_settings()).get(MODELS, model.path)
    return content not in (None, model.fingerprint) and seen is not None and seen.registered == model.fingerprint


def local_model(model: ModelRecord) -> ModelRecord:
    """The model with the path where its files are on this machine, fetched from the shared store where they are not.

    Raises StoreError when the store or the disk refuses, and a transient EvaluationError when there are no such files.
    """
    settings = current_settings()
    if settings.store_url is None or not model.path:
        return model
    if model.handle is not None:
        return _downloaded(model)
    if _content_of(model) == model.fingerprint:
        return model
    copy = Archives(settings, MODELS).copy(model.fingerprint, make_room_for_copies)
    if copy is None:
        raise EvaluationError(
            f"its files are neither at {model.path} on this machine nor in the shared store",
            subject=model.name,
            transient=True,
            fix=PUT_THERE,
        )
    return _moved(model, entry(copy, Path(model.path).name))


def _moved(model: ModelRecord, path: Path) -> ModelRecord:
    return ModelRecord(**{**model.model_dump(), "path": str(path)})


def _content_of(model: ModelRecord) -> str | None:
    """The fingerprint of what lies at a model's path on this machine, read once; None where nothing is."""
    try:
        files = source_named(model.source).content_files(Path(model.path))
        signature = signature_of_files(files)
        if signature == model.signature:
            return model.fingerprint
        notes = SeenFiles(current_settings())
        seen = notes.get(MODELS, model.path)
        if seen is None or seen.signature != signature:
            content = _fingerprint_of(files)
            seen = Seen(signature, content, None if seen is None else seen.registered)
            notes.put(seen, MODELS, model.path)
        return seen.fingerprint
    except (OSError, ShiftError):
        return None


def _fingerprint_of(files: list[Path]) -> str:
    if not files:
        raise FileNotFoundError("there are no files of a model")
    return fingerprint_of_model(Path(os.path.commonpath(files)), files)


def _downloaded(model: ModelRecord) -> ModelRecord:
    """A hub's model where this machine has it: the path in the catalog is that of whoever downloaded it last."""
    if not model.is_local and model.source == "huggingface":
        from tasks.hub import find_download

        path = find_download(str(model.handle), model.revision)
        return model if path is None else _moved(model, path)
    return model
