"""How far models are apart by what they reached on the same datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# Of the datasets on which two models differ, those with the largest differences say how far they are apart.
_LARGEST = 5
# Pairs measured at a time, so that what is sorted stays small.
_BLOCK = 1 << 12


def profiles(accuracies: np.ndarray) -> np.ndarray:
    """Accuracies (models, datasets), NaN where they are unknown or not above 0."""
    import numpy as np

    return np.where(np.nan_to_num(accuracies, nan=0.0) > 0, accuracies, np.nan)


def pair_distances(profiles: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How far the models numbered in `left` and `right`, (pairs,) each, are apart by their profiles.

    The mean of the 5 largest differences among datasets that both are known on; infinite where those are 5 or fewer.
    """
    import numpy as np

    apart = np.full(len(left), np.inf, profiles.dtype)
    for start in range(0, len(left) if profiles.shape[1] > _LARGEST else 0, _BLOCK):
        block = slice(start, start + _BLOCK)
        # Unknown differences are sorted behind all others.
        differences = np.sort(-np.abs(profiles[left[block]] - profiles[right[block]]), axis=1)
        enough = ~np.isnan(differences[:, _LARGEST])
        apart[block][enough] = -differences[enough, :_LARGEST].mean(axis=1)
    return apart


def distances(accuracies: np.ndarray) -> np.ndarray:
    """How far all models are apart, (models, models), of accuracies (models, datasets), NaN where unknown."""
    import numpy as np

    known, every = profiles(accuracies), np.arange(len(accuracies))
    apart = np.zeros((len(every), len(every)))
    for row in every:
        apart[row, row + 1 :] = pair_distances(known, np.full(len(every) - row - 1, row), every[row + 1 :])
    return apart + apart.T
