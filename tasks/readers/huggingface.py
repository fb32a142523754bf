"""Datasets of Hugging Face's `datasets`: saved to disk, or by their id on the hub. Their scripts never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from storage.errors import StoreError
from storage.locations import HUGGING_FACE
from tasks.readers.arrow_tables import ArrowTable
from tasks.readers.splits import WHOLE, canonical
from tasks.readers.tables import Table


def open_sets(path: str, config: str | None = None) -> dict[str, Table]:
    """The table of every split of what `save_to_disk` wrote, or of `hf://owner/name` on the hub.

    Raises StoreError when it is neither, and when the hub cannot be reached and the dataset is not cached.
    """
    if path.startswith(HUGGING_FACE):
        return _on_the_hub(path.removeprefix(HUGGING_FACE).removeprefix("datasets/"), config)
    root = Path(path)
    told = root / "dataset_dict.json"
    if told.is_file():
        return {canonical(split): _saved(root / split) for split in map(str, _read(told, "splits"))}
    return {WHOLE: _saved(root)}


def _saved(folder: Path) -> Table:
    state = folder / "state.json"
    try:
        files = [folder / part["filename"] for part in _read(state, "_data_files")]
    except (KeyError, TypeError) as error:
        raise _untold(state, error) from error
    if outside := [file for file in files if folder.resolve() not in file.resolve().parents]:
        raise StoreError(
            f"{state} names a file outside of its folder: {outside[0]}",
            subject=str(state),
            fix="save the dataset again",
        )
    if not files:
        raise _untold(state, "no files")
    return ArrowTable(files)


def _read(file: Path, key: str) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _untold(file, error) from error


def _untold(file: Path, error: object) -> StoreError:
    return StoreError(
        f"{file} does not tell what the dataset consists of: {error}",
        subject=str(file),
        fix="save the dataset again with save_to_disk",
    )


def _on_the_hub(name: str, config: str | None) -> dict[str, Table]:
    import datasets

    try:
        # What is cached is found again without the network.
        loaded = datasets.load_dataset(name, config)
    # The library raises much: of the hub, of the network, of its own.
    except Exception as error:
        raise StoreError(
            f"the dataset {name} cannot be had: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            subject=name,
            fix="check the name, the config (config='…') and the network, and HF_TOKEN where the dataset is gated; or"
            " save it with save_to_disk where there is a network, and give the folder",
        ) from error
    return {
        canonical(split): ArrowTable([Path(part["filename"]) for part in loaded[split].cache_files]) for split in loaded
    }
