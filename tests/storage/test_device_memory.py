"""The memory of a device, by what the machine tells."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from storage import device_memory as module
from storage.device_memory import device_memory


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    device_memory.cache_clear()
    yield
    device_memory.cache_clear()


def test_a_machine_has_what_its_container_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GPU", tmp_path / "no GPU")
    monkeypatch.setattr(module, "_LIMIT", tmp_path / "memory.max")
    installed = device_memory()
    assert installed is not None
    assert installed > 1 << 28
    for told, bytes_ in (("max\n", installed), ("1048576\n", 1 << 20), (f"{2 * installed}\n", installed)):
        (tmp_path / "memory.max").write_text(told)
        device_memory.cache_clear()
        assert device_memory() == bytes_


@pytest.mark.parametrize(("told", "bytes_"), [("81559\n81559\n", 81559 << 20), ("", None), ("[N/A]\n", None)])
def test_a_gpu_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, bytes_: int | None) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(module, "_GPU", tmp_path / "nvidia0")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=told))
    assert device_memory() == bytes_


def test_a_gpu_that_does_not_answer_has_no_known_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(module, "_GPU", tmp_path / "nvidia0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device_memory() is None
