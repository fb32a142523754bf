"""From files to catalog rows: what a model or dataset is, read without running it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from storage.catalog import Catalog, DatasetRecord, ModelRecord
from storage.database import Database
from storage.errors import EvaluationError, ShiftError, StoreError
from storage.fingerprints import fingerprint_of, fingerprint_of_model, signature_of_files
from storage.locations import is_remote
from storage.settings import current_settings
from tasks.host import host
from tasks.readers import check_exists, guess_reader, open_reader, reader_name, split_names
from tasks.readers.contents import manifest_of
from tasks.shared_datasets import is_changed_dataset_here, is_dataset_here, local_dataset
from tasks.shared_models import is_changed_here
from tasks.sources import DESCRIBED_IN_HOST, HOSTS, guess_source, source_named

# How the fingerprint of a model begins whose files are gone or unreadable.
UNREADABLE = "unreadable-"
# What stands before the dataset whose principal components are to be a model.
_FITTED = "pca:"
# Columns of a model that a person may have set otherwise.
_TOLD_TOO = {"licence", "tags"}


def inspect_model(location: str, source: str | None = None, trusted: bool = False) -> dict[str, Any]:
    """Catalog columns of the model in a directory or file, by a hub id (owner/name, owner/name@revision), a hub
    handle or the name of an entry point.

    By a hub id it is what the hub tells; the weights come when they are first needed.

    `pca:` before the name of a dataset stands for the baseline of its principal components, which are fitted now.

    Raises StoreError when there is no such model and EvaluationError when its files are unreadable or unsafe.
    """
    location = location.removeprefix("hf://")
    if _is_hub_id(location, source):
        name, _, revision = location.partition("@")
        return _inspect_hub_model(name, revision or None, trusted)
    path = _model_place(location, source)
    source = source or guess_source(path)
    handle = location if _is_url(location) else None
    return {"source": source, "handle": handle, "revision": None, **_files_of(source, path, trusted)}


def inspect_downloaded(source: str, path: Path, trusted: bool) -> dict[str, Any]:
    """Catalog columns of a hub's model whose files have come; where they are not understood, those of the files alone.

    Opening the model tells what is wrong with it.
    """
    with contextlib.suppress(EvaluationError):
        return _files_of(source, path, trusted)
    return {"path": str(path), **_model_content(source_named(source).content_files(path))}


def _files_of(source: str, path: Path, trusted: bool) -> dict[str, Any]:
    described = _described(source, path, trusted)
    return {"path": str(path), **described, **_model_content(source_named(source).content_files(path))}


def _inspect_hub_model(handle: str, revision: str | None, trusted: bool) -> dict[str, Any]:
    """What the hub tells of the model; where it is out of reach, what an earlier download does."""
    from tasks.hub import describe, find_snapshot, look_up

    try:
        return describe(look_up(handle, revision))
    except StoreError:
        with contextlib.suppress(ShiftError):
            snapshot = find_snapshot(handle, revision)
            if snapshot.path is not None:
                told = _files_of("huggingface", snapshot.path, trusted)
                return {"source": "huggingface", "handle": handle, "revision": snapshot.commit, **told}
        raise


def describe_model(source: str, path: str, trusted: bool = False) -> dict[str, Any]:
    """What the adapter reads of a model, if it is safe, without loading its weights."""
    adapter = source_named(source)
    try:
        adapter.require_safe(Path(path), trusted)
        return adapter.describe(Path(path))
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

    Files that are gone or unreadable give a fingerprint of their own, so that asking goes on without them; those
    of a hub's model that are gone can be had again, and with a shared store those of any model that another machine
    registered.
    """
    if not model.is_local or is_untouched(model):
        return None
    if current_settings().store_url and not model.fingerprint.startswith(UNREADABLE) and not is_changed_here(model):
        return None
    path = Path(model.path)
    try:
        changes: dict[str, Any] = dict(_model_content(source_named(model.source).content_files(path)))
        if changes["fingerprint"] != model.fingerprint:
            # Other files were not what was trusted.
            changes["trusted"] = False
    except OSError as error:
        return {"fingerprint": UNREADABLE + fingerprint_of(str(error)), "signature": UNREADABLE}
    with contextlib.suppress(EvaluationError):
        described = _described(model.source, path, trusted=False)
        changes |= {column: value for column, value in described.items() if column not in _TOLD_TOO}
    return changes


