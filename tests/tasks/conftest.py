"""A home whose catalog holds the pool."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.registration import register_dataset, register_model
from storage.catalog import Catalog
from storage.database import Database
from storage.settings import current_settings


@pytest.fixture
def catalog(home: Path, pool: object) -> Catalog:
    catalog = Catalog(Database(current_settings()))
    for name, path in pool.models.items():  # type: ignore[attr-defined]
        register_model(catalog, name, str(path))
    for name, path in pool.datasets.items():  # type: ignore[attr-defined]
        register_dataset(catalog, name, str(path))
    return catalog
