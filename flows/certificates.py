"""Which certificates Prefect's clients load."""

from __future__ import annotations

from typing import Any

from storage.in_place import put_in_place
from storage.settings import Settings


def few_certificates(api_url: str | None, settings: Settings) -> dict[Any, Any]:
    """Prefect's settings to load one certificate where a server speaks plain HTTP; none where it does not.

    Each of the clients that Prefect opens for a run loads all certificates there are, which takes it 30 ms.
    """
    if not (api_url or "").startswith("http://"):
        return {}
    import certifi
    from prefect.settings import PREFECT_API_SSL_CERT_FILE

    file = settings.home / "prefect" / "certificates.pem"
    if not file.exists():
        end = "-----END CERTIFICATE-----\n"
        first, _, _ = certifi.contents().partition(end)
        file.parent.mkdir(parents=True, exist_ok=True)
        with put_in_place(file) as temporary:
            temporary.write_text(first + end)
    return {PREFECT_API_SSL_CERT_FILE: str(file)}
