"""Dataset readers, by name. Light to import: a reader's module is loaded when a dataset is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import StoreError
from storage.locations import HUGGING_FACE, SCIKIT_LEARN, is_remote
from storage.names import fold

if TYPE_CHECKING:
    from tasks.readers.base import DatasetReader
    from tasks.readers.splits import Split
    from tasks.readers.tables import Table


@dataclass(frozen=True)
class ReaderSpec:
    """What opens a dataset's splits as "module:function", what it reads in words, and the options only it takes.

    Files are told by `suffixes`, folders by a file called as one of `markers`, what is no file by `prefix`.
    """

    open_sets: str
    reads: str
    suffixes: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    prefix: str = ""
    options: tuple[str, ...] = ()


# Where a folder holds files of several, the first is meant.
READERS = {
    "huggingface": ReaderSpec(
        "tasks.readers.huggingface:open_sets",
        "a folder written by save_to_disk, or hf://owner/name on the Hugging Face hub",
        markers=("state.json", "dataset_dict.json"),
        prefix=HUGGING_FACE,
        options=("config",),
    ),
    "tfds": ReaderSpec(
        "tasks.readers.tfds:open_sets", "a folder prepared by TensorFlow Datasets", markers=("features.json",)
    ),
    "sklearn": ReaderSpec("tasks.readers.sklearn_sets:open_sets", "sklearn:iris and the like", prefix=SCIKIT_LEARN),
    "parquet": ReaderSpec(
        "tasks.readers.arrow_tables:open_parquet_sets", "a .parquet file, or a folder of them", (".parquet",)
    ),
    "arrow": ReaderSpec(
        "tasks.readers.arrow_tables:open_arrow_sets", "an Arrow file or stream", (".arrow", ".feather", ".ipc")
    ),
    "json_lines": ReaderSpec(
        "tasks.readers.json_lines:open_sets", "a .jsonl file with an object a line", (".jsonl", ".ndjson", ".json")
    ),
    "csv": ReaderSpec("tasks.readers.csv_table:open_sets", "a .csv or .tsv file with a header", (".csv", ".tsv")),
    "numpy": ReaderSpec("tasks.readers.numpy_arrays:open_sets", "an .npz file of features and labels", (".npz",)),
    "image_folder": ReaderSpec(
        "tasks.readers.image_folder:open_sets", "a folder with one sub-folder of images per class"
    ),
}
COLUMN_OPTIONS = (
    "text_column",
    "text_pair_column",
    "image_column",
    "tokens_column",
    "tags_column",
    "label_column",
    "label_columns",
    "task",
)
# What every reader takes.
OPTIONS = (*COLUMN_OPTIONS, "classes", "split", "max_skipped")


def open_reader(reader: str, path: str, options: Mapping[str, str]) -> DatasetReader:
    """The reader called `reader`, in any spelling, on one split of the dataset at `path`.

    Raises StoreError for an unknown reader, option or split, and for a path that does not exist.
    """
    from tasks.readers.roles import Told
    from tasks.readers.table_reader import TableReader

    name = reader_name(reader)
    given = _folded(name, options)
    split, table = open_table(name, path, options)
    told = Told(**{option: given[option] for option in COLUMN_OPTIONS if option in given})
    classes = [each.strip() for each in given["classes"].split(",")] if "classes" in given else ()
    return TableReader(name, path, table, split, told, classes, _whole_number(given.get("max_skipped")))


def open_table(reader: str, path: str, options: Mapping[str, str]) -> tuple[Split, Table]:
    """The records that a reader finds at `path`, and which of them are meant; raises what `open_reader` does."""
    from tasks.readers.splits import Split, choose, parse_split

    name = reader_name(reader)
    given = _folded(name, options)
    split = parse_split(given["split"]) if "split" in given else Split()
    return split, choose(_open_sets(name, path, given), split.name, path)


def split_names(reader: str, path: str, options: Mapping[str, str]) -> list[str]:
    """The splits of the dataset at `path`, `train` first; none where it is not divided into any."""
    name = reader_name(reader)
    return [split for split in _open_sets(name, path, _folded(name, options)) if split]


def guess_reader(path: str) -> str:
    """The name of the reader for the dataset at `path`, from its prefix, its extension or what a folder holds.

    Raises StoreError that says what is recognised.
    """
    check_exists(path)
    for name, spec in READERS.items():
        if spec.prefix and path.startswith(spec.prefix):
            return name
    dataset = Path(path)
    found = _reader_of_folder(dataset) if dataset.is_dir() else _reader_of_file(dataset)
    if found is not None:
        return found
    raise StoreError(
        f"no reader recognises {path}",
        subject=path,
        allowed=[spec.reads for spec in READERS.values()],
        fix="name the reader, or bring the data into one of the allowed forms",
    )


def reader_name(reader: str) -> str:
    """The name of a reader that is written in any spelling. Raises StoreError that lists all."""
    names = {fold(name): name for name in READERS}
    if fold(reader) not in names:
        raise StoreError(
            f"there is no reader {reader!r}",
            subject=reader,
            allowed=[f"{name} ({spec.reads})" for name, spec in READERS.items()],
            fix="leave the reader out to have it guessed from the path",
        )
    return names[fold(reader)]


def check_exists(path: str) -> None:
    """Raise StoreError where there is nothing at a path."""
    if not is_remote(path) and not Path(path).exists():
        raise StoreError(f"there is no file or folder {path}", subject=path, fix="check the path")


def _open_sets(name: str, path: str, given: Mapping[str, str]) -> dict[str, Table]:
    check_exists(path)
    spec = READERS[name]
    module, _, function = spec.open_sets.partition(":")
    own = {option: given[option] for option in spec.options if option in given}
    sets: dict[str, Table] = getattr(import_module(module), function)(path, **own)
    return sets


def _folded(name: str, options: Mapping[str, str]) -> dict[str, str]:
    known = {fold(option): option for option in (*OPTIONS, *READERS[name].options)}
    for option in options:
        if fold(option) not in known:
            raise StoreError(
                f"the {name} reader has no option {option!r}",
                subject=option,
                allowed=list(known.values()),
                fix=f"leave out {option}",
            )
    return {known[fold(option)]: value for option, value in options.items()}


def _whole_number(written: str | None) -> int | None:
    if written is None or written.isdecimal():
        return None if written is None else int(written)
    raise StoreError(
        f"max_skipped is {written!r}, and must be a whole number from 0",
        subject="max_skipped",
        fix="write for example max_skipped=100",
    )


def _reader_of_file(file: Path) -> str | None:
    return next((name for name, spec in READERS.items() if file.suffix.lower() in spec.suffixes), None)


def _reader_of_folder(folder: Path) -> str | None:
    from tasks.readers.splits import is_of_type

    for name, spec in READERS.items():
        if any((folder / marker).is_file() for marker in spec.markers):
            return name
    visible = [child for child in folder.iterdir() if not child.name.startswith(".")]
    folders = [child for child in visible if child.is_dir()]
    files = [*visible, *(file for each in folders for file in each.iterdir())]
    for name, spec in READERS.items():
        if any(is_of_type(file, spec.suffixes) and file.is_file() for file in files):
            return name
    return "image_folder" if folders else None
