"""Datasets that several machines share: as tasks.shared_models for models.

What a dataset is by its rows may lie in files of many kinds, so that the store also says, for each dataset and way to
read it, which archive has its files.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from storage.archives import DATASETS, PUT_THERE, Archives, entry
from storage.catalog import DatasetRecord
from storage.errors import StoreError
from storage.fingerprints import fingerprint_of, fingerprint_of_model, signature_of_files
from storage.in_place import put_in_place
from storage.locations import is_remote
from storage.seen_files import Seen, SeenFiles
from storage.settings import current_settings
from storage.shared_files import SharedFiles
from tasks.eviction import make_room_for_copies
from tasks.readers import open_reader
from tasks.readers.contents import manifest_of
from tasks.readers.splits import is_hidden
from tasks.readers.tables import FEATURES

# A fingerprint.
_PLAIN = re.compile(r"[0-9a-f]{32}")


def share_dataset(columns: Mapping[str, Any], say: Callable[[str], None] = lambda _: None) -> None:
    """Put the files of a dataset with these columns of the catalog into the shared store, where there is one.

    What is no file but a name that a reader knows, every machine reads by itself. `say` is told why other machines
    cannot read it where that is so. Raises StoreError when the store or the disk refuses.
    """
    settings = current_settings()
    if settings.store_url is None or is_remote(columns["path"]):
        return
    looked_at = (DATASETS, columns["path"], columns["type"], columns["options"])
    SeenFiles(settings).put(Seen(columns["signature"], columns["fingerprint"], columns["fingerprint"]), *looked_at)
    shared, pointer = SharedFiles(settings.store_url), _pointer(**_told_of(columns))
    if shared.has(pointer):
        return
    path = Path(columns["path"])
    files = _files_of(path, columns["type"], json.loads(columns["options"]))
    if outside := [file for file in files if not file.is_relative_to(path.parent)]:
        say(f"other machines cannot read {path}: it names {outside[0]}, which lies elsewhere")
        return
    fingerprint = fingerprint_of_model(path.parent, files)
    Archives(settings, DATASETS).put(fingerprint, path.parent, files)
    # Last: what it points to is there.
    note = settings.home / "pointers" / Path(pointer).name
    with put_in_place(note) as temporary:
        temporary.write_text(json.dumps({"files": fingerprint, "name": path.name}))
    shared.put(note, pointer)


def is_shared(dataset: DatasetRecord, names: Collection[str]) -> bool:
    """Whether the names of the shared store's files for datasets have the one of this dataset."""
    return _pointer(**_told_of(dataset.model_dump())).rpartition("/")[2] in names


def is_changed_dataset_here(dataset: DatasetRecord) -> bool:
    """Whether the files that this home registered as the dataset are of other content now."""
    content, seen = _rows_of(dataset), SeenFiles(current_settings()).get(*_looked_at(dataset))
    return content not in (None, dataset.fingerprint) and seen is not None and seen.registered == dataset.fingerprint


def is_dataset_here(dataset: DatasetRecord) -> bool:
    """Whether the files at the dataset's path on this machine are those that were registered."""
    return is_remote(dataset.path) or _rows_of(dataset) == dataset.fingerprint


def local_dataset(dataset: DatasetRecord) -> DatasetRecord:
    """The dataset with the path where its files are on this machine, fetched from the shared store where they are not.

    Raises StoreError when there are no such files, and when the store or the disk refuses.
    """
    settings = current_settings()
    if settings.store_url is None or is_dataset_here(dataset):
        return dataset
    pointer = _pointer(**_told_of(dataset.model_dump()))
    note = settings.home / "pointers" / Path(pointer).name
    with contextlib.suppress(FileNotFoundError), put_in_place(note) as temporary:
        if not note.exists():
            SharedFiles(settings.store_url).fetch(pointer, temporary)
    copy = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(note.read_text())
        if _PLAIN.fullmatch(told["files"]):
            copy = Archives(settings, DATASETS).copy(told["files"], make_room_for_copies)
    if copy is None:
        note.unlink(missing_ok=True)
        raise StoreError(
            f"the files of {dataset.name} are neither at {dataset.path} on this machine nor in the shared store",
            subject=dataset.name,
            fix=PUT_THERE,
        )
    return DatasetRecord(**{**dataset.model_dump(), "path": str(entry(copy, told["name"]))})


def _files_of(path: Path, reader: str, options: Mapping[str, str]) -> list[Path]:
    """The files that a dataset at a path consists of; of a folder all that are not hidden, whatever split is meant."""
    read = {Path(file) for file in open_reader(reader, str(path), options).files()}
    if not path.is_dir():
        features = path.parent / FEATURES
        return sorted({path, *read, *([features] if features.is_file() else [])})
    found = (file for file in path.rglob("*") if file.is_file() and not is_hidden(file, path))
    # A link that no reader follows may lead anywhere.
    return sorted({*read, *(file for file in found if not file.is_symlink())})


def _rows_of(dataset: DatasetRecord) -> str | None:
    """The fingerprint of what lies at a dataset's path on this machine, read once; None where that is none."""
    try:
        opened = open_reader(dataset.type, dataset.path, dataset.reader_options)
        signature = signature_of_files(map(Path, opened.files()))
        if signature == dataset.signature:
            return dataset.fingerprint
        notes = SeenFiles(current_settings())
        seen = notes.get(*_looked_at(dataset))
        if seen is None or seen.signature != signature:
            seen = Seen(signature, manifest_of(opened).fingerprint, None if seen is None else seen.registered)
            notes.put(seen, *_looked_at(dataset))
        return seen.fingerprint
    except (OSError, StoreError):
        return None


def _looked_at(dataset: DatasetRecord) -> tuple[str, str, str, str]:
    return DATASETS, dataset.path, dataset.type, dataset.options


def _pointer(fingerprint: str, type: str, options: str) -> str:
    """Where the shared store says which archive has the files of a dataset that is read that way."""
    return f"{DATASETS}/{fingerprint}-{fingerprint_of(type, options)}.json"


def _told_of(columns: Mapping[str, Any]) -> dict[str, str]:
    return {column: columns[column] for column in ("fingerprint", "type", "options")}
