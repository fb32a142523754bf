"""Telling a Prefect server that something was registered, so that standing questions are asked again."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from flows.run import is_api_configured
from flows.server import server_at
from shiftql.progress import progress
from storage.settings import current_settings

# An event has to stay small; who reads it looks the others up in the catalog.
_NAMES = 1000
# Nobody waits longer than this for a server, and one that was away is left alone for a while.
_SECONDS = 1.0
_LEFT_ALONE_SECONDS = 60.0

_away_until = 0.0


def announce(
    kind: Literal["model", "dataset", "watch"], what: Literal["registered", "created"], names: Sequence[str]
) -> None:
    """Emit one event, `shift.model.registered` and the like, with the names, where a Prefect server is at hand.

    None is started for it, and who is away for longer than a second is not told: a note says so.
    """
    global _away_until
    api_url = _api_url()
    if not names or api_url is None or time.monotonic() < _away_until:
        return
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": f"shift.{kind}.{what}",
        "resource": {"prefect.resource.id": f"shift.{kind}", "prefect.resource.name": f"{kind}s"},
        "payload": {"names": list(names[:_NAMES]), "count": len(names)},
    }
    told: list[bool] = []

    def tell() -> None:
        told.append(_post(f"{api_url}/events", [event]))

    # Looking a host's name up has no time limit of its own.
    telling = threading.Thread(target=tell, name="announcing", daemon=True)
    telling.start()
    telling.join(_SECONDS)
    if told != [True]:
        _away_until = time.monotonic() + _LEFT_ALONE_SECONDS
        progress.get().note(
            f"the Prefect server at {api_url} was not told of it; standing questions are asked again every night, "
            "and by 'shiftql watches refresh'"
        )


def _api_url() -> str | None:
    """The Prefect API that is configured, or that of the home's server where it is up."""
    if is_api_configured():
        if url := os.environ.get("PREFECT_API_URL"):
            return url.rstrip("/")
        from prefect.settings import PREFECT_API_URL

        return PREFECT_API_URL.value()
    server = server_at(current_settings())
    return None if server is None else server.api_url


def _post(url: str, body: Any) -> bool:
    """Whether a server took it."""
    import httpx

    try:
        # Loading certificates takes longer than all else here, and a server that speaks plain HTTP needs none.
        is_secure = url.startswith("https:")
        verify: Any = is_secure and (os.environ.get("PREFECT_API_SSL_CERT_FILE") or True)
        headers = _authorization()
        return httpx.post(
            url, json=body, headers=headers, timeout=_SECONDS, trust_env=is_secure, verify=verify
        ).is_success
    except (httpx.HTTPError, httpx.InvalidURL, OSError):
        return False


def _authorization() -> dict[str, str]:
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if secret := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}
    return {}
