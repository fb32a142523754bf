"""What a model with a head says of new rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storage.catalog import Catalog, ModelRecord
from storage.database import Database
from storage.errors import StoreError
from storage.settings import current_settings
from storage.views import PREDICTIONS, PROBABILITIES
from tasks.embedding import unchanged_model
from tasks.readers.roles import Kind
from tasks.readers.unlabelled import Given, read_unlabelled
from tasks.sources import source_named
from tasks.sources.base import Model
from tasks.sources.untrusted import read_json

_OF_WORDS = "ForTokenClassification"
# A class of several is said to be there from this probability on.
_LIKELY = 0.5


def predict_rows(
    model: str, model_fingerprint: str, path: str, reader: str | None, options: Mapping[str, str]
) -> dict[str, Any]:
    """What a model says of every row at a path, read by a reader or by the one that is guessed.

    Returns `rows`, each with `row` (its number, from 0), `input` (what people recognise it by), `prediction` and
    `probability`; both are None where it cannot be read. `unread` counts those, and `first` says where and why the
    first is. Of a number that is predicted there is no probability, of the words of a row there are tags with spaces
    between and the mean of their probabilities, of several classes those that are likely, with commas between, and the
    probability of all that is said. Raises EvaluationError when the model cannot be opened, or does not fit the rows.
    """
    record = unchanged_model(Catalog(Database(current_settings())), model, model_fingerprint)
    takes: Kind = "image" if record.modality == "image" else "words" if _is_of_words(record) else "text"
    opened = source_named(record.source).open(record)
    rows: list[dict[str, Any]] = []
    problems = []
    try:
        for chunk in read_unlabelled(path, takes, reader, options):
            said = iter(_said_of(opened, record, [given for given in chunk if given.row is not None]))
            for given in chunk:
                prediction, probability = (None, None) if given.row is None else next(said)
                problems += [] if given.problem is None else [given.problem]
                shown = {"row": len(rows), "input": given.shown}
                rows.append({**shown, "prediction": prediction, "probability": probability})
    finally:
        opened.close()
    if len(problems) == len(rows):
        raise StoreError(
            problems[0] if problems else f"{path} has no rows", subject=path, fix="mend the rows, or name another file"
        )
    return {"rows": rows, "unread": len(problems), "first": problems[0] if problems else None}


def _is_of_words(model: ModelRecord) -> bool:
    return (model.architecture or "").endswith(_OF_WORDS)


def _said_of(opened: Model, model: ModelRecord, given: Sequence[Given]) -> Iterator[tuple[Any, float | None]]:
    """The prediction and its probability, row by row."""
    if not given:
        return
    prepared = opened.prepare([each.row for each in given])  # type: ignore[misc]
    view = PREDICTIONS if model.source == "huggingface" else PROBABILITIES
    said = opened.embed(prepared, [view])[view].astype(np.float64)
    names = json.loads(model.labels) or [str(number) for number in range(said.shape[1])]
    kind = _problem_of(model)
    if kind == "regression" or said.shape[1] == 1:
        yield from ((float(value), None) for value in said[:, 0])
    elif kind == "multi_label_classification":
        for row in said:
            is_there = row >= _LIKELY
            chosen = [name for name, is_said in zip(names, is_there, strict=True) if is_said]
            yield ", ".join(chosen), float(np.where(is_there, row, 1 - row).prod())
    elif _is_of_words(model):
        lengths = [len(each.row) for each in given]  # type: ignore[arg-type]
        for words in np.split(said, np.cumsum(lengths)[:-1]):
            yield " ".join(names[place] for place in words.argmax(axis=1)), float(words.max(axis=1).mean())
    else:
        yield from ((names[place], float(row[place])) for row, place in zip(said, said.argmax(axis=1), strict=True))


def _problem_of(model: ModelRecord) -> str | None:
    """What kind of answers a Hugging Face model was trained to give, where its config tells."""
    return read_json(Path(model.path) / "config.json").get("problem_type") if model.source == "huggingface" else None
