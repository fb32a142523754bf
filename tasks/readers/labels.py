"""From the cells of a record to its label, and from labels to the arrays of storage.manifests."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from tasks.readers.roles import Roles
from tasks.readers.rows import number_of, shown, words_of
from tasks.readers.tables import Unreadable

# A class, the classes a row has, the classes of its words, or a number.
Label: TypeAlias = str | tuple[str, ...] | float
LabelOf: TypeAlias = Callable[[Sequence[Any]], Label]

_SEPARATORS = re.compile(r"[;,|]")
_WHOLE = re.compile(r"[+-]?\d{1,9}")
_YES = {"1", "1.0", "true", "yes"}
_NO = {"0", "0.0", "false", "no"}


def label_reader(roles: Roles, class_names: Mapping[str, Sequence[str]]) -> LabelOf:
    """What makes labels of this dataset's cells; it raises Unreadable."""
    column = roles.targets[0]
    names = class_names.get(column, ())
    if roles.task == "regression":
        return lambda cells: number_of(cells[0], column)
    if roles.task == "token_classification":
        return lambda cells: tuple(_class(tag, column, names) for tag in _items(cells[0], column))
    if roles.task == "multilabel_classification":
        if len(roles.targets) > 1:
            return lambda cells: _true_ones(cells, roles.targets)
        return lambda cells: _classes(cells[0], column, names)
    known: dict[tuple[type, Any], str] = {}

    def read(cells: Sequence[Any]) -> str:
        cell = cells[0]
        try:
            return known[cell.__class__, cell]
        except KeyError:
            return known.setdefault((cell.__class__, cell), _class(cell, column, names))
        except TypeError:
            raise Unreadable(f"is {shown(cell)}, and no label", column) from None

    return read


def classes_in(label: Label) -> tuple[str, ...]:
    """The classes that occur in a label."""
    return (label,) if isinstance(label, str) else label if isinstance(label, tuple) else ()


def encode(labels: Sequence[Label], roles: Roles, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels, and for words how many each row has, as storage.manifests describes them."""
    if roles.task == "regression":
        return np.array(labels, dtype=np.float64), None
    numbers = {name: number for number, name in enumerate(classes)}
    if roles.task == "multilabel_classification":
        encoded = np.zeros((len(labels), len(classes)), dtype=bool)
        for row, label in enumerate(labels):
            encoded[row, [numbers[name] for name in classes_in(label)]] = True
        return encoded, None
    flat = [numbers[name] for label in labels for name in classes_in(label)]
    if roles.task == "token_classification":
        return np.array(flat, dtype=np.int64), np.array([len(classes_in(label)) for label in labels], dtype=np.int64)
    return np.array(flat, dtype=np.int64), None


def _class(cell: Any, column: str, names: Sequence[str]) -> str:
    if isinstance(cell, bytes):
        cell = cell.decode(errors="replace")
    if isinstance(cell, str):
        cell = cell.strip()
        if names and cell not in names and _WHOLE.fullmatch(cell):
            cell = int(cell)
    if cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell)):
        raise Unreadable("is empty", column)
    if isinstance(cell, str):
        if not cell.isascii() and any("\ud800" <= character <= "\udfff" for character in cell):
            raise Unreadable("is not UTF-8 text", column)
        return cell
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, int) and names:
        if not 0 <= cell < len(names):
            raise Unreadable(f"is {cell}, and there are names for 0 to {len(names) - 1}", column)
        return names[cell]
    if not isinstance(cell, int | float):
        raise Unreadable(f"is {shown(cell)}, and no label", column)
    return str(cell)


def _items(cell: Any, column: str) -> list[Any]:
    if not isinstance(cell, str | list | tuple | np.ndarray):
        raise Unreadable("is empty" if cell is None else f"is {shown(cell)}, and no list of labels", column)
    return words_of(cell.tolist() if isinstance(cell, np.ndarray) else cell)


def _classes(cell: Any, column: str, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(cell, np.ndarray) and cell.dtype.kind in "bui" and cell.ndim == 1:
        if cell.max(initial=0) > 1 or cell.min(initial=0) < 0:
            raise Unreadable("holds other numbers than 0 and 1", column)
        if names and len(names) != len(cell):
            raise Unreadable(f"has {len(cell)} columns, and there are {len(names)} names of classes", column)
        return tuple(names[number] if names else str(number) for number in np.flatnonzero(cell).tolist())
    if isinstance(cell, str):
        cell = [each for each in _SEPARATORS.split(cell) if each.strip()]
    items = _items(cell, column)
    return tuple(dict.fromkeys(_class(item, column, names) for item in items))


def _true_ones(cells: Sequence[Any], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(column for cell, column in zip(cells, columns, strict=True) if _is_true(cell, column))


def _is_true(cell: Any, column: str) -> bool:
    written = str(cell).strip().lower()
    if written in _YES:
        return True
    if written in _NO:
        return False
    raise Unreadable("is empty" if cell is None or not written else f"is {shown(cell)}, and neither 0 nor 1", column)
