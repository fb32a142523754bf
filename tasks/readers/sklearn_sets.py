"""The data sets that ship with scikit-learn, as `sklearn:<name>`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from storage.errors import StoreError
from storage.locations import SCIKIT_LEARN
from tasks.readers.splits import WHOLE
from tasks.readers.tables import Batch, Table

NAMES = ("breast_cancer", "diabetes", "digits", "iris", "wine")
# The digits' grey values are 0 to 16.
_DIGITS_WHITE = 16


def open_sets(path: str) -> dict[str, Table]:
    """The one table of a set. Raises StoreError for a name that is none."""
    name = path.removeprefix(SCIKIT_LEARN)
    if name not in NAMES:
        raise StoreError(
            f"scikit-learn ships no data set {name!r} that is read",
            subject=name,
            allowed=[SCIKIT_LEARN + each for each in NAMES],
            fix="name one of these",
        )
    return {WHOLE: BundledSet(name)}


class BundledSet(Table):
    """Digits as 8 × 8 images, the others as vectors; classes by name, and the progress of diabetes as a number."""

    def __init__(self, name: str) -> None:
        self._name = name

    def files(self) -> list[str]:
        return []

    def columns(self) -> Sequence[str]:
        return list(self._cells)

    def batches(self, columns: Sequence[str], size: int) -> Iterator[Batch]:
        cells = {name: self._cells[name] for name in columns}
        yield from Batch(f"{SCIKIT_LEARN}{self._name}, row ", range(len(self._cells["target"])), cells).parts(size)

    @cached_property
    def _cells(self) -> Mapping[str, Sequence[Any]]:
        from sklearn import datasets

        loaded = getattr(datasets, f"load_{self._name}")()
        names = getattr(loaded, "target_names", None)
        target = loaded.target.tolist() if names is None else np.asarray(names)[loaded.target].astype(str).tolist()
        if self._name == "digits":
            return {"image": list(np.rint(loaded.images * (255 / _DIGITS_WHITE)).astype(np.uint8)), "target": target}
        return {"features": list(loaded.data), "target": target}
