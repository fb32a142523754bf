from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from storage.settings import current_settings
from tasks.eviction import make_room
from tasks.hub import download, find_snapshot
from tests.hub import Hub


def test_room_is_made_among_what_was_downloaded(hub: Hub, pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {}
    for number, name in enumerate(("bert", "roberta", "vit")):
        hub.add(f"me/{name}", pool.models[name])
        snapshot = find_snapshot(f"me/{name}", None)
        paths[name] = download(snapshot, lambda _: None)
        for blob in (paths[name].parent.parent / "blobs").iterdir():
            os.utime(blob, (number, number))
    assert make_room(0, set()) == []
    size = sum(file.stat().st_size for file in current_settings().models.rglob("blobs/*"))
    monkeypatch.setenv("SHIFT_MODELS_LIMIT", str(size))
    assert make_room(1, {("me/bert", hub.repositories["me/bert"].commit)}) == ["me/roberta"]
    assert [name for name, path in paths.items() if path.is_dir()] == ["bert", "vit"]


def test_there_is_room_where_nothing_was_downloaded(home: Path) -> None:
    assert make_room(10**15, set()) == []
