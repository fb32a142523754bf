"""Laws of target datasets on disk."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.playground.sizes import TargetSpec
from tasks.playground.splits import make_splits
from tasks.playground.targets import split_path, write


def test_a_numpy_target_holds_its_images_and_their_classes_names(tmp_path: Path) -> None:
    write(TargetSpec("drawn-digits", "image", "numpy", 20, 10), tmp_path, seed=1)
    splits = make_splits("image", "drawn-digits", 20, 10, seed=1)
    archive = np.load(split_path(tmp_path, "test", "numpy"))
    assert np.array_equal(archive["images"], splits.test_rows)
    assert archive["labels"].tolist() == [splits.classes[label] for label in splits.test_labels]


def test_an_image_folder_target_holds_every_image_under_its_class(tmp_path: Path) -> None:
    write(TargetSpec("counting-shapes", "image", "image_folder", 12, 6), tmp_path, seed=1)
    splits = make_splits("image", "counting-shapes", 12, 6, seed=1)
    folder = split_path(tmp_path, "train", "image_folder")
    assert len(list(folder.rglob("*.png"))) == 12
    for row, (image, label) in enumerate(zip(splits.train_rows, splits.train_labels, strict=True)):
        saved = Image.open(folder / splits.classes[label] / f"{row:04}.png")
        assert np.array_equal(np.asarray(saved), image)


def test_a_csv_target_holds_text_and_label(tmp_path: Path) -> None:
    write(TargetSpec("sentence-topics", "text", "csv", 12, 6), tmp_path, seed=1)
    splits = make_splits("text", "sentence-topics", 12, 6, seed=1)
    with split_path(tmp_path, "train", "csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == splits.train_rows
    assert [row["label"] for row in rows] == [splits.classes[label] for label in splits.train_labels]
