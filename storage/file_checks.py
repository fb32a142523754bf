"""The files of the home: segments of features, manifests of datasets, and what killed processes left behind."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sqlmodel import select

from storage.catalog import DatasetRecord
from storage.database import Database
from storage.findings import Finding, finding
from storage.manifests import has_manifest, load_manifest
from storage.results import EvaluationRecord
from storage.settings import Settings
from storage.stored_segments import segments_in

# Younger files may be about to be moved into place, or to be needed by a query that has only been planned.
_SETTLED_SECONDS = 600.0
_DELETED = "deleted"


def check_features(settings: Settings) -> Iterator[Finding]:
    """Segments that are not what they were written as; reads all of them."""
    settled = time.time() - _SETTLED_SECONDS
    halves, damaged = [], []
    for segment in segments_in(settings.features):
        if segment.has_both_files:
            damaged += [] if segment.is_intact() else [segment]
        elif segment.last_used < settled and not (settings.store_url and segment.rows.exists()):
            # Vectors of a shared store come when they are read.
            halves.append(segment)
    for problem, segments in (
        ("segments of features whose checksum is wrong", damaged),
        ("segments of features of which a file is missing", halves),
    ):
        files = [file for segment in segments for file in (segment.rows, segment.vectors)]
        names = [f"{segment.key}/{segment.name}" for segment in segments]
        yield from finding(problem, names, "deleted, and embedded again when a query needs them", _deleting(files))


def check_manifests(settings: Settings, database: Database) -> Iterator[Finding]:
    """Manifests that cannot be read or are another's, and those that nothing refers to."""
    settled = time.time() - _SETTLED_SECONDS
    needed = _needed(database)
    load_manifest.cache_clear()
    damaged, unneeded = [], []
    for file in sorted(settings.manifests.glob("*.npz")):
        if not has_manifest(file.parent, file.stem):
            damaged.append(file)
        elif file.stem not in needed and file.stat().st_mtime < settled:
            unneeded.append(file)
    yield from finding("damaged manifests", map(_name, damaged), _DELETED, _deleting(damaged))
    yield from finding(
        "manifests that no dataset and no evaluation refers to", map(_name, unneeded), _DELETED, _deleting(unneeded)
    )


def check_temporary_files(settings: Settings) -> Iterator[Finding]:
    """What processes that were killed while writing left behind."""
    settled = time.time() - _SETTLED_SECONDS
    found = [
        *settings.features.glob("*/.*.tmp"),
        *settings.neighbours.glob("*/*/.*.tmp"),
        *settings.clusters.glob(".*.tmp"),
        *settings.manifests.glob(".*.tmp"),
        *settings.shared.glob("*/.*.tmp"),
        *settings.home.glob(".*.tmp"),
    ]
    left = sorted(file for file in found if file.stat().st_mtime < settled)
    names = [str(file.relative_to(settings.home)) for file in left]
    yield from finding("temporary files of processes that were killed", names, _DELETED, _deleting(left))


def _needed(database: Database) -> set[str]:
    table = EvaluationRecord
    columns = (DatasetRecord.fingerprint, table.train_fingerprint, table.test_fingerprint)
    with database.session() as session:
        return {name for column in columns for name in session.exec(select(column).distinct()) if name}


def _name(file: Path) -> str:
    return file.stem


def _deleting(files: Sequence[Path]) -> Callable[[], None]:
    def delete_all() -> None:
        for file in files:
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            else:
                file.unlink(missing_ok=True)

    return delete_all
