"""What every table's reader does with rows that cannot be read, with labels, and with memory."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from storage.errors import StoreError
from tasks.readers import guess_reader, open_reader, table_reader
from tasks.readers.base import DatasetReader


def opened(path: Path, **options: str) -> DatasetReader:
    return open_reader(guess_reader(str(path)), str(path), options)


def table(folder: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), folder / "data.parquet")
    return folder / "data.parquet"


def rows(reader: DatasetReader) -> list[Any]:
    return [row for chunk in reader.chunks() for row in chunk.rows]


def png(size: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size)).save(file, "png")
    return file.getvalue()


def bomb(width: int = 100_000, height: int = 100_000) -> bytes:
    """A tiny PNG that claims to be of a gigantic size."""

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"\0" * 999)) + part(b"IEND", b"")


# --- rows that cannot be read -----------------------------------------------------------------------------------------


def test_unreadable_rows_are_left_out_counted_and_the_first_is_named(tmp_path: Path) -> None:
    texts = ["red", None, "blue", "green"]
    reader = opened(table(tmp_path, {"text": texts, "label": ["a", "b", None, "c"]}))
    assert rows(reader) == ["red", "green"]
    assert reader.skipped.num_rows == 2
    assert reader.skipped.first == f"{tmp_path / 'data.parquet'}, row 1: column 'text' is empty"


def test_a_pass_counts_anew(tmp_path: Path) -> None:
    reader = opened(table(tmp_path, {"text": ["red", None], "label": ["a", "b"]}))
    assert [len(rows(reader)) for _ in range(2)] == [1, 1]
    assert reader.skipped.num_rows == 1


@pytest.mark.parametrize(("num_rows", "num_broken", "is_refused"), [(50, 10, False), (50, 11, True), (2000, 20, False)])
def test_ten_rows_or_one_percent_may_be_unreadable(
    num_rows: int, num_broken: int, is_refused: bool, tmp_path: Path
) -> None:
    texts = [None] * num_broken + ["text"] * (num_rows - num_broken)
    reader = opened(table(tmp_path, {"text": texts, "label": ["a"] * num_rows}))
    if is_refused:
        with pytest.raises(StoreError, match=r"row 0: column 'text' is empty \(and 10 more rows") as caught:
            rows(reader)
        assert "max_skipped" in (caught.value.fix or "")
    else:
        assert len(rows(reader)) == num_rows - num_broken


def test_how_many_may_be_unreadable_can_be_said(tmp_path: Path) -> None:
    path = table(tmp_path, {"text": [None] * 15 + ["text"], "label": ["a"] * 16})
    assert rows(opened(path, max_skipped="15")) == ["text"]
    with pytest.raises(StoreError, match="row 0: column 'text' is empty") as caught:
        rows(opened(path, max_skipped="0"))
    assert "more rows" not in caught.value.message
    with pytest.raises(StoreError, match="max_skipped is 'many'"):
        opened(path, max_skipped="many")


def test_a_dataset_of_unreadable_rows_alone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="row 0: column 'text' is empty"):
        rows(opened(table(tmp_path, {"text": [None, None], "label": ["a", "b"]})))


def test_a_corrupt_image_of_a_folder_is_named_and_left_out(tmp_path: Path) -> None:
    for label, names in {"a": ["1", "2"], "b": ["1", "2"]}.items():
        (tmp_path / label).mkdir()
        for name in names:
            (tmp_path / label / f"{name}.png").write_bytes(png())
    (tmp_path / "b" / "1.png").write_bytes(png()[:40])
    reader = opened(tmp_path)
    assert len(rows(reader)) == 3
    assert reader.skipped.first.startswith(f"{tmp_path / 'b' / '1.png'} is not an image that can be decoded")


@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (10_000, 10_000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_that_claims_a_gigantic_size_is_left_out_without_making_room(
    width: int, height: int, tmp_path: Path
) -> None:
    path = table(tmp_path, {"image": [png(), bomb(width, height)], "label": ["a", "b"]})
    reader = opened(path)
    tracemalloc.start()
    assert len(rows(reader)) == 1
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()
    assert "row 1: column 'image'" in reader.skipped.first
    assert "pixels" in reader.skipped.first


def test_image_paths_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "good.png").write_bytes(png())
    (tmp_path / "data.csv").write_text("image,label\ngood.png,a\npipe.png,b\nmissing.png,a\n")
    reader = opened(tmp_path / "data.csv")
    assert len(rows(reader)) == 1
    assert "line 3: column 'image' names" in reader.skipped.first
    assert reader.files() == sorted(str(tmp_path / name) for name in ("data.csv", "good.png"))


def test_a_table_of_metadata_describes_the_images_around_it(tmp_path: Path) -> None:
    for split, label in {"train": "a", "test": "b"}.items():
        (tmp_path / split).mkdir()
        (tmp_path / split / "1.png").write_bytes(png())
        (tmp_path / split / "metadata.csv").write_text(f"file_name,label\n1.png,{label}\n")
        (tmp_path / split / "notes.csv").write_text("who,when\nme,now\n")
    assert len(rows(opened(tmp_path))) == 1
    assert opened(tmp_path, split="test").schema().classes == ("b",)


def test_tags_that_do_not_match_their_words_are_named(tmp_path: Path) -> None:
    columns = {"tokens": [["a"], ["b", "c"], []], "ner_tags": [["X"], ["Y"], []]}
    reader = opened(table(tmp_path, columns), task="token_classification")
    assert rows(reader) == [["a"]]
    assert reader.skipped.first.endswith("row 1: column 'ner_tags' has 1 tags for 2 words")


def test_numbers_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("length,width,label\n1,2,a\n1,,a\n3,4,b\n")
    reader = opened(tmp_path / "data.csv")
    assert [row.tolist() for row in rows(reader)] == [[1, 2], [3, 4]]
    assert reader.skipped.first.endswith("line 3: column 'width' is empty")
    path = table(tmp_path, {"features": [[1.0, 2.0], [1.0, float("nan")], [1.0]], "label": [0.5, 1.5, 2.5]})
    reader = opened(path)
    assert [row.tolist() for row in rows(reader)] == [[1, 2]]
    assert reader.skipped.num_rows == 2
    assert reader.skipped.first.endswith("row 1: column 'features' is not a finite number")


def test_a_number_that_is_missing_makes_no_classes_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,score\na red,0.5\na blue,NaN\na pink,1.5\n")
    reader = opened(tmp_path / "data.csv", label_column="score")
    assert reader.schema().task == "regression"
    assert [chunk.labels.tolist() for chunk in reader.chunks()] == [[0.5, 1.5]]
    assert reader.skipped.first.endswith("line 3: column 'score' is not a finite number")


def test_a_byte_that_is_no_text_is_named_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(b"tokens,tags\na b,X Y\n\xff b,X Y\na b,\xff Y\n")
    reader = opened(tmp_path / "data.csv", task="token_classification", tags_column="tags")
    assert rows(reader) == [["a", "b"]]
    assert reader.skipped.num_rows == 2
    assert reader.skipped.first.endswith("line 3: column 'tokens' is not UTF-8 text")


def test_numbers_too_large_for_any_are_named(tmp_path: Path) -> None:
    huge = "1" + "0" * 400
    (tmp_path / "data.jsonl").write_text(
        f'{{"x": [1], "y": 0.5}}\n{{"x": [{huge}], "y": 1}}\n{{"x": [1], "y": {huge}}}\n'
    )
    reader = opened(tmp_path / "data.jsonl")
    assert len(rows(reader)) == 1
    assert reader.skipped.num_rows == 2


def test_what_others_wrote_into_a_schema_is_not_taken_for_class_names(tmp_path: Path) -> None:
    for number, written in enumerate(
        [b"no json", b"[]", b'{"info": {"features": 5}}', b'{"info": {"features": {"label": 5}}}']
    ):
        written_to = pa.table({"text": ["red"], "label": [1]}).replace_schema_metadata({b"huggingface": written})
        pq.write_table(written_to, tmp_path / f"{number}.parquet")
        assert opened(tmp_path / f"{number}.parquet").schema().classes == ("1",)


# --- labels -----------------------------------------------------------------------------------------------------------


def test_class_names_are_those_that_the_library_wrote(tmp_path: Path) -> None:
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["negative", "positive"])
    )
    made = datasets.Dataset.from_dict({"text": ["red", "blue", "grey"], "label": [1, 0, -1]}, features=features)
    made.to_parquet(str(tmp_path / "data.parquet"))
    reader = opened(tmp_path / "data.parquet")
    assert reader.schema().classes == ("negative", "positive")
    assert rows(reader) == ["red", "blue"]
    assert reader.skipped.first.endswith("row 2: column 'label' is -1, and there are names for 0 to 1")


def test_class_names_may_stand_beside_the_files(tmp_path: Path) -> None:
    table(tmp_path, {"text": ["red", "blue"], "label": [1, 0]})
    told = '{"plain": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}'
    (tmp_path / "dataset_infos.json").write_text(told)
    assert opened(tmp_path).schema().classes == ("no", "yes")
    (tmp_path / "dataset_infos.json").write_text("[1]")
    with pytest.raises(StoreError, match=r"dataset_infos\.json does not tell"):
        opened(tmp_path).schema()


def test_texts_taken_for_labels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_reader, "_MOST_CLASSES", 2)
    path = table(tmp_path, {"text": ["red", "blue", "green"], "label": ["a", "b", "c"]})
    with pytest.raises(StoreError, match="column 'label' has more than 2 different labels"):
        opened(path).schema()


def test_class_names_can_be_told(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,label\nred,1\nblue,0\ngreen,2\n")
    reader = opened(tmp_path / "data.csv", classes="no, yes")
    assert reader.schema().classes == ("no", "yes")
    assert len(rows(reader)) == 2
    assert reader.skipped.first.endswith("line 4: column 'label' is 2, and there are names for 0 to 1")


def test_columns_of_zeros_and_ones_are_several_labels(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,rude,loud\nred,1,0\nblue,1,1\ngreen,0,0\n")
    reader = opened(tmp_path / "data.csv")
    assert reader.schema().task == "multilabel_classification"
    assert reader.schema().classes == ("loud", "rude")
    assert next(reader.chunks()).labels.tolist() == [[False, True], [True, True], [False, False]]


def test_rows_of_zeros_and_ones_are_several_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.eye(3), y=np.array([[1, 0], [1, 1], [0, 0]]))
    reader = opened(tmp_path / "data.npz", classes="rude,loud")
    assert reader.schema().classes == ("loud", "rude")
    assert next(reader.chunks()).labels.tolist() == [[False, True], [True, True], [False, False]]


def test_whole_numbers_are_a_regression_where_it_is_said(tmp_path: Path) -> None:
    path = table(tmp_path, {"text": ["red", "blue"], "label": [10, 9]})
    assert opened(path).schema().classes == ("9", "10")
    assert next(opened(path, task="regression").chunks()).labels.tolist() == [10.0, 9.0]


# --- memory and damage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl", "arrow"])
def test_a_large_table_is_read_in_little_memory(form: str, tmp_path: Path) -> None:
    columns = {"text": [f"{number} " + "word " * 400 for number in range(20_000)], "label": ["a", "b"] * 10_000}
    path = tmp_path / f"data.{form}"
    if form == "parquet":
        pq.write_table(pa.table(columns), path, compression="none", use_dictionary=False)
    elif form == "arrow":
        with pa.ipc.new_file(str(path), pa.table(columns).schema) as writer:
            writer.write_table(pa.table(columns))
    else:
        line = "{0},{1}\n" if form == "csv" else '{{"text": "{0}", "label": "{1}"}}\n'
        cells = [("text", "label")] * (form == "csv") + list(zip(*columns.values(), strict=True))
        path.write_text("".join(line.format(*pair) for pair in cells))
    size = path.stat().st_size
    del columns
    reader = opened(path)
    tracemalloc.start()
    before, most = pa.total_allocated_bytes(), 0
    num_rows = 0
    for chunk in reader.chunks():
        num_rows += len(chunk.rows)
        most = max(most, pa.total_allocated_bytes() - before)
    peak = tracemalloc.get_traced_memory()[1] + most
    tracemalloc.stop()
    assert num_rows == 20_000
    assert peak < size / 3


@pytest.mark.parametrize("name", ["data.parquet", "data.arrow", "data.npz"])
@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"ARROW1\0\0", b"PK\x03\x04", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"x" * 100]
)
def test_files_that_are_no_tables_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match=name.replace(".", r"\.")):
        rows(opened(tmp_path / name))


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_torn_parquet_file_is_refused(keep: float, tmp_path: Path) -> None:
    path = table(tmp_path, {"text": [f"text {n}" for n in range(5000)], "label": ["a", "b"] * 2500})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(StoreError, match=r"data\.parquet cannot be read"):
        rows(opened(path))


def test_an_array_whose_rows_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2, 10**6, 10**6)})
    import zipfile

    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
        labels = io.BytesIO()
        np.save(labels, np.array([0, 1]))
        archive.writestr("y.npy", labels.getvalue())
    with pytest.raises(StoreError, match="a row of array 'x' has more than"):
        rows(opened(tmp_path / "data.npz"))
