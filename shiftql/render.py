"""Answers and catalog records in the formats a person or a program asks for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from shiftql.answers import Answer, ExplainAnswer, FinetuneAnswer, MatrixAnswer, RankingAnswer, RowsAnswer, TextAnswer
from shiftql.tables import (
    RANKING_KEYS,
    TIED,
    TextTable,
    Verbatim,
    selected_columns,
    tabulate_matrix,
    tabulate_ranking,
    tabulate_record,
    tabulate_rows,
)
from shiftql.wording import worded_seconds

# No stated probability is surer than this.
_CERTAIN = 0.99
# A vertical bar inside a cell of a Markdown table.
BAR = r"\|"
# Of the cells that would be measured.
_SHOWN_CELLS = 3


def render(answer: Answer, format: str, *, width: int | None = None, colour: bool = False) -> str:
    """The answer as table, json (one line), csv or markdown.

    A table keeps to `width` characters; None sets no limit. JSON and CSV hold raw values, the others are worded
    for people. CSV holds rows alone: what failed is not in it.
    """
    if format == "json":
        return _as_json(answer.to_json())
    if format == "csv":
        return _as_csv(*_raw_rows(answer))
    if format == "markdown" and isinstance(answer, ExplainAnswer):
        return f"```\n{_parts(answer)[0]}\n```"
    return _for_people(_parts(answer), format, width, colour)


def render_records(
    records: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    format: str,
    *,
    width: int | None = None,
    colour: bool = False,
) -> str:
    """Catalog records as one JSON list or as CSV with all they hold, or these columns of them as a table."""
    if format == "json":
        return _as_json(list(records))
    if format == "csv":
        return _as_csv(list(records[0]) if records else columns, records)
    return _for_people([tabulate_rows(columns, records)], format, width, colour)


def render_record(record: Mapping[str, Any], format: str, *, width: int | None = None, colour: bool = False) -> str:
    """One catalog record with all it holds: a JSON object, a row of CSV or a table of two columns."""
    if format == "json":
        return _as_json(record)
    if format == "csv":
        return _as_csv(list(record), [record])
    return _for_people([tabulate_record(record)], format, width, colour)


def _parts(answer: Answer) -> list[TextTable | str]:
    """What people read of an answer, from top to bottom."""
    match answer:
        case MatrixAnswer():
            return _matrix_parts(answer)
        case RowsAnswer():
            count = "1 row" if len(answer.rows) == 1 else f"{len(answer.rows)} rows"
            failed = [_listed("failed", _with_reasons(answer.failed, "dataset"))] if answer.failed else []
            return [tabulate_rows(answer.columns, answer.rows), *failed, f"{count}, {_seconds(answer)}"]
        case RankingAnswer():
            return _ranking_parts(answer)
        case ExplainAnswer(as_json=True):
            return [json.dumps(answer.plan, indent=2, ensure_ascii=False)]
        case ExplainAnswer() | TextAnswer():
            return [answer.text]
        case _:
            return [f"done, {_seconds(answer)}"]


def _ranking_parts(answer: RankingAnswer) -> list[TextTable | str]:
    parts: list[TextTable | str] = []
    for label, ranking in answer.rankings.items():
        if len(answer.rankings) > 1:
            parts += ["", f"by {label}"] if parts else [f"by {label}"]
        if not ranking and (answer.failed or answer.partial):
            continue
        table = tabulate_ranking(ranking)
        parts.append(table)
        if any(TIED in row for row in (*table.rows, *table.beneath)):
            rows = "validation" if isinstance(answer, FinetuneAnswer) else "test"
            parts.append(f"{TIED} the {rows} rows cannot tell it from the best")
        if any(row.get("predicted") for row in ranking):
            parts.append("intervals: 95 % of what was measured, 90 % of what is predicted")
        if collapsed := dict.fromkeys(row["model"] for row in ranking if row.get("collapsed")):
            parts.append(f"collapsed, telling all rows alike: {', '.join(collapsed)}")
    if answer.chance is not None:
        likely = f"{answer.chance:.2f}" if answer.chance < _CERTAIN else f"over {_CERTAIN}"
        parts.append(f"the first is within 1 % of the best there is with a probability of {likely}")
    if answer.failed:
        parts.append(_listed("failed", _with_reasons(answer.failed, "model")))
    if answer.begun:
        parts.append(_listed("begun, and gone on with when asked again", map(_worded_begun, answer.begun)))
    if answer.running:
        unfinished = f"; still being evaluated: {', '.join(answer.running)}"
    else:
        unfinished = "; interrupted or out of budget, the best so far" if answer.partial else ""
    parts.append(f"evaluated {answer.evaluated}, reused {answer.reused}, {_seconds(answer)}{unfinished}")
    if isinstance(answer, FinetuneAnswer) and answer.kept is not None:
        parts += [f"kept as {answer.kept['name']}, which loads with", Verbatim("\n".join(answer.kept["load"]))]
    return parts


def _worded_begun(training: Mapping[str, Any]) -> tuple[str, str]:
    """Which training it is, and how far it is."""
    epochs = f"{training['epochs']} of {training['of']} epochs"
    return f"{training['model']} (lr {training['lr']:g})", f"{epochs}, {training['metric']} {training['score']:.3f}"


def _matrix_parts(answer: MatrixAnswer) -> list[TextTable | str]:
    parts: list[TextTable | str] = [
        f"{_metrics(answer)} by {answer.method}",
        tabulate_matrix(answer.columns, answer.rows, answer.expected),
    ]
    if answer.failed:
        cells = [(f"{failure['model']} on {failure['dataset']}", failure["reason"]) for failure in answer.failed]
        parts.append(_listed("failed", cells))
    if answer.refused:
        parts.append(
            _listed(
                "refused", [(each.get("model", each.get("dataset", "")), each["reason"]) for each in answer.refused]
            )
        )
    left = f"{_cells(answer.left)} left: {worded_seconds(answer.left_seconds)}" if answer.left else "no cell is left"
    if answer.upcoming is None:
        spent = f"{answer.spent_seconds:.1f} s of evaluations"
        done = f"evaluated {answer.evaluated}, reused {answer.reused}, {spent}"
        parts.append(f"{done if answer.evaluated else f'{_cells(answer.reused)} known'}; {left}")
    else:
        parts.append(f"{_cells(answer.reused)} known, {left}")
        if answer.left:
            parts.append(_upcoming(answer))
    return parts


def _metrics(answer: MatrixAnswer) -> str:
    metrics = list(dict.fromkeys(metric for metric in answer.metrics.values() if metric))
    if len(metrics) < 2:
        return "".join(metrics) or "measured"
    return ", ".join(f"{metric} of {dataset}" for dataset, metric in answer.metrics.items())


def _upcoming(answer: MatrixAnswer) -> str:
    """What would be measured, and with what it would begin."""
    cells = answer.upcoming or ()
    if not cells:
        return "the budget pays for none of them"
    seconds = worded_seconds(sum(each["predicted_seconds"] for each in cells))
    number = "all of them" if len(cells) == answer.left else f"{_cells(len(cells))}, {seconds}"
    first = [f"{each['model']} on {each['dataset']}" for each in cells[:_SHOWN_CELLS]]
    return f"to be measured: {number}, beginning with {', '.join(first)}"


def _cells(number: int) -> str:
    return f"{number:,} cell" if number == 1 else f"{number:,} cells"


def _with_reasons(failures: Iterable[Mapping[str, str]], kind: str) -> list[tuple[str, str]]:
    return [(failure[kind], failure["reason"]) for failure in failures]


def _listed(title: str, reasons: Iterable[tuple[str, str]]) -> str:
    """What failed or was refused with its reason, line by line; what is for the same reason in one."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons:
        names.setdefault(reason, []).append(name)
    return "\n".join([title, *(f"- {', '.join(each)}: {reason}" for reason, each in names.items())])