def inspect_dataset(
    path: str,
    reader: str | None = None,
    options: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Catalog columns of the dataset split at a path, reading every row once.

    The row hashes and labels are kept as a manifest. `say` is told of rows that are skipped, and which of several
    splits is read where none is named. Raises StoreError naming file, row and column.
    """
    from storage.manifests import save_manifest

    place = full_path(path)
    check_exists(place)
    given = dict(options or {})
    kind = reader_name(reader) if reader else guess_reader(place)
    opened = open_reader(kind, place, given)
    schema = opened.schema()
    signature = signature_of_files(Path(file) for file in opened.files())
    manifest = manifest_of(opened)
    save_manifest(current_settings().manifests, manifest)
    if opened.skipped.num_rows:
        rows = "row" if opened.skipped.num_rows == 1 else "rows"
        say(f"{opened.skipped.num_rows} {rows} of {place} skipped: first {opened.skipped.first}")
    if len(splits := split_names(kind, place, given)) > 1 and "split" not in given:
        another = next(split for split in splits if split != "train")
        say(f"{place} is divided into {', '.join(splits)}: this is train; split='{another}' reads another")
    return {
        "path": place,
        "type": kind,
        "options": json.dumps(given, sort_keys=True),
        "fingerprint": manifest.fingerprint,
        "signature": signature,
        "modality": schema.modality,
        "task": manifest.task,
        "num_rows": manifest.num_rows,
        "num_classes": len(manifest.classes),
        "classes": json.dumps(list(manifest.classes)),
        "num_skipped": opened.skipped.num_rows,
    }


def full_path(path: str) -> str:
    """The absolute path of a file or folder; what is a name that a reader knows is itself."""
    return path if is_remote(path) else str(Path(path).expanduser().absolute())


def changed_dataset(dataset: DatasetRecord, say: Callable[[str], None] = lambda _: None) -> dict[str, Any] | None:
    """The catalog columns that changed with the dataset's files; None while they are untouched.

    What has no files here is taken as it was. A dataset whose manifest is lost or torn is read again all the same.
    Raises StoreError when the files are gone or no longer readable, unless there is a shared store.
    """
    from storage.manifests import has_manifest

    settings = current_settings()
    if is_untouched_dataset(dataset):
        if has_manifest(settings.manifests, dataset.fingerprint):
            return None
        if settings.store_url and not is_dataset_here(dataset):
            return None
    return inspect_dataset(dataset.path, dataset.type, dataset.reader_options, say)


def is_untouched_dataset(dataset: DatasetRecord) -> bool:
    """Whether the dataset's files look as they did when they were last read; reads none of them.

    What has no files here is taken as it was. Raises StoreError when the files are gone, unless there is a shared
    store, where they may be.
    """
    if is_remote(dataset.path):
        return True
    if current_settings().store_url:
        return not is_changed_dataset_here(dataset)
    if not Path(dataset.path).exists():
        raise StoreError(
            f"the files of dataset {dataset.name} are gone: {dataset.path}",
            subject=dataset.name,
            fix=f"put them back, or 'shiftql datasets remove {dataset.name}'",
        )
    opened = open_reader(dataset.type, dataset.path, dataset.reader_options)
    return signature_of_files(Path(file) for file in opened.files()) == dataset.signature


def _model_content(files: list[Path]) -> dict[str, str]:
    if not files:
        raise FileNotFoundError("there are no files of a model")
    # The signature first: files that change while they are hashed are then hashed again the next time.
    signature = signature_of_files(files)
    return {"fingerprint": fingerprint_of_model(Path(os.path.commonpath(files)), files), "signature": signature}


def _described(source: str, path: Path, trusted: bool) -> dict[str, Any]:
    if source in DESCRIBED_IN_HOST:
        return host(str(HOSTS[source])).call(
            "tasks.registration:describe_model", source=source, path=str(path), trusted=trusted
        )
    return describe_model(source, str(path), trusted)


def _model_place(location: str, source: str | None) -> Path:
    """Where the model is, downloaded first where a hub has it; of an entry point, its name."""
    path = Path(location).expanduser().absolute()
    if path.exists():
        return path
    if location.startswith(_FITTED):
        return _fitted(location.removeprefix(_FITTED))
    if source in (None, "torch") and source_named("torch").accepts(Path(location)):
        return Path(location)
    if _is_url(location):
        return resolve_handle(location)
    raise StoreError(f"{path} does not exist", subject=location, fix="give a directory, a file, a hub id or a handle")


def resolve_handle(handle: str) -> Path:
    """The directory of a TensorFlow Hub model, downloaded unless it is here. Raises StoreError."""
    try:
        return Path(host("tensorflow").call("tensorflow_hub:resolve", handle=handle))
    except Exception as error:
        raise StoreError(
            f"{handle} cannot be downloaded: {str(error).splitlines()[0]}",
            subject=handle,
            fix="check the handle and the network",
        ) from error


def _fitted(dataset: str) -> Path:
    """The file of the principal components fitted to a registered dataset: `name`, or `name?components=32`."""
    from tasks.sources.pca import COMPONENTS, fit_components

    name, _, given = dataset.partition("?components=")
    if given and not (given.isdecimal() and int(given)):
        raise StoreError(
            f"components is {given!r}, and must be a whole number above 0",
            subject=dataset,
            fix=f"write {_FITTED}{name}?components={COMPONENTS}",
        )
    settings = current_settings()
    record = local_dataset(Catalog(Database(settings)).dataset(name))
    return fit_components(record, settings.home / "baselines", int(given or COMPONENTS))


def _is_url(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def _is_hub_id(location: str, source: str | None) -> bool:
    owner, _, name = location.partition("@")[0].partition("/")
    is_path = location.startswith((".", "~")) or Path(location).expanduser().exists()
    return source in (None, "huggingface") and bool(owner and name) and not {"/", ":"} & {*owner, *name} and not is_path
