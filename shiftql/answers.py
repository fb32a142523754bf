"""Answers: what a statement brought, as Python objects, as JSON, as a pandas frame and in a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from storage.errors import PositionedError, ShiftError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What every answer has: the statement as written and the seconds it took."""

    statement: str
    seconds: float

    kind = "done"

    def to_json(self) -> dict[str, Any]:
        """The answer as one JSON object."""
        return {"statement": self.statement, "kind": self.kind, "seconds": round(self.seconds, 4)}

    def to_pandas(self) -> pd.DataFrame:
        """The answer's rows as a DataFrame, empty where there are none."""
        import pandas as pd

        return pd.DataFrame(self._table(), columns=self._columns())

    def _table(self) -> Sequence[Mapping[str, Any]]:
        return ()

    def _columns(self) -> list[str] | None:
        return None

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.statement)}</p>{self.to_pandas().to_html(index=False)}"


@dataclass(frozen=True, kw_only=True)
class RowsAnswer(Answer):
    """The rows of a question about the catalog and what is recorded.

    `failed` lists datasets that could not be embedded, and those that could not be compared.
    """

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    failed: tuple[Mapping[str, str], ...] = ()

    kind = "rows"

    def to_json(self) -> dict[str, Any]:
        failed = {"failed": list(self.failed)} if self.failed else {}
        # Where there are rows they tell the columns.
        columns = {} if self.rows else {"columns": list(self.columns)}
        return {**super().to_json(), "rows": [dict(row) for row in self.rows], **columns, **failed}

    def _table(self) -> Sequence[Mapping[str, Any]]:
        return self.rows

    def _columns(self) -> list[str]:
        return list(self.columns)


@dataclass(frozen=True, kw_only=True)
class MatrixAnswer(RowsAnswer):
    """A row for each model, with a column for each dataset: what it is measured at there, None where that is unknown.

    `metrics` says by dataset what the values are. `failed` lists cells, `refused` models and datasets that `method`
    is not for. `evaluated` and `reused` count cells; `left` are still unknown, and predicted to cost `left_seconds`.
    Of a matrix that is only planned, `upcoming` are the cells to be measured next, in order, as far as a budget pays
    for them, and `expected` the predicted seconds of all unknown ones by model and dataset.
    """

    method: str
    metrics: Mapping[str, str | None]
    refused: tuple[Mapping[str, str], ...]
    evaluated: int
    reused: int
    spent_seconds: float
    left: int
    left_seconds: float
    interrupted: bool = False
    upcoming: tuple[Mapping[str, Any], ...] | None = None
    expected: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @property
    def has_values(self) -> bool:
        """Whether anything is known."""
        _, *datasets = self.columns
        return any(row[dataset] is not None for row in self.rows for dataset in datasets)

    def to_json(self) -> dict[str, Any]:
        return {
            **super().to_json(),
            "method": self.method,
            "metrics": dict(self.metrics),
            "failed": list(self.failed),
            "refused": list(self.refused),
            "evaluated": self.evaluated,
            "reused": self.reused,
            "spent_seconds": round(self.spent_seconds, 3),
            "left": {"cells": self.left, "predicted_seconds": round(self.left_seconds, 3)},
            "partial": self.interrupted or self.left > 0,
            **({} if self.upcoming is None else {"next": list(self.upcoming)}),
        }


