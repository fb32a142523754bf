"""Every error SHiFT raises on purpose.

ShiftError
├── QuerySyntaxError    the text is not SHiFT-QL; knows line, column and caret
├── BindingError        a name, column, ranker or argument that does not exist or does not fit
├── PlanError           a bound statement that cannot be planned or executed
├── EvaluationError     one model could not be loaded, embedded, scored or fine-tuned
└── StoreError          the catalog, result store or feature store cannot be read or written
    └── LostFeaturesError   stored features are damaged or gone, and are to be computed anew

A message says what is wrong; `allowed` and `fix` say what would be right and how to get there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from storage.names import near

# Where more is allowed than people read through, the nearest are shown.
_READABLE, _NEAREST = 30, 10


class ShiftError(Exception):
    """Root of all deliberate errors: what is wrong, where, what is allowed, how to mend it."""

    def __init__(
        self,
        message: str,
        *,
        subject: str | None = None,
        allowed: Sequence[str] = (),
        fix: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.allowed = tuple(allowed)
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.message]
        if self.allowed:
            lines.append(f"allowed: {', '.join(self._shown_of_allowed())}")
        if self.fix:
            lines.append(f"fix: {self.fix}")
        return "\n".join(lines)

    @property
    def reason(self) -> str:
        """What is wrong and how to mend it, in one line."""
        return f"{self.message}; {self.fix}" if self.fix else self.message

    def _shown_of_allowed(self) -> Sequence[str]:
        if len(self.allowed) <= _READABLE:
            return self.allowed
        nearest = self.allowed[:_NEAREST] if self.subject is None else near(self.subject, self.allowed, _NEAREST, 0)
        return [*nearest, f"… and {len(self.allowed) - len(nearest)} more"]


class PositionedError(ShiftError):
    """An error at a place in a query: `line` and `column` count from 1, `length` is the caret's width."""

    def __init__(
        self,
        message: str,
        *,
        text: str = "",
        line: int | None = None,
        column: int | None = None,
        length: int = 1,
        subject: str | None = None,
        allowed: Sequence[str] = (),
        fix: str | None = None,
    ) -> None:
        super().__init__(message, subject=subject, allowed=allowed, fix=fix)
        self.text = text
        self.line = line
        self.column = column
        self.length = length

    def __str__(self) -> str:
        rendered = super().__str__()
        if self.line is None or self.column is None:
            return rendered
        head, *rest = rendered.split("\n")
        source = self.text.split("\n")[self.line - 1] if self.text else ""
        before, under = source[: self.column - 1], source[self.column - 1 :][: self.length]
        gutter = f"{self.line:>4} | "
        caret = " " * (len(gutter) + _width(before)) + "^" * max(1, _width(under))
        place = f"line {self.line}, column {self.column}: {head}"
        return "\n".join([place, f"{gutter}{''.join(map(_shown, source))}", caret, *rest])


def _shown(character: str) -> str:
    """A character that takes the room `_width` says: tabs and other controls are shown as a blank."""
    return " " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character


def _width(text: str) -> int:
    """Columns of a terminal: East Asian wide characters take two, combining and invisible ones none (UAX #11)."""
    return sum(
        0
        if unicodedata.category(character) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )


class QuerySyntaxError(PositionedError):
    """The text is not SHiFT-QL."""


class BindingError(PositionedError):
    """A name, column, ranker or argument does not exist, or does not fit where it stands."""


class PlanError(PositionedError):
    """The statement is understood and cannot be planned or executed."""


class EvaluationError(ShiftError):
    """One model could not be evaluated. `transient` errors are worth trying again on the same files."""

    def __init__(
        self, message: str, *, transient: bool = False, subject: str | None = None, fix: str | None = None
    ) -> None:
        super().__init__(message, subject=subject, fix=fix)
        self.transient = transient


class StoreError(ShiftError):
    """The catalog, the result store or the feature store cannot be read or written."""


class LostFeaturesError(StoreError):
    """Stored features are damaged or gone. `was` says which, for "features … were damaged" or "… deleted meanwhile"."""

    def __init__(self, message: str, *, was: str, subject: str | None = None, fix: str | None = None) -> None:
        super().__init__(message, subject=subject, fix=fix)
        self.was = was
