"""The rows a model is fine-tuned on, validated on and tested on, with what is to be predicted of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.catalog import Catalog
from storage.errors import EvaluationError
from storage.manifests import Manifest
from storage.parts import Part
from tasks.rankers.base import Task
from tasks.reading import read_derived

VALIDATION_PART = 0.2
_LEAST_CLASSES = 2


@dataclass(frozen=True)
class Goal:
    """What is predicted: `kind` is a task of storage.manifests; `classes` are those of the training rows, in order.

    Numbers are learnt less `mean` and divided by `deviation`, those of the rows that are fitted.
    """

    kind: str
    classes: tuple[str, ...]
    mean: float = 0.0
    deviation: float = 1.0

    @property
    def task(self) -> Task:
        """As tasks.rankers.metrics has it: words and pairs have classes like any row."""
        match self.kind:
            case "multilabel_classification":
                return "multilabel classification"
            case "regression":
                return "regression"
        return "classification"

    @property
    def outputs(self) -> int:
        """How many numbers a model says of each row, or word."""
        return len(self.classes) or 1


@dataclass(frozen=True)
class Examples:
    """Rows and their labels: one a row, or of token classification one a word, `lengths` of them in each row.

    | task | labels |
    |---|---|
    | one class, of rows, pairs or words | (labels,) int64, places in the goal's classes; others from their number on |
    | several classes | (rows, classes) bool |
    | regression | (rows,) float64, as the dataset has them |
    """

    rows: list[Any]
    labels: np.ndarray
    lengths: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Examples:
        """These rows in this order."""
        chosen = [self.rows[row] for row in rows]
        if self.lengths is None:
            return Examples(chosen, self.labels[rows])
        of_row = np.split(self.labels, np.cumsum(self.lengths)[:-1])
        return Examples(chosen, np.concatenate([of_row[row] for row in rows]), self.lengths[rows])


@dataclass(frozen=True)
class TrainingRows:
    """The training rows of a dataset in two parts: fitted are the one, the epoch is chosen by the other."""

    goal: Goal
    fit: Examples
    validation: Examples


def read_training(catalog: Catalog, train: Sequence[Part], seed: int) -> TrainingRows:
    """The training rows, a fifth of them held out by chance. Raises EvaluationError where they are too few or alike."""
    rows, manifest = read_derived(catalog, train)
    goal = Goal(manifest.task, manifest.classes)
    if goal.task == "classification" and len(goal.classes) < _LEAST_CLASSES:
        raise EvaluationError(
            f"all training rows have the same label {''.join(goal.classes)}",
            fix="train on rows of at least two classes",
        )
    examples = Examples(rows, manifest.labels, manifest.lengths)
    fit, validation = (examples.take(chosen) for chosen in _split(manifest, seed))
    if goal.task == "regression":
        goal = Goal(goal.kind, (), float(fit.labels.mean()), float(fit.labels.std()) or 1.0)
    return TrainingRows(goal, fit, validation)


def read_test(catalog: Catalog, test: Sequence[Part], goal: Goal) -> Examples:
    """The test rows, labelled by the goal's classes. Raises EvaluationError where they are for another task."""
    rows, manifest = read_derived(catalog, test)
    if manifest.task != goal.kind:
        raise EvaluationError(
            f"the training rows are for {goal.kind} and the test rows for {manifest.task}",
            fix="label both splits alike",
        )
    match goal.task:
        case "regression":
            labels = manifest.labels
        case "multilabel classification":
            unseen = [name for name in manifest.classes if name not in goal.classes]
            labels = manifest.targets_among((*goal.classes, *unseen))
        case _:
            unseen = [name for name in manifest.classes if name not in goal.classes]
            places = {name: place for place, name in enumerate((*goal.classes, *unseen))}
            labels = np.array([places[name] for name in manifest.classes], dtype=np.int64)[manifest.labels]
    return Examples(rows, labels, manifest.lengths)


def _split(manifest: Manifest, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rows to fit and to validate on; stratified where every class has two rows."""
    from sklearn.model_selection import train_test_split

    rows = manifest.num_rows
    held_out, stratify = round(VALIDATION_PART * rows), None
    if manifest.labels.ndim == 1 and manifest.classes and manifest.lengths is None:
        counts = np.bincount(manifest.labels)
        held_out = max(held_out, len(counts))
        if counts.min() >= _LEAST_CLASSES and rows - held_out >= len(counts):
            stratify = manifest.labels
    held_out = max(held_out, 1)
    if held_out >= rows:
        raise EvaluationError(f"{rows} training rows are too few to fine-tune on and to validate")
    fit, validation = train_test_split(np.arange(rows), test_size=held_out, random_state=seed, stratify=stratify)
    return fit, validation
