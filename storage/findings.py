"""What is wrong in the stores, and how it is put right."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from storage.errors import ShiftError


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with several subjects, and how it is mended; `mend` is None where only a person can."""

    problem: str
    subjects: tuple[str, ...]
    fix: str
    mend: Callable[[], object] | None = None
    fixed: bool = False

    def mended(self) -> Finding:
        """The finding after it was mended; as it was, with the reason, where it cannot be."""
        if self.mend is None:
            return self
        try:
            self.mend()
        except ShiftError as error:
            return replace(self, fix=f"{self.fix}, which failed: {error.message}")
        return replace(self, fixed=True)

    def to_json(self) -> dict[str, Any]:
        return {
            "problem": self.problem,
            "subjects": list(self.subjects),
            "fix": self.fix,
            "fixable": self.mend is not None,
            "fixed": self.fixed,
        }


def finding(
    problem: str, subjects: Iterable[str], fix: str, mend: Callable[[], object] | None = None
) -> tuple[Finding, ...]:
    """One finding about the subjects, none where there are no subjects."""
    named = tuple(subjects)
    return (Finding(problem, named, fix, mend),) if named else ()
