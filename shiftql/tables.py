"""Answers as tables of text, worded for people: what the terminal draws and Markdown writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shiftql.wording import worded_seconds
from storage.views import LAST, PROBABILITIES

# What every row of a ranking says besides the selected columns.
RANKING_KEYS = (
    "rank",
    "model",
    "score",
    "metric",
    "higher_is_better",
    "low",
    "high",
    "tied",
    "n_test",
    "layer",
    "baseline",
    "predicted",
    "collapsed",
)
TIED = "≈"

# Columns whose size matters, not their last digit.
_ABBREVIATED = {"num_params", "size_bytes"}

# What is scored where a question names no layer: the last one, or what rankers take in its place.
_USUAL_LAYERS = (None, LAST.layer, PROBABILITIES.layer)
# Of a long list.
_SHOWN_NUMBERS = 3


@dataclass(frozen=True)
class TextTable:
    """A table of text. `beneath` are the rows beneath a rule; `numeric` columns are aligned to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    beneath: tuple[tuple[str, ...], ...] = ()
    numeric: frozenset[str] = frozenset()


class Verbatim(str):
    """Text to be copied: no line of it is broken, however wide it is."""

    __slots__ = ()


def tabulate_rows(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> TextTable:
    """The columns of rows, in that order."""
    return TextTable(
        header=tuple(columns),
        rows=tuple(tuple(_worded(column, row[column]) for column in columns) for row in rows),
        numeric=frozenset(column for column in columns if _is_numeric(row[column] for row in rows)),
    )


def tabulate_matrix(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], expected: Mapping[tuple[str, str], float]
) -> TextTable:
    """A matrix with a row for each model; what is not known is blank, or what it is expected to cost."""
    model, *datasets = columns

    def worded(name: str, dataset: str, value: float | None) -> str:
        seconds = expected.get((name, dataset))
        return _score(value) if seconds is None else worded_seconds(seconds)

    lines = [(row[model], *(worded(row[model], dataset, row[dataset]) for dataset in datasets)) for row in rows]
    return TextTable(header=tuple(columns), rows=tuple(lines), numeric=frozenset(datasets))


def tabulate_record(record: Mapping[str, Any]) -> TextTable:
    """One row, a line for each of its columns."""
    return TextTable(
        header=("column", "value"),
        rows=tuple((column, _worded(column, value)) for column, value in record.items()),
    )


def tabulate_ranking(ranking: Sequence[Mapping[str, Any]]) -> TextTable:
    """A ranking, best first, its baselines beneath; `≈` marks what the test rows cannot tell from the best.

    Layers are shown where any is another than the usual, and what is predicted rather than measured as such.
    """
    selected = selected_columns(ranking)
    if all(row.get("name", row["model"]) == row["model"] for row in ranking):
        selected = [column for column in selected if column != "name"]
    layers = ["layer"] if any(row["layer"] not in _USUAL_LAYERS for row in ranking) else []
    interval = "interval" if any(row.get("predicted") for row in ranking) else "95 % interval"
    header = ["rank", "model", *selected, "score", interval, "tied", "metric", "n test", *layers]
    lines = [
        (
            _worded("rank", row["rank"]),
            _worded("model", row["model"]),
            *(_worded(column, row.get(column)) for column in selected),
            _score(row["score"]),
            "" if row["low"] is None else f"{_score(row['low'])} – {_score(row['high'])}",
            TIED if row["tied"] else "",
            f"predicted {row['metric']}" if row.get("predicted") else _worded("metric", row["metric"]),
            _worded("n test", row["n_test"]),
            *(_worded(column, row[column]) for column in layers),
        )
        for row in ranking
    ]
    numeric = {column for column in selected if _is_numeric(row.get(column) for row in ranking)}
    return TextTable(
        header=tuple(header),
        rows=tuple(line for line, row in zip(lines, ranking, strict=True) if not row.get("baseline")),
        beneath=tuple(line for line, row in zip(lines, ranking, strict=True) if row.get("baseline")),
        numeric=frozenset(numeric | {"rank", "score", interval, "n test"}),
    )


def selected_columns(ranking: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of a ranking that the query selected."""
    return list(dict.fromkeys(column for row in ranking for column in row if column not in RANKING_KEYS))


def _worded(column: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() if column in _ABBREVIATED:
            return abbreviate(value)
        case float():
            return f"{value:.4g}"
        case datetime():
            return value.isoformat()
        case Mapping():
            return ", ".join(f"{name}={each}" for name, each in value.items())
        case list() if len(value) > _SHOWN_NUMBERS and all(isinstance(each, float) for each in value):
            return f"{', '.join(f'{each:.2g}' for each in value[:_SHOWN_NUMBERS])}, … ({len(value)} numbers)"
        case list():
            return ", ".join(map(str, value))
        case _:
            return " ".join(str(value).split())


def abbreviate(number: int) -> str:
    """Three digits and a suffix of the language: 12345678 is 12.3M.

    >>> abbreviate(845), abbreviate(84_512), abbreviate(999_999)
    ('845', '84.5K', '1M')
    """
    rounded = float(f"{number:.3g}")
    for suffix, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if rounded >= size:
            return f"{rounded / size:.3g}{suffix}"
    return str(number)


def _score(score: float | None) -> str:
    if score is None:
        return ""
    text = f"{score:.3f}"
    # Models whose scores are all tiny must be told apart.
    return text if score == 0 or float(text) != 0 else f"{score:.1e}"


def _is_numeric(values: Any) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
