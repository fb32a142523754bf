"""Builds the playground: trained models in the hubs' own formats and target datasets, without any hub.

A playground directory holds `models/<name>`, `datasets/<name>` and, for each of them, a record of what it
was made from. Pieces move into place complete, so that a build killed at any moment resumes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from storage.errors import StoreError
from storage.in_place import put_in_place
from tasks.playground.sizes import SIZES, Modality, ModelSpec, Reader, Size, Source, Spec
from tasks.playground.targets import split_path
from tasks.playground.workers import make_pieces

VERSION = 1  # raise it when equal specs come to give other content, and every playground is made anew

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PlaygroundModel:
    """A saved model. `upstream_accuracy` is the fraction right on held-out rows of its own upstream task."""

    name: str
    path: Path
    source: Source
    modality: Modality
    upstream_dataset: str | None
    upstream_accuracy: float | None
    tags: tuple[str, ...]


@dataclass(frozen=True)
class PlaygroundDataset:
    """One split of a target dataset, `<target>-train` or `<target>-test`."""

    name: str
    path: Path
    reader: Reader


@dataclass(frozen=True)
class Manifest:
    """All there is in a finished playground, in the order of its specs."""

    models: tuple[PlaygroundModel, ...]
    datasets: tuple[PlaygroundDataset, ...]


def build(directory: Path, size: Size = "small", seed: int = 0, progress: Progress | None = None) -> Manifest:
    """The playground of a size in `directory`: makes what is missing or made otherwise, keeps the rest.

    Equal size and seed give equal content, byte by byte on one machine, but for the `fingerprint.pb` of
    SavedModels. `progress(name, done, total)` is called after each piece made. A second build of the same
    directory waits for the first. Raises StoreError when the directory cannot be written, and ShiftError
    when a piece cannot be made.
    """
    return build_specs(directory, SIZES[size], seed, progress)


def build_specs(directory: Path, specs: Sequence[Spec], seed: int = 0, progress: Progress | None = None) -> Manifest:
    """As `build`, of these models and targets; no two share a name."""
    directory = directory.resolve()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        held = FileLock(directory / "building.lock").acquire()
    except OSError as error:
        raise StoreError(
            f"{directory} cannot hold a playground: {error.strerror}",
            subject=str(directory),
            fix="name a directory that can be made and written to",
        ) from error
    with held:
        missing = [spec for spec in specs if _read_record(directory, spec, seed) is None]
        if missing:
            unfinished = directory / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            done = len(specs) - len(missing)
            with closing(make_pieces(missing, unfinished, seed)) as pieces:
                for spec, accuracy in pieces:
                    _publish(directory, spec, seed, accuracy, unfinished / spec.name)
                    done += 1
                    if progress is not None:
                        progress(spec.name, done, len(specs))
            unfinished.rmdir()
        return _manifest(directory, specs, seed)


def _origin(spec: Spec, seed: int) -> dict[str, Any]:
    return {"version": VERSION, "seed": seed, "spec": asdict(spec)}


def _piece_path(directory: Path, spec: Spec) -> Path:
    return directory / ("models" if isinstance(spec, ModelSpec) else "datasets") / spec.name


def _record_path(directory: Path, spec: Spec) -> Path:
    return directory / "records" / f"{spec.name}.json"


def _read_record(directory: Path, spec: Spec, seed: int) -> dict[str, Any] | None:
    """The record of a finished piece of this origin; None when it has to be made."""
    path = _record_path(directory, spec)
    if not path.exists() or not _piece_path(directory, spec).exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record if record["origin"] == _origin(spec, seed) else None


def _publish(directory: Path, spec: Spec, seed: int, accuracy: float | None, finished: Path) -> None:
    """Put the piece in place, its record last: without a record there is no piece."""
    record, piece = _record_path(directory, spec), _piece_path(directory, spec)
    piece.parent.mkdir(exist_ok=True)
    record.unlink(missing_ok=True)
    if piece.exists():
        shutil.rmtree(piece)
    os.replace(finished, piece)
    content = {"origin": _origin(spec, seed), "upstream_accuracy": accuracy}
    with put_in_place(record) as written:
        written.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _manifest(directory: Path, specs: Sequence[Spec], seed: int) -> Manifest:
    models: list[PlaygroundModel] = []
    datasets: list[PlaygroundDataset] = []
    for spec in specs:
        record = _read_record(directory, spec, seed)
        assert record is not None
        path = _piece_path(directory, spec)
        if isinstance(spec, ModelSpec):
            models.append(
                PlaygroundModel(
                    name=spec.name,
                    path=path,
                    source=spec.source,
                    modality=spec.modality,
                    upstream_dataset=spec.upstream if spec.epochs else None,
                    upstream_accuracy=record["upstream_accuracy"],
                    tags=(spec.architecture, *((spec.flaw,) if spec.flaw != "none" else ())),
                )
            )
        else:
            datasets += [
                PlaygroundDataset(f"{spec.name}-{split}", split_path(path, split, spec.reader), spec.reader)
                for split in ("train", "test")
            ]
    return Manifest(tuple(models), tuple(datasets))
