"""Workers are tested on the Prefect server that homes have, not on Prefect's own for tests: several write at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

from flows.server import ensure_server, stop_server
from storage.settings import current_settings
from tests.flows.conftest import here, server

_LAST_WORDS_SECONDS = 30.0

__all__ = ["here", "own_server", "server", "server_of_a_home"]


@pytest.fixture(scope="module")
def server_of_a_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the Prefect server of some home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIFT_HOME", str(tmp_path_factory.mktemp("server-home")))
        settings = current_settings()
        yield ensure_server(settings)[0].api_url
        # What is still to be told to this server would be waited for, for ever, when the other one ends.
        EventsWorker.drain_all(_LAST_WORDS_SECONDS)
        APILogWorker.drain_all(_LAST_WORDS_SECONDS)
        stop_server(settings)


@pytest.fixture
def own_server(here: None, server_of_a_home: str, home: Path) -> Iterator[str]:
    """The pool registered, hosts in this process, and that server to talk to; its URL."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: server_of_a_home}):
        yield server_of_a_home