def _seconds(answer: Answer) -> str:
    return f"{answer.seconds:.{1 if answer.seconds >= 1 else 2}f} s"


def _raw_rows(answer: Answer) -> tuple[Sequence[str], Sequence[Mapping[str, Any]]]:
    """Columns and rows of an answer, nothing reworded."""
    match answer:
        case RowsAnswer():
            return answer.columns, answer.rows
        case RankingAnswer():
            ranker = ["ranker"] if len(answer.rankings) > 1 else []
            rows = [{"ranker": label, **row} for label, ranking in answer.rankings.items() for row in ranking]
            selected = [column for column in selected_columns(rows) if column != "ranker"]
            return [*ranker, *RANKING_KEYS, *selected], rows
        case ExplainAnswer():
            return ["plan"], [{"plan": line} for line in answer.text.splitlines()]
        case TextAnswer():
            return ["text"], [{"text": line} for line in answer.text.splitlines()]
        case _:
            return [], []


def _for_people(parts: Iterable[TextTable | str], format: str, width: int | None, colour: bool) -> str:
    if format == "markdown":
        return "\n\n".join(map(_as_markdown, parts))
    # rich takes a tenth of a second to import, which other formats need not pay.
    from shiftql.drawing import draw

    return draw(*parts, width=width, colour=colour)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=datetime.isoformat)


def _as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_raw(row.get(column)) for column in columns] for row in rows)
    return written.getvalue().removesuffix("\n")


def _raw(value: Any) -> Any:
    match value:
        case bool() | list() | dict():
            return _as_json(value)
        case datetime():
            return value.isoformat()
        case _:
            return value


def _as_markdown(table: TextTable | str) -> str:
    if isinstance(table, str):
        return f"```python\n{table}\n```" if isinstance(table, Verbatim) else table
    ruler = ["--:" if column in table.numeric else "---" for column in table.header]
    lines = [table.header, ruler, *table.rows, *table.beneath]
    return "\n".join(f"| {' | '.join(cell.replace('|', BAR) for cell in line)} |" for line in lines)
