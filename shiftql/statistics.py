"""How sure a score is: intervals and paired tests on the rows of the test split."""

from __future__ import annotations

import math

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
