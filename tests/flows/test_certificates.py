"""Which certificates Prefect's clients load."""

from __future__ import annotations

import ssl

from flows.certificates import few_certificates
from storage.settings import current_settings


def test_a_server_that_speaks_plain_http_takes_one_certificate(home: object) -> None:
    (file,) = few_certificates("http://127.0.0.1:4200/api", current_settings()).values()
    context = ssl.create_default_context(cafile=file)
    assert len(context.get_ca_certs()) == 1


def test_a_server_that_is_to_be_verified_takes_all(home: object) -> None:
    assert few_certificates("https://prefect.example.org/api", current_settings()) == {}
    assert few_certificates(None, current_settings()) == {}
