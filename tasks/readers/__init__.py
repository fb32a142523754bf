"""Dataset readers, by name. Light to import: a reader's module is loaded when a dataset is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import StoreError
from storage.names import fold

if TYPE_CHECKING:
    from tasks.readers.base import DatasetReader


@dataclass(frozen=True)
class ReaderSpec:
    """A reader's class as "module:Class", what it reads in words, and the options it takes."""

    implementation: str
    reads: str
    options: tuple[str, ...] = ()


READERS = {
    "csv": ReaderSpec(
        "tasks.readers.csv_table:CsvTable",
        "a .csv or .tsv file of sentences and labels",
        options=("text_column", "label_column"),
    ),
    "numpy": ReaderSpec("tasks.readers.numpy_arrays:NumpyArrays", "an .npz file of images and labels"),
    "image_folder": ReaderSpec(
        "tasks.readers.image_folder:ImageFolder", "a folder with one sub-folder of images per class"
    ),
}


def open_reader(reader: str, path: str, options: Mapping[str, str]) -> DatasetReader:
    """The reader called `reader`, in any spelling, on the dataset at `path`.

    Raises StoreError for an unknown reader or option and for a path that does not exist.
    """
    names = {fold(name): name for name in READERS}
    if fold(reader) not in names:
        raise StoreError(
            f"there is no reader {reader!r}",
            subject=reader,
            allowed=[f"{name} ({spec.reads})" for name, spec in READERS.items()],
            fix="leave the reader out to have it guessed from the path",
        )
    name = names[fold(reader)]
    spec = READERS[name]
    known = {fold(option): option for option in spec.options}
    for option in options:
        if fold(option) not in known:
            raise StoreError(
                f"the {name} reader has no option {option!r}",
                subject=option,
                allowed=spec.options,
                fix=f"leave out {option}",
            )
    _check_exists(path)
    module, _, implementation = spec.implementation.partition(":")
    arguments = {known[fold(option)]: value for option, value in options.items()}
    opened: DatasetReader = getattr(import_module(module), implementation)(path, **arguments)
    return opened


def guess_reader(path: str) -> str:
    """The name of the reader for the dataset at `path`, from its extension or its sub-folders.

    Raises StoreError that says what is recognised.
    """
    _check_exists(path)
    dataset = Path(path)
    if dataset.is_dir() and any(child.is_dir() and not child.name.startswith(".") for child in dataset.iterdir()):
        return "image_folder"
    by_suffix = {".csv": "csv", ".tsv": "csv", ".npz": "numpy"}
    if dataset.is_file() and dataset.suffix.lower() in by_suffix:
        return by_suffix[dataset.suffix.lower()]
    raise StoreError(
        f"no reader recognises {path}",
        subject=path,
        allowed=[spec.reads for spec in READERS.values()],
        fix="name the reader, or bring the data into one of the allowed forms",
    )


def _check_exists(path: str) -> None:
    if not Path(path).exists():
        raise StoreError(f"there is no file or folder {path}", subject=path, fix="check the path")
