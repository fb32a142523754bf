"""Ranks, without the second that importing scipy.stats takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def ranks_among_known(values: np.ndarray) -> np.ndarray:
    """The ranks of (n,) values from the lowest, ties shared, as shares of those that are known; NaN of the others.

    >>> import numpy as np
    >>> ranks_among_known(np.array([0.2, 0.1, np.nan, 0.2])).round(3).tolist()
    [0.833, 0.333, nan, 0.833]
    """
    import numpy as np

    ordered = np.sort(values[~np.isnan(values)])
    first, last = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.where(np.isnan(values), np.nan, (first + last + 1) / 2 / max(1, len(ordered)))
