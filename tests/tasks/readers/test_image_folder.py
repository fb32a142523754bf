from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.errors import StoreError
from tasks.readers import open_reader, table_reader
from tasks.readers.base import DatasetReader

RGB = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray = RGB, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]


def opened(folder: Path) -> DatasetReader:
    return open_reader("image_folder", str(folder), {"max_skipped": "0"})


def rows(folder: Path) -> list[np.ndarray]:
    return [np.asarray(row) for chunk in opened(folder).chunks() for row in chunk.rows]


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "webp", "bmp", "gif", "PNG"])
def test_every_type_is_decoded_to_rgb(suffix: str, tmp_path: Path) -> None:
    save(tmp_path / "a" / f"image.{suffix}", np.full((6, 4, 3), 200, np.uint8))
    (row,) = rows(tmp_path)
    assert row.dtype == np.uint8
    assert row.shape == (6, 4, 3)
    assert np.abs(row.astype(int) - 200).max() <= 3


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (RGB[..., 0], np.stack([RGB[..., 0]] * 3, axis=2)),
        (np.dstack([RGB, np.full((6, 4), 255, np.uint8)]), RGB),
        (RGB[..., 0].astype(np.uint16) * 257, np.stack([RGB[..., 0]] * 3, axis=2)),
    ],
    ids=["grey", "alpha", "16-bit grey"],
)
def test_other_colour_modes_become_rgb(pixels: np.ndarray, expected: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "a" / "image.png", pixels)
    np.testing.assert_array_equal(rows(tmp_path)[0], expected)


def test_images_are_turned_upright_as_their_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a" / "image.png", exif=exif)
    np.testing.assert_array_equal(rows(tmp_path)[0], np.rot90(RGB, k=-1))


def test_images_keep_their_own_sizes(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png")
    save(tmp_path / "a" / "2.png", RGB[:2])
    assert [row.shape for row in rows(tmp_path)] == [(6, 4, 3), (2, 4, 3)]


def test_hidden_files_and_other_types_are_skipped(tmp_path: Path) -> None:
    save(tmp_path / "a" / "deeper" / "image.png")
    save(tmp_path / "a" / ".image.png")
    save(tmp_path / ".cache" / "image.png")
    save(tmp_path / "loose.png")
    (tmp_path / "a" / "notes.txt").write_text("notes")
    reader = opened(tmp_path)
    assert reader.files() == [str(tmp_path / "a" / "deeper" / "image.png")]
    assert reader.schema().classes == ("a",)


def test_moving_a_file_to_another_class_keeps_its_hash(tmp_path: Path) -> None:
    save(tmp_path / "a" / "image.png")
    before = next(opened(tmp_path).chunks()).row_hashes
    (tmp_path / "a").rename(tmp_path / "b")
    np.testing.assert_array_equal(next(opened(tmp_path).chunks()).row_hashes, before)


def test_chunks_of_large_images_are_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        save(tmp_path / "a" / f"{number}.png")
    monkeypatch.setattr(table_reader, "_CHUNK_BYTES", 2 * RGB.nbytes)
    assert [len(chunk.rows) for chunk in opened(tmp_path).chunks()] == [2, 2, 1]


@pytest.mark.parametrize("content", [b"", b"no image", "half"])
def test_undecodable_image_is_named(content: bytes | str, tmp_path: Path) -> None:
    save(tmp_path / "a" / "good.png")
    path = tmp_path / "b" / "bad.png"
    save(path)
    path.write_bytes(path.read_bytes()[:70] if isinstance(content, str) else content)
    with pytest.raises(StoreError, match=r"b/bad\.png is not an image that can be decoded") as caught:
        rows(tmp_path)
    assert "object at 0x" not in caught.value.message


@pytest.mark.parametrize("value", [-1, 2**16, 2**31 - 1])
def test_grey_values_of_more_than_16_bits_are_refused(value: int, tmp_path: Path) -> None:
    path = tmp_path / "a" / "image.png"
    save(path, np.array([[0, value]], np.int32), format="TIFF")
    with pytest.raises(StoreError, match=r"a/image\.png has grey values outside 0 to 65535") as caught:
        rows(tmp_path)
    assert caught.value.fix


def test_class_without_images_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a" / "image.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(StoreError, match=r"class folder .*b holds no images"):
        opened(tmp_path).schema()


def test_folder_without_classes_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "image.png")
    for path in (tmp_path, tmp_path / "image.png"):
        with pytest.raises(StoreError, match="no sub-folders"):
            opened(path).schema()
