"""Fine-tuning a SavedModel or a Keras model, with the epoch chosen on a validation part."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from tasks.finetuning.evaluating import evaluate
from tasks.finetuning.examples import TrainingRows
from tasks.finetuning.keras_training import KerasTraining
from tasks.finetuning.measuring import Measure
from tasks.finetuning.options import Options


def open_training(model: ModelRecord, rows: TrainingRows, measure: Measure, params: Mapping[str, Any]) -> KerasTraining:
    """The training of a model as it begins."""
    mode = params["mode"]
    if mode not in {"full", "head"}:
        raise EvaluationError(
            f"mode={mode!r} is for Hugging Face models alone",
            subject=model.name,
            fix="write mode='full' or mode='head'",
        )
    return KerasTraining(model, rows, measure, Options.of(params), mode)


finetune_keras = partial(evaluate, open_training)
