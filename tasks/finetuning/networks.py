"""Opening a Hugging Face model to be fine-tuned, with a head for the goal."""

from __future__ import annotations

from typing import Any

from storage.catalog import ModelRecord
from tasks.finetuning.examples import Goal
from tasks.finetuning.inputs import ImageInputs, Inputs, TextInputs
from tasks.sources.huggingface import load_processor, loading_options, require_all_weights

_PROBLEMS = {
    "regression": "regression",
    "multilabel classification": "multi_label_classification",
    "classification": "single_label_classification",
}


def open_network(model: ModelRecord, goal: Goal) -> tuple[Any, set[str]]:
    """The network with a head for the goal, and the names of the weights of its head, and of those no file has.

    A head that was trained for the very classes of the goal is kept. Raises EvaluationError where more is missing
    than heads and poolers.
    """
    import torch
    import transformers

    auto = getattr(transformers, f"AutoModelFor{_head(model, goal)}")
    names = list(goal.classes) or ["value"]
    network, loading = auto.from_pretrained(
        model.path,
        num_labels=goal.outputs,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        problem_type=_PROBLEMS[goal.task],
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        dtype=torch.float32,
        **loading_options(model),
    )
    missing = set(loading["missing_keys"])
    base = {id(weights) for weights in network.base_model.parameters()} if network.base_model is not network else set()
    of_base = {name for name, weights in network.named_parameters() if id(weights) in base}
    require_all_weights(missing & of_base)
    own = transformers.AutoConfig.from_pretrained(model.path, trust_remote_code=model.trusted)
    if list(own.id2label.values()) != names:
        # A head trained for other classes would have to be unlearnt first, also where it has the same shape.
        fresh = auto.from_config(network.config)
        fresh.base_model.load_state_dict(network.base_model.state_dict())
        network = fresh
    head = {name for name, _ in network.named_parameters()} - of_base if of_base else set()
    return network, missing | head


def open_inputs(model: ModelRecord, network: Any) -> Inputs:
    """How the model's own processor makes inputs of rows; the network is told what pads its texts."""
    processor = load_processor(model)
    if model.modality == "image":
        return ImageInputs(processor)
    network.config.get_text_config().pad_token_id = processor.pad_token_id
    return TextInputs(processor, network)


def _head(model: ModelRecord, goal: Goal) -> str:
    if model.modality == "image":
        return "ImageClassification"
    return "TokenClassification" if goal.kind == "token_classification" else "SequenceClassification"
