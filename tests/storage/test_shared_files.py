from __future__ import annotations

import logging
from pathlib import Path
from uuid import uuid4

import pytest

from storage.errors import StoreError
from storage.settings import current_settings
from storage.shared_files import SharedFiles
from tests.s3 import CREDENTIALS, Server


@pytest.fixture(params=["file", "memory", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> SharedFiles:
    if request.param == "s3":
        return SharedFiles(request.getfixturevalue("s3_url"))
    return SharedFiles({"file": f"file://{tmp_path / 'there'}", "memory": f"memory://{uuid4().hex}"}[request.param])


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").write_bytes(b"content")
    return tmp_path / "here"


def test_what_was_put_is_there_until_it_is_deleted(files: SharedFiles, here: Path, tmp_path: Path) -> None:
    assert not files.has("some/file")
    files.put(here, "some/file")
    assert files.has("some/file")
    assert not files.has("some")
    assert (files.names("some"), files.names("")) == ({"file"}, {"some"})
    assert files.fetch("some/file", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == b"content"
    files.delete("some/file")
    files.delete("some/file")
    assert not files.has("some/file")
    assert files.names("some") == set()


def test_what_is_not_there_is_not_fetched(files: SharedFiles, tmp_path: Path) -> None:
    assert not files.fetch("some/file", tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
    assert files.names("nowhere") == set()


def test_every_transfer_to_or_from_an_object_store_is_one_request(
    s3_server: Server, s3_url: str, here: Path, tmp_path: Path
) -> None:
    files = SharedFiles(s3_url)
    s3_server.requests.clear()
    files.put(here, "some/file")
    files.fetch("some/file", tmp_path / "fetched")
    files.names("some")
    files.has("some/file")
    files.delete("some/file")
    assert [request.split()[0] for request in s3_server.requests] == ["PUT", "GET", "GET", "HEAD", "DELETE"]


def test_nothing_is_connected_to_before_it_is_asked_for() -> None:
    SharedFiles("nowhere://bucket")


def test_a_bucket_that_is_not_there_is_told(s3_url: str, here: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        SharedFiles(f"s3://bucket-{uuid4().hex}/team").put(here, "some/file")


@pytest.mark.parametrize("variables", [CREDENTIALS, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}])
def test_no_credential_stands_in_an_error_or_a_log(
    s3_url: str,
    variables: dict[str, str],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from s3fs import S3FileSystem

    for name, value in variables.items():
        if name in CREDENTIALS:
            monkeypatch.delenv(name)
            monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/no/such/file")
        else:
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    S3FileSystem.clear_instance_cache()
    try:
        with caplog.at_level(logging.INFO), pytest.raises(StoreError, match="the shared store does not work") as caught:
            SharedFiles(s3_url).put(here, "some/file")
    finally:
        S3FileSystem.clear_instance_cache()
    for said in (str(caught.value), caught.value.fix or "", caplog.text):
        assert not any(secret in said for secret in CREDENTIALS.values())


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/team", "sftp://me:secret@host/team"])
def test_a_password_in_the_url_is_refused_and_not_repeated(
    home: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIFT_STORE_URL", url)
    with pytest.raises(StoreError, match="holds a password") as caught:
        current_settings()
    assert "secret" not in str(caught.value)
    assert "AWS_ACCESS_KEY_ID" in (caught.value.fix or "")


def test_a_url_may_name_a_user_or_a_container(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFT_STORE_URL", "abfs://container@account.dfs.core.windows.net/team")
    assert current_settings().store_url == "abfs://container@account.dfs.core.windows.net/team"


def test_the_package_that_is_missing_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError) as caught:
        SharedFiles("gs://bucket/team").put(here, "some/file")
    assert caught.value.fix == "pip install gcsfs"
