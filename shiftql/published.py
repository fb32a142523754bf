"""The published results in shiftql/records as rows of the database, so that queries find them without a network."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from storage.database import Database
from storage.published import Published
from storage.published import keep_published as _keep_published

# Raise it whenever the records, or the rows made of them, change: every home then reads them again.
RECORDS_VERSION = 1


# The origin of what was measured here.
MEASURED = "measured"


@dataclass(frozen=True)
class PublishedTable:
    """A file of shiftql/records: `name` is the origin of its rows, and `protocol` how their values came about.

    `params` and `fidelity` are those of all its rows; `metrics` says of which datasets the value is no accuracy.
    """

    name: str
    modality: str | None
    protocol: str
    params: Mapping[str, Any] = field(default_factory=dict)
    fidelity: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)


_SHIFT, _TWO_PHASE = "SHiFT, arXiv 2204.01457", "two-phase selection, arXiv 2404.00069"

# Where several know a dataset and one has to be chosen, it is the first of them.
TABLES = (
    PublishedTable(
        "vision_1k", "image", f"{_SHIFT}: VTAB-1k, 800 rows to train and 200 to validate, 25 epochs", {"epochs": 25}
    ),
    PublishedTable("text_full", "text", f"{_SHIFT}: all rows, 1 epoch", {"epochs": 1}),
    PublishedTable("curves_nlp", "text", f"{_TWO_PHASE}: 5 epochs, test after the last", {"epochs": 5}),
    PublishedTable("two_phase_cv", "image", f"{_TWO_PHASE}: offline matrix"),
    PublishedTable("two_phase_nlp", "text", f"{_TWO_PHASE}: offline matrix", metrics={"cola": "matthews_correlation"}),
    PublishedTable("text_1k", "text", f"{_SHIFT}: 800 rows, 1 epoch", {"epochs": 1}, {"rows": 800}),
    PublishedTable("two_phase_leep", None, f"{_TWO_PHASE}: LEEP"),
)

# Of results that do not compare with each other what was measured here comes first, then table by table.
ORIGINS = (MEASURED, *(table.name for table in TABLES))

# Names that the hub has moved since, or that a table misspells.
_NOW = {
    "albert-base-v2": "albert/albert-base-v2",
    "bert-base-cased": "google-bert/bert-base-cased",
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "bert-large-uncased": "google-bert/bert-large-uncased",
    "bert_base_cased": "google-bert/bert-base-cased",
    "distilbert-base-uncased": "distilbert/distilbert-base-uncased",
    "roberta-base": "FacebookAI/roberta-base",
    "roberta-large": "FacebookAI/roberta-large",
}


def keep_published(database: Database) -> None:
    """Have the published results in the database; quick where they are."""
    _keep_published(database, RECORDS_VERSION, read_published)


def read_published() -> Published:
    """The rows of all tables, and the names of their models by every spelling."""
    rows: list[dict[str, Any]] = []
    spellings: dict[str, str] = {}
    for table in TABLES:
        for written, row in _rows(table):
            name = hub_name(written)
            spellings |= dict.fromkeys((written, name, name.replace("/", "--")), name)
            rows.append({**row, "model_name": name})
    return Published(rows, spellings)


def hub_name(written: str) -> str:
    """What the hub now calls a model.

    >>> hub_name("google--vit-base-patch16-224"), hub_name("roberta-base")
    ('google/vit-base-patch16-224', 'FacebookAI/roberta-base')
    """
    name = written.replace("--", "/", 1)
    return _NOW.get(name, name)


def _rows(table: PublishedTable) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each result of a table with the name of its model as it is written there."""
    runs: dict[tuple[str, str], list[dict[str, str]]] = {}
    text = files("shiftql").joinpath("records", f"{table.name}.csv").read_text(encoding="utf-8")
    for line in csv.DictReader(text.splitlines()):
        runs.setdefault((line.get("dataset") or line["target"], line["model"]), []).append(line)
    for (dataset, model), lines in runs.items():
        last = lines[-1]
        method = "leep" if "leep" in last else "finetune"
        value = next(last[name] for name in ("test_accuracy", "accuracy", "leep") if name in last)
        tried = {"lr": float(last["lr"]), "batch_size": int(last["batch_size"])} if "lr" in last else {}
        yield (
            model,
            {
                "origin": table.name,
                "dataset_name": dataset,
                "method": method,
                "metric": "leep" if method == "leep" else table.metrics.get(dataset, "accuracy"),
                "value": float(value),
                "cost_seconds": float(last["elapsed_s"]) if "elapsed_s" in last else None,
                "fidelity": json.dumps(dict(table.fidelity)),
                "params": json.dumps({**table.params, **tried}, sort_keys=True),
                "curve": json.dumps([float(line["val_accuracy"]) for line in lines] if "epoch" in last else []),
            },
        )
