"""Which of fine-tuned models is kept, whether it is kept already, and how it is loaded elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from shiftql.bound import BoundFinetune
from shiftql.plan import Finetune
from storage.catalog import Catalog, ModelRecord
from storage.database import Database
from storage.evaluations import Evaluation, Measurement
from storage.lineage import lineage_of
from storage.results import ResultStore

_PROCESSORS = {"image": "AutoImageProcessor", "text": "AutoTokenizer"}
# How architectures with a head end, which transformers has a class for that opens them.
_HEADS = ("ForImageClassification", "ForSequenceClassification", "ForTokenClassification")


class Winner(NamedTuple):
    """The best on validation of what was fine-tuned, and what came out."""

    evaluation: Evaluation
    measurement: Measurement


def winner_of(plan: Finetune, measured: Mapping[str, Measurement]) -> Winner | None:
    """The best of the plan by what is measured, the one that its ranking begins with; None where nothing is."""
    completed = [
        Winner(planned.evaluation, outcome)
        for evaluate in plan.evaluates
        for planned in evaluate.evaluations
        if (outcome := measured.get(planned.evaluation.fingerprint)) is not None and outcome.status == "completed"
    ]
    return min(completed, key=lambda each: (-each.measurement.utility, each.evaluation.model.name), default=None)


def find_kept(question: BoundFinetune, database: Database) -> ModelRecord | None:
    """The model that was kept of a question, if its files are still what they were."""
    model = Catalog(database).find_models([question.name]).get(question.name) if question.name else None
    lineage = None if model is None else lineage_of(model)
    if model is None or lineage is None:
        return None
    return model if (lineage.content, lineage.asked) == (model.fingerprint, question.fingerprint) else None


def to_be_kept(question: BoundFinetune, plan: Finetune, database: Database) -> Winner | None:
    """The winner that has still to be kept, or registered; None where there is nothing to do."""
    if question.name is None:
        return None
    planned = [each.evaluation.fingerprint for evaluate in plan.evaluates for each in evaluate.evaluations]
    winner = winner_of(plan, ResultStore(database).outcomes(planned))
    kept = find_kept(question, database)
    lineage = None if kept is None else lineage_of(kept)
    if winner is None or lineage is None or not lineage.registered:
        return winner
    return None if lineage.evaluation == winner.evaluation.fingerprint else winner


def describe_kept(model: ModelRecord) -> dict[str, Any]:
    """What an answer tells of a model that is kept."""
    lineage = lineage_of(model)
    return {
        "name": model.name,
        "path": model.path,
        "fingerprint": model.fingerprint,
        "parent": model.parent,
        "registered": lineage and lineage.registered,
        "load": loading_lines(model),
    }


def loading_lines(model: ModelRecord) -> list[str]:
    """Two lines of Python that load a model and its processor with nothing but transformers, or TensorFlow."""
    if model.source == "tfhub":
        path = json.dumps(model.path, ensure_ascii=False)
        return ["import tensorflow as tf", f"model = tf.saved_model.load({path})"]
    head = next((head for head in _HEADS if (model.architecture or "").endswith(head)), "")
    auto, processor, path = f"AutoModel{head}", _PROCESSORS[model.modality], json.dumps(model.path, ensure_ascii=False)
    return [
        f"from transformers import {', '.join(sorted((auto, processor)))}",
        f"model, processor = {auto}.from_pretrained({path}), {processor}.from_pretrained({path})",
    ]
