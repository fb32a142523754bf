"""The laws of tasks.readers.base.DatasetReader, checked on every reader."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.readers import READERS, guess_reader, open_reader
from tasks.readers.base import ROW_HASH_BYTES, Chunk, DatasetReader

# A dataset is written from (feature number, label) pairs: equal numbers are equal rows.
Rows = Sequence[tuple[int, str]]
ROWS: Rows = [(0, "ant"), (1, "bee"), (2, "ant"), (0, "bee"), (3, "cat"), (4, "bee"), (5, "cat")]


def _image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def _write_csv(folder: Path, rows: Rows) -> Path:
    path = folder / "data.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((f'Sätz, "{n}"\nzwei', label) for n, label in rows)])
    return path


def _write_tsv(folder: Path, rows: Rows) -> Path:
    path = folder / "data.tsv"
    path.write_text("label\tsentence\n" + "".join(f"{label}\tRow, {n}\n" for n, label in rows), encoding="utf-8-sig")
    return path


def _write_npz(folder: Path, rows: Rows) -> Path:
    path = folder / "data.npz"
    np.savez(path, images=np.stack([_image(n) for n, _ in rows]), labels=np.array([label for _, label in rows]))
    return path


def _write_image_folder(folder: Path, rows: Rows) -> Path:
    root = folder / "images"
    for position, (n, label) in enumerate(rows):
        (root / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(_image(n)).save(root / label / f"{position}.png")
    return root


WRITERS: dict[str, tuple[str, Callable[[Path, Rows], Path]]] = {
    "csv": ("csv", _write_csv),
    "tsv": ("csv", _write_tsv),
    "npz": ("numpy", _write_npz),
    "image_folder": ("image_folder", _write_image_folder),
}


@pytest.fixture(params=WRITERS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write_and_open(form: str, folder: Path, rows: Rows = ROWS) -> DatasetReader:
    folder.mkdir(exist_ok=True)
    reader, write = WRITERS[form]
    return open_reader(reader, str(write(folder, rows)), {})


def joined(chunks: Sequence[Chunk]) -> tuple[list[object], list[int], list[bytes]]:
    rows = [row if isinstance(row, str) else row.tolist() for chunk in chunks for row in chunk.rows]
    labels = [int(label) for chunk in chunks for label in chunk.labels]
    return rows, labels, [digest.tobytes() for chunk in chunks for digest in chunk.row_hashes]


def test_every_reader_is_under_test() -> None:
    assert {reader for reader, _ in WRITERS.values()} == set(READERS)


def test_reader_is_guessed_from_the_path(form: str, tmp_path: Path) -> None:
    reader, write = WRITERS[form]
    assert guess_reader(str(write(tmp_path, ROWS))) == reader
    assert write_and_open(form, tmp_path / "again").name == reader


def test_schema_is_known_before_the_first_row(form: str, tmp_path: Path) -> None:
    schema = write_and_open(form, tmp_path).schema()
    assert schema.modality == ("text" if form in ("csv", "tsv") else "image")
    assert schema.task == "classification"
    assert schema.num_rows == len(ROWS)
    assert schema.classes == ("ant", "bee", "cat")


def test_chunks_hold_what_was_written(form: str, tmp_path: Path) -> None:
    reader = write_and_open(form, tmp_path)
    rows, labels, _ = joined(list(reader.chunks()))
    # An image folder is ordered by class, then by file name.
    expected = sorted(ROWS, key=lambda row: row[1]) if form == "image_folder" else ROWS
    assert [reader.schema().classes[label] for label in labels] == [label for _, label in expected]
    written = {
        "csv": lambda n: f'Sätz, "{n}"\nzwei',
        "tsv": lambda n: f"Row, {n}",
    }.get(form, lambda n: _image(n).tolist())
    assert rows == [written(n) for n, _ in expected]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_chunks_join_to_the_same_whatever_their_size(form: str, size: int, tmp_path: Path) -> None:
    reader = write_and_open(form, tmp_path)
    chunks = list(reader.chunks(size))
    assert max(len(chunk.rows) for chunk in chunks) == min(size, len(ROWS))
    assert joined(chunks) == joined(list(reader.chunks()))


def test_columns_of_a_chunk_have_the_declared_shapes(form: str, tmp_path: Path) -> None:
    for chunk in write_and_open(form, tmp_path).chunks(3):
        assert chunk.labels.dtype == np.int64
        assert chunk.labels.shape == (len(chunk.rows),)
        assert chunk.row_hashes.dtype == np.uint8
        assert chunk.row_hashes.shape == (len(chunk.rows), ROW_HASH_BYTES)
        for row in chunk.rows:
            if not isinstance(row, str):
                assert row.dtype == np.uint8
                assert row.shape == (6, 5, 3)
                assert row.flags.writeable


def test_two_passes_and_two_readers_are_equal(form: str, tmp_path: Path) -> None:
    first, second = write_and_open(form, tmp_path / "a"), write_and_open(form, tmp_path / "b")
    assert joined(list(first.chunks())) == joined(list(first.chunks())) == joined(list(second.chunks()))


def test_rows_are_equal_exactly_when_their_hashes_are(form: str, tmp_path: Path) -> None:
    rows, _, hashes = joined(list(write_and_open(form, tmp_path).chunks(2)))
    for i in range(len(rows)):
        for j in range(i):
            assert (rows[i] == rows[j]) == (hashes[i] == hashes[j])


def test_relabelling_changes_no_hash(form: str, tmp_path: Path) -> None:
    relabelled = [(n, "bee" if label == "ant" else "ant") for n, label in ROWS]
    before = joined(list(write_and_open(form, tmp_path / "a").chunks()))
    after = joined(list(write_and_open(form, tmp_path / "b", relabelled).chunks()))
    assert sorted(before[2]) == sorted(after[2])
    assert before[1] != after[1]


def test_appending_rows_keeps_the_hashes_of_the_others(form: str, tmp_path: Path) -> None:
    before = joined(list(write_and_open(form, tmp_path / "a").chunks()))[2]
    after = joined(list(write_and_open(form, tmp_path / "b", [*ROWS, (9, "dog")]).chunks()))[2]
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1


def test_numeric_classes_are_in_the_order_of_their_values(form: str, tmp_path: Path) -> None:
    reader = write_and_open(form, tmp_path, [(0, "10"), (1, "9"), (2, "-1")])
    assert reader.schema().classes == ("-1", "9", "10")


def test_files_are_what_the_content_depends_on(form: str, tmp_path: Path) -> None:
    files = write_and_open(form, tmp_path).files()
    assert files == sorted(files)
    assert set(files) == {str(path) for path in tmp_path.rglob("*") if path.is_file()}
