"""How far apart two tasks are, by their Task2Vec vectors (Achille et al., arXiv 1902.03545, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Vector: TypeAlias = Sequence[float] | np.ndarray

# Of a vector's mean, added to all of it: units that hardly matter to either task do not tell them apart.
_LEAST_SHARE = 1e-6


def task_distance(first: Vector, second: Vector) -> float:
    """The symmetric distance of two tasks, 0 (equal up to a factor) to 1.

    The cosine distance of F_a / (F_a + F_b) and F_b / (F_a + F_b), unit by unit: units of any scale count alike.
    Both are (units,), not negative and not all 0.
    """
    ours, theirs = _lifted(first), _lifted(second)
    share, rest = ours / (ours + theirs), theirs / (ours + theirs)
    cosine = float(share @ rest / np.sqrt((share @ share) * (rest @ rest)))
    return max(0.0, 1.0 - cosine)


def transfer_distance(source: Vector, target: Vector, alpha: float) -> float:
    """The asymmetric distance from a source task to a target: near and complex sources come first.

    The symmetric one less `alpha` times the source's complexity, which is its distance to the trivial task, whose
    Fisher information is the same for every unit (here the mean over both tasks). The paper takes 0.15. With 0 it is
    the symmetric distance.
    """
    trivial = np.full(len(source), np.asarray([source, target], dtype=np.float64).mean())
    return task_distance(source, target) - alpha * task_distance(source, trivial)


def _lifted(vector: Vector) -> np.ndarray:
    numbers = np.asarray(vector, dtype=np.float64)
    return numbers + _LEAST_SHARE * numbers.mean()
