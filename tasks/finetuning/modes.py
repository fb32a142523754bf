"""How much of a network is fine-tuned: all of it, its head alone, or its head and low-rank changes of its layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from storage.errors import EvaluationError

# Of LoRA (Hu et al., arXiv 2106.09685): the rank of a change, and what it is multiplied by, times the rank.
_RANK = 8
_ALPHA = 16


@dataclass(frozen=True)
class Trainable:
    """A network whose weights ask for gradients where they are to be trained.

    `asleep` is the part that stays as in inference while the rest trains, if any; `merge` makes the network one of its
    own architecture again, with what was learnt in its own weights.
    """

    network: Any
    asleep: Any | None = None
    merge: Callable[[], None] = lambda: None


def choose_weights(network: Any, mode: str, fresh: set[str]) -> Trainable:
    """Have those weights trained that the mode says; `fresh` are the names of those that always are: heads, poolers
    that no file has. Raises EvaluationError where the network has nothing for the mode.

    `head` leaves the rest asleep: without dropout, and with the averages of its batch norm as they are.
    """
    if mode == "full":
        return Trainable(network)
    base = network.base_model
    trained = [weights for name, weights in network.named_parameters() if name in fresh]
    if not trained:
        raise EvaluationError(f"mode='{mode}' cannot tell its head from the rest", fix="write mode='full'")
    merge = _adapt(base, {id(weights) for weights in trained}) if mode == "lora" else lambda: None
    adapters = [weights for name, weights in base.named_parameters() if "lora_" in name]
    network.requires_grad_(False)
    for weights in (*trained, *adapters):
        weights.requires_grad_(True)
    return Trainable(network, base if mode == "head" else None, merge)


def _adapt(base: Any, trained: set[int]) -> Callable[[], None]:
    """Put low-rank changes, of no effect yet, into the linear layers whose weights are not `trained` (by id); what
    makes them part of their weights."""
    import torch
    from peft import LoraConfig, LoraModel
    from transformers.pytorch_utils import Conv1D

    linear = [
        name
        for name, module in base.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and id(module.weight) not in trained
    ]
    if not linear:
        raise EvaluationError("it has no linear layers for mode='lora' to change", fix="write mode='full'")
    config = LoraConfig(r=_RANK, lora_alpha=_ALPHA, target_modules=linear)
    adapted = LoraModel(base, config, "default")

    def merge() -> None:
        adapted.merge_and_unload()

    return merge
