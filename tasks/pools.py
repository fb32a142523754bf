"""Many models at once: a hub's listing, a tree of directories, a table of handles, a list that comes with SHiFT."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from storage.catalog import TOLD
from storage.errors import StoreError
from tasks.hub import LISTING, describe, is_gated, listed_models, not_downloaded
from tasks.registration import inspect_model
from tasks.sources import guess_source

_NAMES, _LOCATIONS, _SOURCES = ("name",), ("handle", "path"), ("source",)
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_LARGEST_CELL_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Candidate:
    """A model to be registered. `inspect` gives its catalog columns, or raises a ShiftError with the reason why not.

    `note` is something worth knowing of it.
    """

    name: str
    inspect: Callable[[], dict[str, Any]]
    note: str | None = None


def candidates(location: str, source: str | None = None) -> Iterator[Candidate]:
    """The models that a place holds: `hf://models?…`, a directory or a CSV file.

    Raises StoreError when it is none of these, cannot be read, or has no models.
    """
    if location.startswith("hf://"):
        return _at_least_one(_listed(location), location)
    path = Path(location).expanduser().absolute()
    if path.is_dir():
        return _at_least_one(_below(path, source), location)
    if path.is_file():
        return _at_least_one(_in_table(path, source), location)
    raise StoreError(
        f"there is nothing at {path}",
        subject=location,
        allowed=(f"{LISTING}?task=…&limit=…", "a directory of models", "a CSV file of handles or paths"),
    )


def starters(modality: str) -> Iterator[Candidate]:
    """Well-known models of a hub; needs no network. What is not told of them is learnt when they are downloaded."""
    listed = json.loads(files("tasks").joinpath("starters", f"{modality}.json").read_text(encoding="utf-8"))
    for entry in listed:
        handle = entry.pop("id")
        yield Candidate(handle, partial(dict, {"modality": modality, **entry, **not_downloaded(handle, None)}))


def _at_least_one(found: Iterator[Candidate], location: str) -> Iterator[Candidate]:
    first = next(found, None)
    if first is None:
        raise StoreError(f"there are no models in {location}", subject=location, fix="check the place or the filters")
    yield first
    yield from found


def _listed(url: str) -> Iterator[Candidate]:
    for info in listed_models(url):
        note = "gated: ask for access on its page and set HF_TOKEN" if is_gated(info) else None
        yield Candidate(info.id, partial(describe, info), note=note)


def _below(root: Path, source: str | None) -> Iterator[Candidate]:
    """The models below a directory, by their paths from there; there are none inside of one another."""
    for path in sorted(entry for entry in root.iterdir() if not entry.name.startswith(".")):
        if _is_model(path):
            name = path.name if path.is_dir() else path.stem
            yield Candidate(name, partial(inspect_model, str(path), source))
        elif path.is_dir():
            for inner in _below(path, source):
                yield Candidate(f"{path.name}/{inner.name}", inner.inspect)


def _is_model(path: Path) -> bool:
    try:
        guess_source(path)
    except StoreError:
        return False
    return True


def _in_table(path: Path, source: str | None) -> Iterator[Candidate]:
    csv.field_size_limit(_LARGEST_CELL_CHARACTERS)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            _check_header(path, rows.fieldnames or [])
            for row in rows:
                yield _candidate({key: (value or "").strip() for key, value in row.items() if key}, path, source)
    except (OSError, ValueError, csv.Error) as error:
        raise StoreError(f"{path} cannot be read as CSV: {error}", subject=str(path), fix="save it as UTF-8") from error


def _check_header(path: Path, header: Sequence[str]) -> None:
    allowed = (*_NAMES, *_LOCATIONS, *_SOURCES, *(column for column in TOLD if column != "trusted"))
    for column in header:
        if column not in allowed:
            fix = "trust is given model by model, with 'shiftql models add … --trust'" if column == "trusted" else None
            raise StoreError(f"{path} has a column {column!r}", subject=column, allowed=allowed, fix=fix)
    if not set(_LOCATIONS) & set(header):
        raise StoreError(f"{path} has neither a column handle nor a column path", subject=str(path))


def _candidate(row: Mapping[str, str], table: Path, source: str | None) -> Candidate:
    handle, path = row.get("handle"), row.get("path")
    location = handle or (path and str(table.parent / Path(path).expanduser()))
    name = row.get("name") or handle or Path(path or "").name

    def inspect() -> dict[str, Any]:
        if not location:
            raise StoreError("its row has neither a handle nor a path", subject=name)
        told = {column: _value(column, row[column]) for column in TOLD if row.get(column)}
        return {**inspect_model(location, row.get("source") or source), **told}

    return Candidate(name, inspect)


def _value(column: str, written: str) -> Any:
    """A cell as a value of the column's type. Raises StoreError."""
    if TOLD[column] is str:
        return written
    try:
        return float(written) if TOLD[column] is float else _TRUTHS[written.lower()]
    except (ValueError, KeyError):
        kind = "a number" if TOLD[column] is float else "true or false"
        raise StoreError(f"{column} is {written!r}, and must be {kind}", subject=column) from None
