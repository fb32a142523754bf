"""Holding the stores against each other, and putting right what can be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from storage.database import Database
from storage.errors import StoreError
from storage.file_checks import check_features, check_manifests, check_temporary_files
from storage.findings import Finding
from storage.result_checks import check_results, rebuild_index
from storage.settings import Settings, current_settings
from storage.tracking import reach_mlflow


def check_stores(fix: bool = False, rebuild: bool = False) -> dict[str, Any]:
    """What is wrong in the stores, as JSON: `findings`, put right with `fix`, and `restored`, the number of results
    that were brought back from MLflow alone where the index is to be rebuilt first.

    Raises StoreError when the index is to be rebuilt and MLflow is out of reach.
    """
    settings = current_settings()
    database = Database(settings)
    restored = rebuild_index(settings, database) if rebuild else 0
    found = (finding.mended() if fix else finding for finding in _findings(settings, database))
    return {"restored": restored, "findings": [finding.to_json() for finding in found]}


def _findings(settings: Settings, database: Database) -> Iterator[Finding]:
    try:
        client = reach_mlflow(settings)
    except StoreError as error:
        yield Finding(error.message, ("the record of results",), error.fix or "")
    else:
        yield from check_results(client, settings, database)
    yield from check_features(settings)
    yield from check_manifests(settings, database)
    yield from check_temporary_files(settings)
