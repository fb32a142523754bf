from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage.locations import divide, exists, full_name, is_remote


@pytest.mark.parametrize(
    ("location", "path", "split"),
    [
        ("photos", "photos", None),
        ("./photos#train", "./photos", "train"),
        ("data.csv#[:80%]", "data.csv", "[:80%]"),
        ("sklearn:iris#[50:]", "sklearn:iris", "[50:]"),
        ("hf://owner/name#test", "hf://owner/name", "test"),
    ],
)
def test_a_split_stands_behind_the_last_mark(location: str, path: str, split: str | None) -> None:
    assert divide(location) == (path, split)
    full = path if is_remote(path) else os.path.abspath(path)
    assert full_name(location) == (full if split is None else f"{full}#{split}")
    assert full_name(full_name(location)) == full_name(location)


def test_a_mark_in_the_name_of_a_file_is_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "data#1.csv"
    path.write_text("")
    assert divide(str(path)) == (str(path), None)
    assert divide(f"{path}#train") == (str(path), "train")


def test_what_lies_somewhere_exists(tmp_path: Path) -> None:
    assert exists(f"{tmp_path}#train")
    assert exists("sklearn:iris")
    assert not exists(str(tmp_path / "missing"))
