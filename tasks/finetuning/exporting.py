"""A fine-tuned model as a directory that transformers opens: model, processor and the names of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from storage.catalog import Catalog
from storage.checkpoints import CheckpointStore
from storage.database import Database
from storage.errors import EvaluationError
from storage.parts import Part
from storage.settings import current_settings
from tasks.embedding import unchanged_model
from tasks.finetuning.evaluating import run_of
from tasks.finetuning.examples import Goal, read_training
from tasks.finetuning.huggingface import open_training
from tasks.finetuning.measuring import measure_for
from tasks.finetuning.runs import Diverged
from tasks.sources.failures import reasons
from tasks.sources.huggingface import load_processor


def export_model(
    model: str,
    model_fingerprint: str,
    train: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    directory: str,
    checkpoint: str,
) -> dict[str, Any]:
    """Write the best weights of a fine-tuning on the `train` parts (storage.parts) as a Hugging Face directory.

    They come from the checkpoint of the training that has the key `checkpoint`; where that is gone they are trained
    again, to the same bits on the same machine. AutoModelFor… and the model's own tokenizer or image processor load
    from `directory`; `id2label` holds the names of the classes, and numbers are predicted as the dataset has them.
    Returns the `epoch` (from 1) that the weights are of, and its `validation_…` by the metric. Raises EvaluationError
    as fine-tuning does, and where a loss is lost.
    """
    settings = current_settings()
    catalog, checkpoints = Catalog(Database(settings)), CheckpointStore(settings)
    record = unchanged_model(catalog, model, model_fingerprint)
    rows = read_training(catalog, [Part.from_json(part) for part in train], params["seed"])
    measure = measure_for(rows.goal, params.get("metric"))
    with reasons(record), checkpoints.in_use(checkpoint):
        try:
            progress, training = run_of(open_training, checkpoints, checkpoint, record, rows, measure, params).finish()
        except Diverged as diverged:
            raise EvaluationError(str(diverged), subject=model) from diverged
        network = training.merged()
        if rows.goal.task == "regression":
            _predict_unscaled(network, rows.goal)
        network.to("cpu").eval().save_pretrained(Path(directory))
        load_processor(record).save_pretrained(Path(directory))
    checkpoints.evict(settings.checkpoint_bytes)
    return {"epoch": progress.best + 1, f"validation_{measure.metric}": progress.curve[progress.best]}


def _predict_unscaled(network: Any, goal: Goal) -> None:
    """Have the last layer of a head say numbers as they are and not as they were learnt."""
    import torch

    base = {id(module) for module in network.base_model.modules()}
    last = [
        module
        for module in network.modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == 1 and id(module) not in base
    ]
    if len(last) != 1 or last[0].bias is None:
        raise EvaluationError(
            "its head has no bias to put the scale of the numbers into",
            fix="fine-tune an encoder, such as a BERT, for numbers",
        )
    with torch.no_grad():
        last[0].weight.mul_(goal.deviation)
        last[0].bias.mul_(goal.deviation).add_(goal.mean)
