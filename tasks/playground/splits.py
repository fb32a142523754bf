"""The train and test rows of any task, of images or of texts, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.playground.images import IMAGE_TASKS, draw_split
from tasks.playground.sizes import Modality
from tasks.playground.texts import TEXT_TASKS, write_split


@dataclass(frozen=True)
class Splits:
    """Rows are an array of images (rows, 32, 32, 3) uint8 or a list of sentences; labels index `classes`."""

    classes: tuple[str, ...]
    train_rows: Any
    train_labels: np.ndarray
    test_rows: Any
    test_labels: np.ndarray


def make_splits(modality: Modality, task: str, train_rows: int, test_rows: int, seed: int) -> Splits:
    """Balanced rows of a task, none twice; equal arguments give equal rows."""
    if modality == "image":
        return Splits(IMAGE_TASKS[task].classes, *draw_split(task, train_rows, test_rows, seed))
    return Splits(TEXT_TASKS[task].classes, *write_split(task, train_rows, test_rows, seed))