@dataclass(frozen=True, kw_only=True)
class RankingAnswer(Answer):
    """Models ranked by one or several rankers.

    `rankings` maps each ranker's label to its rows, best first. `failed` lists models that could not be
    evaluated. `evaluated` and `reused` count evaluations. One that is `partial` was ended by a limit, or, when
    `interrupted`, by the user. `running` are models still being evaluated elsewhere, None where the answer was waited
    for. `chance` is the probability that the first model is within 1 % of the best, where a strategy tells it. `begun`
    are trainings that a partial one saw no end of, best first: `model`, `lr`, `epochs` until the checkpoint that they
    go on from, `of` how many, and the `score` by then.
    """

    rankings: Mapping[str, tuple[Mapping[str, Any], ...]]
    failed: tuple[Mapping[str, str], ...] = ()
    evaluated: int = 0
    reused: int = 0
    partial: bool = False
    interrupted: bool = False
    running: tuple[str, ...] | None = None
    chance: float | None = None
    begun: tuple[Mapping[str, Any], ...] = ()
    work: Mapping[str, Any] = field(default_factory=dict)

    kind = "ranking"

    @property
    def ranking(self) -> list[Mapping[str, Any]]:
        """The first ranker's ranking; baselines stand at its end, without a rank."""
        return list(next(iter(self.rankings.values())))

    def to_json(self) -> dict[str, Any]:
        several = {"rankings": {label: list(rows) for label, rows in self.rankings.items()}}
        return {
            **super().to_json(),
            "ranking": self.ranking,
            **(several if len(self.rankings) > 1 else {}),
            "failed": list(self.failed),
            "evaluated": self.evaluated,
            "reused": self.reused,
            "partial": self.partial,
            **({} if self.running is None else {"running": list(self.running)}),
            **({} if self.chance is None else {"chance": self.chance}),
            **({"begun": list(self.begun)} if self.begun else {}),
            "work": dict(self.work),
        }

    def _table(self) -> Sequence[Mapping[str, Any]]:
        if len(self.rankings) == 1:
            return self.ranking
        return [{"ranker": label, **row} for label, rows in self.rankings.items() for row in rows]

    def _repr_html_(self) -> str:
        failed = "".join(f"<li>{html.escape(f['model'])}: {html.escape(f['reason'])}</li>" for f in self.failed)
        return super()._repr_html_() + (f"<p>failed</p><ul>{failed}</ul>" if failed else "")


@dataclass(frozen=True, kw_only=True)
class FinetuneAnswer(RankingAnswer):
    """Fine-tuned models, a row for each with each combination of arguments, best on validation first.

    `kept` is the model that is kept of them: `name`, `path`, `fingerprint`, `parent`, the `load`ing lines, and the
    `registered` name and version in MLflow's model registry. None where none is.
    """

    kept: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "kept": None if self.kept is None else dict(self.kept)}

    def _repr_html_(self) -> str:
        if self.kept is None:
            return super()._repr_html_()
        lines = html.escape("\n".join(self.kept["load"]))
        return super()._repr_html_() + f"<p>kept as {html.escape(self.kept['name'])}</p><pre>{lines}</pre>"


@dataclass(frozen=True, kw_only=True)
class ExplainAnswer(Answer):
    """A plan: `text` is the tree for people, `plan` the same for programs, which `as_json` asks to be shown."""

    text: str
    plan: Mapping[str, Any]
    as_json: bool = False

    kind = "explain"

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "plan": dict(self.plan), "text": self.text}

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"


@dataclass(frozen=True, kw_only=True)
class TextAnswer(Answer):
    """What was done, or is explained, in words."""

    text: str

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "text": self.text}

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"


def said(text: str) -> TextAnswer:
    """What a statement that is no question is answered."""
    return TextAnswer(statement="", seconds=0.0, text=text)


@dataclass(frozen=True, kw_only=True)
class RunAnswer(TextAnswer):
    """That a run goes on at a server: its id, and its page there."""

    flow_run_id: str
    url: str

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "flow_run_id": self.flow_run_id, "url": self.url}


@dataclass(frozen=True, kw_only=True)
class ErrorAnswer(Answer):
    """A statement that failed; it changed nothing."""

    error: ShiftError

    kind = "error"

    def to_json(self) -> dict[str, Any]:
        placed = self.error if isinstance(self.error, PositionedError) else None
        return {
            "statement": self.statement,
            "kind": self.kind,
            "error": {
                "type": type(self.error).__name__,
                "message": self.error.message + (f" (fix: {self.error.fix})" if self.error.fix else ""),
                "line": placed.line if placed else None,
                "column": placed.column if placed else None,
                "length": placed.length if placed else None,
                "allowed": list(self.error.allowed),
                "fix": self.error.fix,
            },
        }
