"""How sure a score is: intervals and paired tests on the rows of the test split."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

# Two-sided 95 %.
_Z = 1.959963984540054
SIGNIFICANCE = 0.05
_EXACT_UP_TO = 1000


def wilson_interval(share: float, rows: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy measured on `rows` rows (Wilson, 1927).

    >>> low, high = wilson_interval(0.5, 100)
    >>> round(low, 3), round(high, 3)
    (0.404, 0.596)
    """
    squared = _Z * _Z
    centre = (share + squared / (2 * rows)) / (1 + squared / rows)
    spread = _Z / (1 + squared / rows) * math.sqrt(share * (1 - share) / rows + squared / (4 * rows * rows))
    # The share lies in its interval, which rounding would deny at 0 and 1.
    return max(0.0, min(share, centre - spread)), min(1.0, max(share, centre + spread))


def mcnemar_p_value(first: bytes, second: bytes) -> float:
    """The two-sided p-value that two models are equally good, from which rows each has right (McNemar, 1947).

    Each argument holds one bit per test row, in the same order. Exact for up to 1,000 rows on which they
    differ, by the normal approximation with continuity correction beyond.
    """
    ours = int.from_bytes(first, "big")
    theirs = int.from_bytes(second, "big")
    only_first = (ours & ~theirs).bit_count()
    only_second = (theirs & ~ours).bit_count()
    differ = only_first + only_second
    if differ == 0:
        return 1.0
    if differ <= _EXACT_UP_TO:
        tail = sum(math.comb(differ, count) for count in range(min(only_first, only_second) + 1))
        return min(1.0, 2 * tail / 2**differ)
    z = (abs(only_first - only_second) - 1) / math.sqrt(differ)
    return math.erfc(max(0.0, z) / math.sqrt(2))


def bootstrap_interval(value: float, replicates: bytes) -> tuple[float, float]:
    """The 95 % interval of a score by the percentiles of its bootstrap replicates (Efron, 1979).

    `replicates` are little-endian float32. The interval is widened to the score where it lies outside.
    """
    low, high = _middle(_floats(replicates))
    return min(value, low), max(value, high)


def bootstrap_tied(first: bytes, second: bytes) -> bool:
    """Whether two scores may be equal: the 95 % interval of their difference, as above, holds 0.

    The replicates of both are of the same resamples in the same order, so that what makes a resample hard for
    both does not count.
    """
    low, high = _middle([ours - theirs for ours, theirs in zip(_floats(first), _floats(second), strict=True)])
    return low <= 0 <= high


def _floats(replicates: bytes) -> Sequence[float]:
    return struct.unpack(f"<{len(replicates) // 4}f", replicates)


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile, interpolated linearly."""
    ordered = sorted(values)

    def quantile(share: float) -> float:
        below, fraction = divmod(share * (len(ordered) - 1), 1)
        left, right = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
        return left + fraction * (right - left)

    return quantile(SIGNIFICANCE / 2), quantile(1 - SIGNIFICANCE / 2)
