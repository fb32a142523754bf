"""An evaluation as the tags of its MLflow run, and back: a run holds all of its row of the index."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from storage.errors import StoreError
from storage.fingerprints import fingerprint_of
from storage.results import EvaluationRecord

FINGERPRINT_TAG = "shift.fingerprint"
ATTEMPT_TAG = "shift.attempt"
# MLflow refuses longer values; what is longer goes on in `<tag>.1`, `<tag>.2`, …
_LONGEST_TAG = 8000

_TEXT: tuple[Callable[[Any], str], Callable[[str], Any]] = (str, str)
_WHOLE = (str, int)
_NUMBER = (repr, float)
_TRUTH = (str, "True".__eq__)
_BYTES = (bytes.hex, bytes.fromhex)

# By the column of the index: its tag, and how its value is written and read.
_TAGS: Mapping[str, tuple[str, tuple[Callable[[Any], str], Callable[[str], Any]]]] = {
    "fingerprint": (FINGERPRINT_TAG, _TEXT),
    "token": (ATTEMPT_TAG, _WHOLE),
    "status": ("shift.status", _TEXT),
    "model_name": ("shift.model", _TEXT),
    "model_fingerprint": ("shift.model_fingerprint", _TEXT),
    "train_name": ("shift.train", _TEXT),
    "train_fingerprint": ("shift.train_fingerprint", _TEXT),
    "test_name": ("shift.test", _TEXT),
    "test_fingerprint": ("shift.test_fingerprint", _TEXT),
    "method": ("shift.method", _TEXT),
    "version": ("shift.version", _TEXT),
    "params": ("shift.params", _TEXT),
    "fidelity": ("shift.fidelity", _TEXT),
    "metric": ("shift.metric", _TEXT),
    "value": ("shift.value", _NUMBER),
    "higher_is_better": ("shift.higher_is_better", _TRUTH),
    "n_test": ("shift.n_test", _WHOLE),
    "per_row_correct": ("shift.per_row_correct", _BYTES),
    "replicates": ("shift.replicates", _BYTES),
    "layer": ("shift.layer", _TEXT),
    "vector": ("shift.vector", _BYTES),
    "metrics": ("shift.metrics", _TEXT),
    "curve": ("shift.curve", _TEXT),
    "cost_seconds": ("shift.cost_seconds", _NUMBER),
    "reason": ("shift.reason", _TEXT),
    "transient": ("shift.transient", _TRUTH),
    "recorded": ("shift.recorded", _NUMBER),
}
# What every recorded row has.
_NEEDED = tuple(
    tag
    for column, (tag, _) in _TAGS.items()
    if EvaluationRecord.model_fields[column].is_required() or column in ("metrics", "curve", "recorded")
)


def identity_of(row: EvaluationRecord) -> dict[str, str]:
    """What tells a row's run from all others; a transient failure and the attempt after it are two runs."""
    return {FINGERPRINT_TAG: row.fingerprint, ATTEMPT_TAG: str(row.token)}


def tags_of(row: EvaluationRecord) -> dict[str, str]:
    """A recorded row as tags; what is null has none."""
    tags = {}
    for column, (tag, (write, _)) in _TAGS.items():
        if (value := getattr(row, column)) is not None:
            written = write(value)
            for number, start in enumerate(range(0, max(1, len(written)), _LONGEST_TAG)):
                tags[f"{tag}.{number}" if number else tag] = written[start : start + _LONGEST_TAG]
    return tags


def row_of(run_id: str, tags: Mapping[str, str]) -> EvaluationRecord:
    """The row whose tags these are. Raises StoreError when they are not all there, or make another fingerprint."""
    if missing := [tag for tag in _NEEDED if tag not in tags]:
        raise StoreError(f"its tag {missing[0]} is missing", subject=run_id)
    try:
        columns = {column: read(_joined(tag, tags)) for column, (tag, (_, read)) in _TAGS.items() if tag in tags}
        made = fingerprint_of(
            columns["model_fingerprint"],
            columns["train_fingerprint"],
            columns.get("test_fingerprint"),
            columns["method"],
            columns["version"],
            json.loads(columns["params"]),
            json.loads(columns["fidelity"]),
        )
    except ValueError as error:
        raise StoreError(f"its tags cannot be read: {error}", subject=run_id) from error
    if made != columns["fingerprint"] or (columns["status"] == "completed" and "value" not in columns):
        raise StoreError("its tags are not those of one evaluation", subject=run_id)
    return EvaluationRecord(**columns, owner="", heartbeat=columns["recorded"], mlflow_run_id=run_id)


def _joined(tag: str, tags: Mapping[str, str]) -> str:
    """The value of a tag and of those it goes on in."""
    pieces = [tags[tag]]
    while (piece := tags.get(f"{tag}.{len(pieces)}")) is not None:
        pieces.append(piece)
    return "".join(pieces)
