from __future__ import annotations

import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from storage.archives import DATASETS, MODELS, Archives, copies_in, entry, forget_copy
from storage.errors import StoreError
from storage.fingerprints import fingerprint_of_model
from storage.settings import Settings, current_settings
from storage.shared_files import SharedFiles
from tests.s3 import Server


@pytest.fixture(params=["file", "s3"])
def settings(request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Settings:
    url = request.getfixturevalue("s3_url") if request.param == "s3" else f"file://{tmp_path / 'there'}"
    return replace(current_settings(), store_url=url)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "bert" / "1_Pooling").mkdir(parents=True)
    (tmp_path / "bert" / "config.json").write_text("{}")
    (tmp_path / "bert" / "1_Pooling" / "config.json").write_text('{"a": 1}')
    return tmp_path / "bert"


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def put(settings: Settings, folder: Path) -> str:
    fingerprint = fingerprint_of_model(folder, files_of(folder))
    Archives(settings, MODELS).put(fingerprint, folder.parent, files_of(folder))
    return fingerprint


def elsewhere(settings: Settings, tmp_path: Path, name: str = "elsewhere") -> Settings:
    return replace(settings, home=tmp_path / name)


def nothing(needed_bytes: int) -> None: ...


def test_what_was_put_is_copied_as_it_was_and_only_once(settings: Settings, model: Path, tmp_path: Path) -> None:
    fingerprint = put(settings, model)
    other = elsewhere(settings, tmp_path)
    asked: list[int] = []
    copy = Archives(other, MODELS).copy(fingerprint, asked.append)
    assert copy is not None
    assert copy.is_relative_to(other.home)
    found = entry(copy, "bert")
    assert {str(file.relative_to(found)): file.read_text() for file in files_of(found)} == {
        "config.json": "{}",
        "1_Pooling/config.json": '{"a": 1}',
    }
    assert entry(copy, "another name") == found
    assert Archives(other, MODELS).copy(fingerprint, asked.append) == copy
    assert len(asked) == 1
    assert [each.name for each in copies_in(other)] == [(MODELS, fingerprint)]


def test_there_is_no_copy_of_what_nobody_put_there(settings: Settings) -> None:
    assert Archives(settings, MODELS).copy("0" * 32, nothing) is None
    assert Archives(settings, MODELS).names() == set()


def test_equal_content_is_put_there_once(s3_server: Server, s3_url: str, home: Path, model: Path) -> None:
    settings = replace(current_settings(), store_url=s3_url)
    put(settings, model)
    s3_server.requests.clear()
    put(settings, model)
    assert [request.split()[0] for request in s3_server.requests] == ["HEAD"]


def test_a_file_alone_keeps_its_name(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "any.pt2"
    file.write_bytes(b"program")
    fingerprint = fingerprint_of_model(file, [file])
    Archives(settings, MODELS).put(fingerprint, file.parent, [file])
    copy = Archives(elsewhere(settings, tmp_path), MODELS).copy(fingerprint, nothing)
    assert copy is not None
    assert entry(copy, "other.pt2").name == "any.pt2"


def test_a_copy_that_was_damaged_is_fetched_again(settings: Settings, model: Path, tmp_path: Path) -> None:
    other = elsewhere(settings, tmp_path)
    fingerprint = put(settings, model)
    copy = Archives(other, MODELS).copy(fingerprint, nothing)
    assert copy is not None
    (copy / "bert" / "config.json").write_text("[]")
    again = Archives(other, MODELS).copy(fingerprint, nothing)
    assert again is not None
    assert (again / "bert" / "config.json").read_text() == "{}"
    forget_copy(other, MODELS, fingerprint)
    assert list(copies_in(other)) == []
    assert not copy.exists()


def test_machines_may_fetch_at_once(settings: Settings, model: Path, tmp_path: Path) -> None:
    fingerprint = put(settings, model)
    other = elsewhere(settings, tmp_path)
    with ThreadPoolExecutor(4) as threads:
        copies = list(threads.map(lambda _: Archives(other, MODELS).copy(fingerprint, nothing), range(8)))
    assert len(set(copies)) == 1
    assert list(other.shared.rglob("*.tmp")) == []


def member(name: str, content: bytes = b"{}", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        told = tarfile.TarInfo(name)
        told.type, told.linkname = kind, link
        told.size = len(content) if kind == tarfile.REGTYPE else 0
        archive.addfile(told, io.BytesIO(content))
    return written.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        member("../outside"),
        member("/outside"),
        member("bert/../../outside"),
        member("bert/config.json", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        member("bert/config.json", kind=tarfile.LNKTYPE, link="../../shift.db"),
        member("bert/config.json", kind=tarfile.FIFOTYPE),
        member("bert/config.json", b"other content"),
        member("bert/config.json")[:600],
        b"no archive at all",
        b"",
    ],
)
def test_an_archive_that_is_not_what_its_name_says_is_refused_and_deleted(
    settings: Settings, archive: bytes, tmp_path: Path
) -> None:
    (tmp_path / "bad.tar").write_bytes(archive)
    fingerprint = "ab" * 16
    SharedFiles(str(settings.store_url)).put(tmp_path / "bad.tar", f"{MODELS}/{fingerprint}.tar")
    other = elsewhere(settings, tmp_path)
    with pytest.raises(StoreError, match="was deleted there") as caught:
        Archives(other, MODELS).copy(fingerprint, nothing)
    assert "doctor" in (caught.value.fix or "")
    assert Archives(settings, MODELS).names() == set()
    assert not (tmp_path / "outside").exists()
    assert [file for file in files_of(other.home) if not file.name.endswith(".lock")] == []


def test_files_that_change_while_they_are_copied_are_not_put_there(
    settings: Settings, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(archive: Path, base: Path, files: list[Path]) -> None:
        archive.write_bytes(b"")
        (model / "config.json").write_text("[]")

    monkeypatch.setattr("storage.archives.pack", change)
    with pytest.raises(StoreError, match="changed while they were copied"):
        put(settings, model)
    assert Archives(settings, MODELS).names() == set()


def test_a_disk_that_refuses_is_told(
    settings: Settings, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = put(settings, model)
    other = elsewhere(settings, tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("storage.tar_files.shutil.copyfileobj", refuse)
    with pytest.raises(StoreError, match="No space left on device"):
        Archives(other, MODELS).copy(fingerprint, nothing)
    assert Archives(settings, MODELS).names() == {fingerprint}


def test_names_count_where_datasets_are_concerned(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,x\n")
    fingerprint = fingerprint_of_model(tmp_path, [tmp_path / "train.csv"])
    Archives(settings, DATASETS).put(fingerprint, tmp_path, [tmp_path / "train.csv"])
    copy = Archives(elsewhere(settings, tmp_path), DATASETS).copy(fingerprint, nothing)
    assert copy is not None
    assert os.listdir(copy) == ["train.csv"]
