"""Answers that come from a distance, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from shiftql.answers import (
    Answer,
    ErrorAnswer,
    ExplainAnswer,
    FinetuneAnswer,
    MatrixAnswer,
    RankingAnswer,
    RowsAnswer,
    TextAnswer,
)
from storage import errors
from storage.errors import PositionedError, ShiftError, StoreError


def read_answer(told: Mapping[str, Any]) -> Answer:
    """The answer that was told by its `to_json`."""
    basis: dict[str, Any] = {"statement": told["statement"], "seconds": float(told.get("seconds", 0.0))}
    match told["kind"]:
        case "ranking":
            ranking: dict[str, Any] = {
                **basis,
                "rankings": {label: tuple(rows) for label, rows in told.get("rankings", {"": told["ranking"]}).items()},
                "failed": tuple(told["failed"]),
                "evaluated": told["evaluated"],
                "reused": told["reused"],
                "partial": told["partial"],
                "running": None if "running" not in told else tuple(told["running"]),
                "chance": told.get("chance"),
                "begun": tuple(told.get("begun", ())),
                "work": told["work"],
            }
            return FinetuneAnswer(**ranking, kept=told["kept"]) if "kept" in told else RankingAnswer(**ranking)
        case "rows" if "method" in told:
            return _read_matrix(basis, told)
        case "rows":
            return RowsAnswer(**basis, **_rows(told))
        case "explain":
            return ExplainAnswer(**basis, text=told["text"], plan=told["plan"], as_json=told.get("as_json", False))
        case "error":
            return ErrorAnswer(**basis, error=read_error(told["error"], told["statement"]))
        case _:
            return TextAnswer(**basis, text=told["text"]) if "text" in told else Answer(**basis)


def read_error(told: Mapping[str, Any], text: str) -> ShiftError:
    """The error that was told by an ErrorAnswer, in the text it stands in."""
    fix, allowed = told.get("fix"), told.get("allowed", ())
    message = told["message"].removesuffix(f" (fix: {fix})") if fix else told["message"]
    kind: type[ShiftError] = getattr(errors, str(told["type"]), StoreError)
    if issubclass(kind, PositionedError):
        line, column, length = told["line"], told["column"], told.get("length") or 1
        return kind(message, text=text, line=line, column=column, length=length, allowed=allowed, fix=fix)
    return StoreError(message, allowed=allowed, fix=fix)


def _rows(told: Mapping[str, Any]) -> dict[str, Any]:
    rows = tuple({column: _read_time(value) for column, value in row.items()} for row in told["rows"])
    columns = tuple(rows[0]) if rows else tuple(told.get("columns", ()))
    return {"columns": columns, "rows": rows, "failed": tuple(told.get("failed", ()))}


def _read_time(value: Any) -> Any:
    """A point in time where a value is the text that JSON has of one; anything else as it is."""
    if isinstance(value, str) and "T" in value[10:11]:
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    return value


def _read_matrix(basis: Mapping[str, Any], told: Mapping[str, Any]) -> MatrixAnswer:
    return MatrixAnswer(
        **basis,
        **_rows(told),
        method=told["method"],
        metrics=told["metrics"],
        refused=tuple(told["refused"]),
        evaluated=told["evaluated"],
        reused=told["reused"],
        spent_seconds=told["spent_seconds"],
        left=told["left"]["cells"],
        left_seconds=told["left"]["predicted_seconds"],
        upcoming=None if "next" not in told else tuple(told["next"]),
    )
