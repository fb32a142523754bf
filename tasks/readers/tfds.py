"""Directories that TensorFlow Datasets has prepared; needs the package tensorflow-datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from storage.errors import StoreError
from tasks.readers.splits import canonical
from tasks.readers.tables import Batch, Table


def open_sets(path: str) -> dict[str, Table]:
    """The table of every split of a prepared directory, the one with `features.json`."""
    if find_spec("tensorflow_datasets") is None:
        raise StoreError(
            f"{path} was prepared by TensorFlow Datasets, which is not installed",
            subject=path,
            fix="pip install tensorflow-datasets, or bring the data into another form",
        )
    import tensorflow_datasets

    try:
        builder = tensorflow_datasets.builder_from_directory(path)
    # The library raises much: of its metadata, of the file system, of TensorFlow.
    except Exception as error:
        raise StoreError(
            f"{path} is not a directory that TensorFlow Datasets prepared: {error}",
            subject=path,
            fix="give the directory of one version, the one that holds features.json",
        ) from error
    return {canonical(str(split)): PreparedTable(path, builder, str(split)) for split in builder.info.splits}


class PreparedTable:
    """One split of a builder, in the order of its files; features within features are left out."""

    def __init__(self, path: str, builder: Any, split: str) -> None:
        self._path = path
        self._builder = builder
        self._split = split

    def files(self) -> list[str]:
        return sorted(str(file) for file in Path(self._path).iterdir() if file.is_file())

    def columns(self) -> Sequence[str]:
        return [name for name in self._features if not hasattr(self._features[name], "keys")]

    def class_names(self) -> Mapping[str, Sequence[str]]:
        # The items of a sequence have the feature's class names.
        features = {name: getattr(self._features[name], "feature", self._features[name]) for name in self.columns()}
        return {name: feature.names for name, feature in features.items() if getattr(feature, "names", None)}

    def batches(self, columns: Sequence[str], size: int) -> Iterator[Batch]:
        import tensorflow_datasets

        examples = iter(tensorflow_datasets.as_numpy(self._builder.as_dataset(split=self._split, shuffle_files=False)))
        first, place = 0, f"{self._path}, {self._split}, row "
        while batch := list(islice(examples, size)):
            cells = {name: [_cell(example[name]) for example in batch] for name in columns}
            yield Batch(place, range(first, first + len(batch)), cells)
            first += len(batch)

    @cached_property
    def _features(self) -> Mapping[str, Any]:
        return dict(self._builder.info.features.items())


def _cell(value: Any) -> Any:
    """Text for bytes, and Python's own numbers and lists for arrays of less than two dimensions."""
    if getattr(value, "ndim", 0) > 1:
        return value
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, list):
        return [_cell(item) for item in plain]
    return plain.decode(errors="surrogateescape") if isinstance(plain, bytes) else plain
