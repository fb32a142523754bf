"""A migrated database in a home of its own, of every kind."""

from __future__ import annotations

import pytest

from storage.database import Database
from storage.settings import current_settings


@pytest.fixture
def database(database_url: str) -> Database:
    return Database(current_settings())
