from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from storage.errors import StoreError
from tasks.readers import open_reader
from tasks.readers.base import DatasetReader

RGB = np.random.default_rng(0).integers(0, 256, (5, 8, 7, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 0, 1, 1])


def opened(path: Path) -> DatasetReader:
    return open_reader("numpy", str(path), {"max_skipped": "0"})


def saved(folder: Path, **arrays: object) -> DatasetReader:
    path = folder / "data.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return opened(path)


def images(reader: DatasetReader) -> np.ndarray:
    return np.stack([row for chunk in reader.chunks(2) for row in chunk.rows])  # type: ignore[arg-type]


@pytest.mark.parametrize(("x", "y"), [("images", "labels"), ("x", "y"), ("X", "targets"), ("data", "Labels")])
def test_arrays_are_found_by_their_usual_names(x: str, y: str, tmp_path: Path) -> None:
    reader = saved(tmp_path, **{x: RGB, y: LABELS, "other": np.zeros(2)})
    np.testing.assert_array_equal(images(reader), RGB)
    assert reader.schema().classes == ("0", "1")


@pytest.mark.parametrize(
    "stored",
    [
        RGB.transpose(0, 3, 1, 2).copy(),
        (RGB / 255).astype(np.float32),
        RGB / 255,
        np.concatenate([RGB, np.full((5, 8, 7, 1), 9, np.uint8)], axis=3),
    ],
    ids=["channels first", "float32", "float64", "alpha"],
)
def test_every_layout_of_the_same_images_reads_and_hashes_the_same(stored: np.ndarray, tmp_path: Path) -> None:
    plain = saved(tmp_path, x=RGB, y=LABELS)
    hashes = [chunk.row_hashes.tobytes() for chunk in plain.chunks(2)]
    other = saved(tmp_path, x=stored, y=LABELS)
    np.testing.assert_array_equal(images(other), RGB)
    assert [chunk.row_hashes.tobytes() for chunk in other.chunks(2)] == hashes


@pytest.mark.parametrize("shape", [(5, 8, 7), (5, 8, 7, 1), (5, 1, 8, 7)])
def test_grey_images_become_rgb(shape: tuple[int, ...], tmp_path: Path) -> None:
    grey = RGB[..., 0]
    expected = np.stack([grey, grey, grey], axis=3)
    np.testing.assert_array_equal(images(saved(tmp_path, x=grey.reshape(shape), y=LABELS)), expected)


def test_compressed_files_read_the_same(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=RGB, y=LABELS)
    np.testing.assert_array_equal(images(opened(path)), RGB)


def test_images_of_equal_bytes_and_other_shape_have_other_hashes(tmp_path: Path) -> None:
    wide = next(saved(tmp_path, x=np.zeros((1, 2, 8), np.uint8), y=[0]).chunks()).row_hashes
    high = next(saved(tmp_path, x=np.zeros((1, 8, 2), np.uint8), y=[0]).chunks()).row_hashes
    assert wide.tobytes() != high.tobytes()


def _with_value(x: np.ndarray, row: int, value: float) -> np.ndarray:
    x = x.copy()
    x[row, 0, 0, 0] = value
    return x


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": RGB}, "no column is known to hold the label"),
        ({"x": RGB, "y": LABELS[:4]}, "'x' has 5 rows and 'y' 4"),
        ({"x": RGB, "y": LABELS.astype(object)}, "'y' holds pickled objects"),
        ({"x": RGB.astype(object), "y": LABELS}, "'x' holds pickled objects"),
        ({"x": RGB, "y": np.array(["a", "", "b", "c", "d"])}, "row 1: column 'y' is empty"),
        ({"x": RGB[:0], "y": LABELS[:0]}, "no rows"),
        ({"x": RGB.astype(np.int64), "y": LABELS}, "row 0: column 'x' is an image of int64"),
        ({"x": RGB.astype(float), "y": LABELS}, "row 0: column 'x' has values outside 0 to 1"),
        ({"x": _with_value(RGB / 255, 3, np.nan), "y": LABELS}, "row 3: column 'x' has values outside 0 to 1"),
        ({"x": _with_value(RGB / 255, 4, -0.1), "y": LABELS}, "row 4: column 'x' has values outside 0 to 1"),
        ({"x": RGB[:, :, :, :2], "y": LABELS}, r"row 0: column 'x' is an image of shape \(8, 7, 2\)"),
        ({"x": np.asfortranarray(RGB), "y": LABELS}, "'x' is stored column by column"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays: dict[str, object], message: str, tmp_path: Path) -> None:
    reader = saved(tmp_path, **arrays)
    with pytest.raises(StoreError, match=message) as caught:
        list(reader.chunks(2))
    assert "data.npz" in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize("damage", ["text", "truncated", "one byte"])
def test_damaged_files_are_refused(damage: str, tmp_path: Path) -> None:
    reader = saved(tmp_path, x=RGB, y=LABELS)
    path = tmp_path / "data.npz"
    content = bytearray(path.read_bytes())
    if damage == "text":
        content = bytearray(b"not an archive")
    elif damage == "truncated":
        content = content[: len(content) // 2]
    else:
        content[400] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"not a readable \.npz file"):
        list(reader.chunks())


def test_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", b"no array")
        archive.writestr("y.npy", b"no array")
    with pytest.raises(StoreError, match="'x' is not a NumPy array"):
        opened(tmp_path / "data.npz").schema()


def test_member_without_npy_in_its_name_is_no_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x", b"bytes")
        archive.writestr("y", b"bytes")
    with pytest.raises(StoreError, match="no arrays of rows"):
        opened(tmp_path / "data.npz").schema()


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [(8, 1, "encrypted"), (10, 99, "compression method is not supported")],
    ids=["encryption flag", "unknown compression"],
)
def test_archives_that_cannot_be_unpacked_are_refused(offset: int, value: int, message: str, tmp_path: Path) -> None:
    reader = saved(tmp_path, x=RGB, y=LABELS)
    path = tmp_path / "data.npz"
    content = bytearray(path.read_bytes())
    for member in (b"x.npy", b"y.npy"):
        # The fixed part of an entry in the central directory, before the member's name, is 46 bytes long.
        content[content.rindex(member) - 46 + offset] = value
    path.write_bytes(content)
    with pytest.raises(StoreError, match=rf"not a readable \.npz file: .*{message}"):
        reader.schema()
