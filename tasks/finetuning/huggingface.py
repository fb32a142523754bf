"""Fine-tuning a Hugging Face model, with the epoch chosen on a validation part."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from storage.catalog import ModelRecord
from storage.workload import cores_for
from tasks.finetuning.evaluating import evaluate
from tasks.finetuning.examples import TrainingRows
from tasks.finetuning.measuring import Measure
from tasks.finetuning.modes import choose_weights
from tasks.finetuning.networks import open_inputs, open_network
from tasks.finetuning.options import Options
from tasks.finetuning.torch_training import TorchTraining


def open_training(model: ModelRecord, rows: TrainingRows, measure: Measure, params: Mapping[str, Any]) -> TorchTraining:
    """The training of a model as it begins."""
    import torch
    from transformers import set_seed

    torch.set_num_threads(cores_for(model))
    # Of the head, which is random.
    set_seed(params["seed"])
    network, fresh = open_network(model, rows.goal)
    inputs = open_inputs(model, network)
    trainable = choose_weights(network, params["mode"], fresh)
    return TorchTraining(trainable, inputs, measure, rows.fit, rows.validation, Options.of(params))


finetune_model = partial(evaluate, open_training)
