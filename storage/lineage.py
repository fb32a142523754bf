"""Where a fine-tuned model comes from: kept with its row of the catalog and beside its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from storage.catalog import ModelRecord
from storage.evaluations import Subject

# In the model's directory; no part of the model's content.
LINEAGE_FILE = "lineage.json"


@dataclass(frozen=True)
class Lineage:
    """What a model was fine-tuned from, on and by.

    `asked` is the fingerprint of what the `statement` asked for, which was to fine-tune `models`; `evaluation` is that
    of the evaluation that won, of `parent`.
    `value` is what the model reached on the `metric`, on the part of the training rows that it was validated on.
    `content` is the model's fingerprint when it was kept, `registered` its version in MLflow's model registry, where it
    could be registered.
    """

    asked: str
    statement: str
    models: tuple[Subject, ...]
    evaluation: str
    parent: Subject
    datasets: tuple[Subject, ...]
    params: Mapping[str, Any]
    metric: str
    value: float
    content: str | None = None
    registered: str | None = None

    @property
    def json(self) -> str:
        """It as a JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, written: str) -> Lineage:
        """What `json` wrote."""
        told = json.loads(written)
        return cls(
            **{
                **{field.name: told.get(field.name) for field in fields(cls)},
                "parent": Subject(**told["parent"]),
                **{name: tuple(Subject(**each) for each in told[name]) for name in ("models", "datasets")},
            }
        )


def lineage_of(model: ModelRecord) -> Lineage | None:
    """The lineage of a model that FINETUNE made; None of any other."""
    return None if model.lineage is None else Lineage.from_json(model.lineage)


def subject_of(model: ModelRecord) -> Subject:
    """A model as what is evaluated."""
    return Subject(model.name, model.fingerprint)
