"""What a purge deletes and what an examination finds, worded for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftql.cost import worded_bytes

_SHOWN_SUBJECTS = 5


def worded_purge(purged: Mapping[str, int]) -> str:
    """How much is deleted.

    >>> worded_purge({"results": 2, "result_bytes": 1500, "segments": 1, "segment_bytes": 4e6, "segments_in_use": 0})
    '2 results (2 kB) and 1 segment of features (4 MB)'
    """
    parts = []
    if purged["results"]:
        parts.append(f"{_counted(purged['results'], 'result')} ({worded_bytes(purged['result_bytes'])})")
    if purged["segments"]:
        parts.append(f"{_counted(purged['segments'], 'segment')} of features ({worded_bytes(purged['segment_bytes'])})")
    in_use = purged["segments_in_use"]
    left = f"; {_counted(in_use, 'segment')} of models that are being evaluated are kept" if in_use else ""
    return f"{' and '.join(parts) or 'nothing'}{left}"


def worded_finding(finding: Mapping[str, Any]) -> str:
    """A finding, what it is about, and how it is mended."""
    subjects: Sequence[str] = finding["subjects"]
    shown = [f"  {subject}" for subject in subjects[:_SHOWN_SUBJECTS]]
    more = [f"  … and {len(subjects) - _SHOWN_SUBJECTS} more"] if len(subjects) > _SHOWN_SUBJECTS else []
    verb = "fixed" if finding["fixed"] else "with --fix" if finding["fixable"] else "fix"
    return "\n".join([f"{finding['problem']}: {len(subjects):,}", *shown, *more, f"  {verb}: {finding['fix']}"])


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
