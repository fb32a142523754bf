"""Telling a Prefect server that something was registered, so that standing questions are asked again."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from flows.server import api_at_hand
from shiftql.progress import progress
from shiftql.remote import authorization
from storage.settings import current_settings

if TYPE_CHECKING:
    import httpx

# An event has to stay small; who reads it looks the others up in the catalog.
_NAMES = 1000
# What is registered so soon after an event is found by who that event starts: flows.reevaluate waits for longer.
_SHARED_SECONDS = 1.5
# Nobody waits longer than this for a server, and who did once waits no more: it is told in the background.
_SECONDS = 1.0
_POST_SECONDS = 30.0
# A server that refuses to be told is left alone for a while.
_LEFT_ALONE_SECONDS = 60.0

_left_alone_until = 0.0
_is_slow = False


def announce(
    kind: Literal["model", "dataset", "watch"], what: Literal["registered", "created"], names: Sequence[str]
) -> None:
    """Emit one event, `shift.model.registered` and the like, with the names, where a Prefect server is at hand.

    None is started for it, it is waited for a second at most, and nothing fails for the want of it: a note says that
    it was not told. What follows an event of its kind at once has none of its own.
    """
    global _is_slow, _left_alone_until
    settings = current_settings()
    api_url = api_at_hand(settings)
    latest = settings.home / f"announced-{kind}"
    if not names or api_url is None or time.monotonic() < _left_alone_until or _age(latest) < _SHARED_SECONDS:
        return
    latest.touch()
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": f"shift.{kind}.{what}",
        "resource": {"prefect.resource.id": f"shift.{kind}", "prefect.resource.name": f"{kind}s"},
        "payload": {"names": list(names[:_NAMES]), "count": len(names)},
    }
    told: list[bool] = []
    client = _open_client(api_url)

    def tell() -> None:
        told.append(_post(client, f"{api_url}/events", [event]))

    # Looking a host's name up has no time limit of its own.
    telling = threading.Thread(target=tell, name="announcing", daemon=True)
    telling.start()
    if _is_slow:
        return
    telling.join(_SECONDS)
    _is_slow = not told
    if told != [True]:
        latest.unlink(missing_ok=True)
        was = "does not take it" if told else "has not answered within a second"
        progress.get().note(
            f"the Prefect server at {api_url} {was}: standing questions are asked again every night, "
            "and by 'shiftql watches refresh'"
        )
    if told == [False]:
        _left_alone_until = time.monotonic() + _LEFT_ALONE_SECONDS


def _age(file: Path) -> float:
    """The seconds since a file was touched; infinite where it never was, or the clock was set back since."""
    try:
        age = time.time() - file.stat().st_mtime
    except OSError:
        return math.inf
    return age if age >= 0 else math.inf


def _open_client(api_url: str) -> httpx.Client:
    """What speaks to a server. Loading certificates takes longer than all else, and plain HTTP needs none."""
    import httpx

    is_secure = api_url.startswith("https:")
    verify: Any = is_secure and (os.environ.get("PREFECT_API_SSL_CERT_FILE") or True)
    return httpx.Client(headers=_authorization(), timeout=_POST_SECONDS, trust_env=is_secure, verify=verify)


def _post(client: httpx.Client, url: str, body: Any) -> bool:
    """Whether a server took it."""
    import httpx

    try:
        with client:
            return client.post(url, json=body).is_success
    except (httpx.HTTPError, httpx.InvalidURL, OSError):
        return False


def _authorization() -> dict[str, str]:
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    return authorization()
