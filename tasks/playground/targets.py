"""Writes a target dataset to disk: both splits, as CSV, NumPy archives or image folders."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks.playground.sizes import Reader, TargetSpec
from tasks.playground.splits import make_splits


def write(spec: TargetSpec, directory: Path, seed: int) -> None:
    """Write the splits as `split_path` names them. Equal arguments give equal bytes."""
    splits = make_splits(spec.modality, spec.name, spec.train_rows, spec.test_rows, seed)
    for split, rows, labels in (
        ("train", splits.train_rows, splits.train_labels),
        ("test", splits.test_rows, splits.test_labels),
    ):
        names = [splits.classes[label] for label in labels]
        WRITERS[spec.reader](split_path(directory, split, spec.reader), rows, names)


def split_path(directory: Path, split: str, reader: Reader) -> Path:
    """Where a split of the target in `directory` lies: a file, or the folder that holds its classes' folders."""
    return directory / (split + {"csv": ".csv", "numpy": ".npz", "image_folder": ""}[reader])


def _write_csv(path: Path, sentences: list[str], labels: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(zip(sentences, labels, strict=True))


def _write_numpy(path: Path, images: np.ndarray, labels: list[str]) -> None:
    np.savez(path, images=images, labels=np.array(labels))


def _write_image_folder(path: Path, images: np.ndarray, labels: list[str]) -> None:
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = path / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{row:04}.png")


WRITERS: dict[Reader, Callable[[Path, Any, list[str]], None]] = {
    "csv": _write_csv,
    "numpy": _write_numpy,
    "image_folder": _write_image_folder,
}
