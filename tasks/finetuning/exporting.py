"""A fine-tuned model as a directory that transformers opens: model, processor and the names of its classes.

AutoModelFor… and the model's own tokenizer or image processor load from it; `id2label` holds the names of the classes,
and numbers are predicted as the dataset has them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from tasks.finetuning.evaluating import export
from tasks.finetuning.examples import Goal
from tasks.finetuning.huggingface import open_training
from tasks.finetuning.torch_training import TorchTraining
from tasks.sources.huggingface import load_processor


def _write(training: TorchTraining, model: ModelRecord, goal: Goal, directory: Path) -> None:
    network = training.merged()
    if goal.task == "regression":
        _predict_unscaled(network, goal)
    network.to("cpu").eval().save_pretrained(directory)
    load_processor(model).save_pretrained(directory)


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


export_model = partial(export, open_training, _write)
