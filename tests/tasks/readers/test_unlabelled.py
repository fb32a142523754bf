"""Rows to be predicted: found without labels, whatever they lie in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.errors import StoreError
from tasks.readers.base import Pair
from tasks.readers.roles import Kind
from tasks.readers.unlabelled import Given, read_unlabelled

RED = np.full((4, 4, 3), (200, 0, 0), np.uint8)


def given(path: Path, takes: Kind) -> list[Given]:
    return [each for chunk in read_unlabelled(str(path), takes) for each in chunk]


def rows(path: Path, takes: Kind = "text") -> list[object]:
    return [each.row for each in given(path, takes)]


def file(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.csv", "text\nred\nblue\n"),
        ("data.csv", "text,label\nred,a\nblue,b\n"),
        ("data.csv", "id,whatever\n1,red\n2,blue\n"),
        ("data.csv", "label,whatever\na,red\nb,blue\n"),
        ("data.tsv", "n\ttext\n1\tred\n2\tblue\n"),
        ("data.jsonl", '{"text": "red"}\n{"text": "blue"}\n'),
        ("data.txt", "red\n\n  blue \n"),
    ],
)
def test_texts_are_found_with_labels_and_without(name: str, content: str, tmp_path: Path) -> None:
    assert rows(file(tmp_path, name, content)) == ["red", "blue"]


def test_two_columns_that_belong_together_are_pairs(tmp_path: Path) -> None:
    path = file(tmp_path, "data.csv", "premise,hypothesis\nit rains,it is wet\n")
    assert rows(path) == [Pair("it rains", "it is wet")]


def test_words_are_lists_or_what_spaces_separate(tmp_path: Path) -> None:
    assert rows(file(tmp_path, "a.jsonl", '{"tokens": ["it", "rains"]}\n'), "words") == [["it", "rains"]]
    assert rows(file(tmp_path, "b.txt", "it rains\n"), "words") == [["it", "rains"]]


def test_an_image_and_folders_of_them_are_rows_in_the_order_of_their_paths(tmp_path: Path) -> None:
    deep = "more" * 30
    for name in ("b.png", "a.png", f"{deep}/c.png", ".hidden/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(RED).save(tmp_path / name)
    found = given(tmp_path, "image")
    assert [each.shown for each in found] == [str(tmp_path / name) for name in ("a.png", "b.png", f"{deep}/c.png")]
    for each in (*found, *given(tmp_path / "a.png", "image")):
        np.testing.assert_array_equal(np.asarray(each.row), RED)


def test_images_of_a_table_are_found_beside_anything_else(tmp_path: Path) -> None:
    Image.fromarray(RED).save(tmp_path / "a.png")
    path = file(tmp_path, "data.csv", "file,note\na.png,x\n")
    (found,) = rows(path, "image")
    np.testing.assert_array_equal(np.asarray(found), RED)


def test_what_cannot_be_read_keeps_its_place_with_the_reason(tmp_path: Path) -> None:
    Image.fromarray(RED).save(tmp_path / "a.png")
    file(tmp_path, "b.png", "no image")
    good, bad = given(tmp_path, "image")
    assert good.problem is None
    assert bad.row is None
    assert str(bad.problem).startswith(f"{tmp_path / 'b.png'} is not an image")


def test_columns_that_could_all_be_meant_are_listed(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no column is known to hold the text") as caught:
        rows(file(tmp_path, "data.csv", "one,two\nred,x\nblue,y\n"))
    assert caught.value.allowed == ("one", "two")
    assert caught.value.fix == "call the column 'text'"


@pytest.mark.parametrize(("takes", "name"), [("image", "data.txt"), ("text", "a.png")])
def test_files_of_another_kind_than_the_model_takes_are_refused(takes: Kind, name: str, tmp_path: Path) -> None:
    Image.fromarray(RED).save(tmp_path / "a.png")
    file(tmp_path, "data.txt", "red\n")
    with pytest.raises(StoreError, match="the model takes"):
        rows(tmp_path / name, takes)


def test_a_file_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no rows"):
        rows(file(tmp_path, "data.txt", "\n\n"))


def test_long_texts_are_shown_cut_short(tmp_path: Path) -> None:
    (found,) = given(file(tmp_path, "data.txt", "word " * 100), "text")
    assert len(found.shown) == 80
    assert found.shown.endswith("…")
