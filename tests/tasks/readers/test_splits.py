from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import StoreError
from tasks.readers import guess_reader, open_reader, split_names
from tasks.readers.splits import Split, find_files, parse_split

ROWS = "text,label\nred,a\nblue,b\n"


def written(folder: Path, *files: str, content: str = ROWS) -> str:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content)
    return str(folder)


@pytest.mark.parametrize(
    ("expression", "name", "rows"),
    [
        ("train", "train", (0, 10)),
        ("train[:80%]", "train", (0, 8)),
        ("train[80%:]", "train", (8, 10)),
        ("test[2:5]", "test", (2, 5)),
        ("val[-20%:]", "validation", (8, 10)),
        (" dev [ -3 : -1 ] ", "validation", (7, 9)),
        ("[:4]", None, (0, 4)),
        ("Training[5:]", "train", (5, 10)),
        ("unlabelled[:100]", "unlabelled", (0, 10)),
        ("train[7:3]", "train", (7, 3)),
    ],
)
def test_expressions_name_a_split_and_its_rows(expression: str, name: str | None, rows: tuple[int, int]) -> None:
    split = parse_split(expression)
    assert (split.name, split.rows(10)) == (name, rows)


@pytest.mark.parametrize(
    "expression", ["", " ", "train[", "train]", "train[1]", "train[:x]", "train[:1.5]", "a[:1][2:]"]
)
def test_what_is_no_expression_is_refused_with_examples(expression: str) -> None:
    with pytest.raises(StoreError, match="is no split") as caught:
        parse_split(expression)
    assert "train[:80%]" in caught.value.allowed


@given(st.integers(0, 10**6), st.integers(0, 100))
def test_two_parts_cut_at_a_percentage_are_the_whole(num_rows: int, percent: int) -> None:
    before, after = Split(None, None, f"{percent}%"), Split(None, f"{percent}%", None)
    assert before.rows(num_rows)[1] == after.rows(num_rows)[0]


@given(st.integers(0, 1000), st.integers(-1200, 1200), st.integers(-1200, 1200))
def test_numbered_bounds_mean_what_slices_mean(num_rows: int, start: int, stop: int) -> None:
    first, last = Split(None, str(start), str(stop)).rows(num_rows)
    assert list(range(first, last)) == list(range(num_rows))[start:stop]


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["train.csv", "test.csv"], ["train", "test"]),
        (["train.csv", "valid.csv", "sample_submission.csv"], ["train", "validation"]),
        (["train/a.csv", "train/b.csv", "dev/a.csv"], ["train", "validation"]),
        (["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv", "data/test.csv"], ["train", "test"]),
        (["data/unsupervised-00000-of-00001.csv", "data/train-00000-of-00001.csv"], ["train", "unsupervised"]),
        (["part1.csv", "part2.csv"], []),
        (["trainees.csv"], []),
        (["test_set.csv", "training_set.csv", ".hidden/val.csv"], ["train", "test"]),
    ],
)
def test_splits_are_told_by_files_and_folders(files: list[str], splits: list[str], tmp_path: Path) -> None:
    path = written(tmp_path, *files)
    assert guess_reader(path) == "csv"
    assert split_names("csv", path, {}) == splits


def test_files_of_one_split_are_read_one_after_the_other(tmp_path: Path) -> None:
    path = written(tmp_path, "train/a.csv", "train/b.csv", "test/a.csv")
    assert open_reader("csv", path, {}).schema().num_rows == 4
    assert open_reader("csv", path, {"split": "test"}).schema().num_rows == 2
    assert open_reader("csv", path, {"split": "train[1:]"}).schema().num_rows == 3


def test_files_of_one_split_need_the_same_header(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv")
    written(tmp_path, "b.csv", content="label,text\na,red\n")
    with pytest.raises(StoreError, match=r"b\.csv, line 1: other columns than in .*a\.csv"):
        open_reader("csv", path, {}).schema()


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = written(tmp_path / "several", "train.csv", "test.csv")
    with pytest.raises(StoreError, match="no split 'validation'") as caught:
        open_reader("csv", path, {"split": "val"})
    assert caught.value.allowed == ("train", "test")
    path = written(tmp_path / "one", "a.csv")
    with pytest.raises(StoreError, match="not divided into splits"):
        open_reader("csv", path, {"split": "test"})
    assert open_reader("csv", path, {"split": "train[:50%]"}).schema().num_rows == 1
    path = written(tmp_path / "no train", "val.csv", "test.csv")
    with pytest.raises(StoreError, match="several splits, none of which is 'train'"):
        open_reader("csv", path, {})


def test_a_range_without_rows_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv")
    with pytest.raises(StoreError, match="no rows"):
        list(open_reader("csv", path, {"split": "[2:]"}).chunks())


def test_several_configurations_of_a_repository_are_listed(tmp_path: Path) -> None:
    path = written(tmp_path, "english/train.csv", "german/train.csv")
    with pytest.raises(StoreError, match="several configurations: english, german") as caught:
        find_files(path, (".csv",))
    assert caught.value.allowed == (f"{path}/english", f"{path}/german")


def test_json_of_a_folder_is_data_only_under_a_splits_name(tmp_path: Path) -> None:
    path = written(tmp_path, "train.json", content='{"text": "red", "label": 1}\n')
    written(tmp_path, "dataset_infos.json", "config.json", content="[]")
    assert guess_reader(path) == "json_lines"
    assert open_reader("json_lines", path, {}).schema().num_rows == 1


def test_class_folders_called_train_and_planes_are_classes(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("train", "plane"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (2, 2)).save(tmp_path / name / "1.png")
    assert guess_reader(str(tmp_path)) == "image_folder"
    assert open_reader("image_folder", str(tmp_path), {}).schema().classes == ("plane", "train")
