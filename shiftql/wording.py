"""Figures worded for people."""

from __future__ import annotations


def worded_seconds(seconds: float) -> str:
    """Expected seconds as people read them.

    >>> worded_seconds(4.25), worded_seconds(600)
    ('~4.2 s', '~10 min')
    """
    if seconds < 100:
        return f"~{seconds:.1f} s"
    if seconds < 6000:
        return f"~{seconds / 60:.0f} min"
    return f"~{seconds / 3600:.1f} h"
