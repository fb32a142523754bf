"""Workers are tested on the Prefect server that homes have, not on Prefect's own for tests: several write at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.server import ensure_server, stop_server
from storage.settings import current_settings
from tests.flows.conftest import here, server

__all__ = ["here", "own_server", "server", "server_of_a_home"]


@pytest.fixture(scope="module")
def server_of_a_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the Prefect server of some home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIFT_HOME", str(tmp_path_factory.mktemp("server-home")))
        settings = current_settings()
        yield ensure_server(settings)[0].api_url
        stop_server(settings)


@pytest.fixture
def own_server(here: None, server_of_a_home: str, home: Path) -> Iterator[str]:
    """The pool registered, hosts in this process, and that server to talk to; its URL."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: server_of_a_home}):
        yield server_of_a_home
