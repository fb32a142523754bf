"""A migrated database in a home of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.database import Database
from storage.settings import current_settings


@pytest.fixture
def database(home: Path) -> Database:
    return Database(current_settings())
