"""Recorded fine-tuning results: tables that strategies are replayed on.

A row is one fine-tuning of a model on a dataset, or with a column `epoch` one epoch of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import BindingError, StoreError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

REQUIRED = ("dataset", "model", "val_accuracy", "test_accuracy")
_KEY = ["dataset", "model", "epoch"]
# What says how a row came about, and is no property of its model.
_OF_A_RUN = {*REQUIRED, "epoch", "elapsed_s", "lr", "batch_size", "seed"}


@dataclass(frozen=True, eq=False)
class Records:
    """A table as arrays (models, datasets), NaN where nothing was recorded.

    `validation` and `seconds` are by epoch, one where the table tells none; `test` is after the last. Seconds are 1
    each where the table has none: costs then count fine-tunings, or epochs.
    """

    name: str
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    validation: tuple[np.ndarray, ...]
    test: np.ndarray
    seconds: tuple[np.ndarray, ...]
    has_epochs: bool
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def is_complete(self) -> np.ndarray:
        """Of each model and dataset, whether its test and the validation after every epoch are recorded."""
        import numpy as np

        return np.asarray(~np.isnan([*self.validation, self.test]).any(axis=0))


def load_records(path: Path) -> Records:
    """Read a table of `dataset,model,val_accuracy,test_accuracy` and optionally `elapsed_s`, `epoch` and others.

    Of several runs of a model on a dataset the best by validation stands for all, at the cost of all. Columns that are
    the same in every row of a model are its metadata. Raises StoreError when the file cannot be read, BindingError when
    it is no such table.
    """
    import numpy as np
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(f"{path} cannot be read: {reason}", subject=str(path), fix="name a CSV file") from error
    if absent := [name for name in REQUIRED if name not in table]:
        raise BindingError(
            f"{path} has no column {', '.join(absent)}", allowed=[*REQUIRED, "elapsed_s", "epoch"], fix=_fix()
        )
    for name in ("val_accuracy", "test_accuracy", *({"elapsed_s", "epoch"} & set(table))):
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = numbers.isna() & table[name].notna()
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise BindingError(f"{path}, line {row + 2}: {name} is {table[name][row]!r}, and must be a number")
        table[name] = numbers
        if name in REQUIRED and not (beyond := np.flatnonzero((numbers < -1) | (numbers > 1))).size == 0:
            raise BindingError(
                f"{path}, line {int(beyond[0]) + 2}: {name} is {numbers[beyond[0]]:g}, and must be at most 1",
                fix="write shares, not per cent: 0.91 for 91 %",
            )
    table = table.dropna(subset=list(REQUIRED))
    if table.empty:
        raise BindingError(f"{path} has no complete row", fix=_fix())
    has_epochs = "epoch" in table
    if not has_epochs:
        table = table.assign(epoch=1)
    if "elapsed_s" not in table:
        table = table.assign(elapsed_s=1.0)
    best = table.sort_values("val_accuracy", kind="stable").groupby(_KEY, as_index=False).last()
    best["elapsed_s"] = best[_KEY].merge(table.groupby(_KEY, as_index=False)["elapsed_s"].sum())["elapsed_s"]
    models, datasets = sorted(best["model"].astype(str).unique()), sorted(best["dataset"].astype(str).unique())

    def pivoted(rows: pd.DataFrame, column: str) -> np.ndarray:
        wide = rows.pivot(index="model", columns="dataset", values=column)
        return wide.reindex(index=models, columns=datasets).to_numpy(dtype=float)

    epochs = sorted(best["epoch"].unique())
    by_epoch = [best[best["epoch"] == epoch] for epoch in epochs]
    return Records(
        path.stem,
        tuple(models),
        tuple(datasets),
        tuple(pivoted(rows, "val_accuracy") for rows in by_epoch),
        pivoted(by_epoch[-1], "test_accuracy"),
        tuple(pivoted(rows, "elapsed_s") for rows in by_epoch),
        has_epochs,
        _metadata(table),
    )


def _metadata(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """What every row of a model says alike, and says nothing of its run, by model."""
    of_models = table[["model", *(str(name) for name in table if name not in _OF_A_RUN)]]
    by_model = of_models.groupby("model")
    is_alike = (by_model.nunique(dropna=False) == 1).all()
    first = by_model.first()[[name for name, alike in is_alike.items() if alike]]
    return {str(model): dict(row) for model, row in first.iterrows()}


def _fix() -> str:
    return "a row is one fine-tuning of a model on a dataset"
