"""Flows of tests: a server, and hosts that answer from this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import tasks.host
from storage.catalog import Catalog
from tasks import embedding
from tasks.host import Host
from tasks.sources import HOSTS


@pytest.fixture
def server(prefect_server: None, catalog: Catalog, home: Path, tracking_template: Path) -> Iterator[None]:
    """The pool registered, and Prefect with nothing cached."""
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    (home / "mlflow.db").write_bytes(tracking_template.read_bytes())
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: home / "prefect-results"}):
        yield


@pytest.fixture
def here(server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts answer from this process, which has loaded everything already."""

    def call(host: Host, function: str, **arguments: Any) -> Any:
        module, _, attribute = function.partition(":")
        host.called.add(module)
        with host._lock:
            try:
                result = getattr(import_module(module), attribute)(**json.loads(json.dumps(arguments)))
            except Exception as error:
                raise tasks.host._revive(tasks.host._describe(error)) from error
        return json.loads(json.dumps(result))

    monkeypatch.setattr(Host, "start", lambda host: None)
    monkeypatch.setattr(Host, "call", call)
    # One model is open at a time in a process, and here what needs no host shares it with the others.
    for source in ("raw", "pca"):
        monkeypatch.setitem(HOSTS, source, HOSTS["huggingface"])
    monkeypatch.setattr(embedding, "_opened", None)
