"""Trains one small transformers model on an upstream task and saves it as the hub would hold it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.playground.architectures import image_model, text_model
from tasks.playground.images import SIDE
from tasks.playground.sizes import BATCH_ROWS, HELD_OUT_ROWS, ModelSpec
from tasks.playground.splits import make_splits
from tasks.playground.tokenization import MAX_TOKENS, train_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    Inputs = dict[str, torch.Tensor]

LEARNING_RATE = 2e-3


def train(spec: ModelSpec, directory: Path, seed: int) -> float | None:
    """Write the model, its configuration and its preprocessing to `directory`.

    Returns the accuracy on held-out rows of the upstream task; None when it was never trained on it.
    """
    import torch

    random.seed(seed)
    torch.manual_seed(int(np.random.default_rng([seed, *spec.name.encode()]).integers(2**31)))
    torch.use_deterministic_algorithms(True)
    splits = make_splits(spec.modality, spec.upstream, spec.rows, HELD_OUT_ROWS, seed)
    if spec.modality == "image":
        processor = _image_processor()
        processor.save_pretrained(directory)
        inputs, held_out_inputs = (_image_inputs(processor, part) for part in (splits.train_rows, splits.test_rows))
        model = image_model(spec, splits.classes)
    else:
        tokenizer = train_tokenizer(spec.architecture, splits.train_rows)
        tokenizer.save_pretrained(directory)
        inputs, held_out_inputs = (_text_inputs(tokenizer, part) for part in (splits.train_rows, splits.test_rows))
        model = text_model(spec, tokenizer, splits.classes)
    labels, held_out_labels = torch.from_numpy(splits.train_labels), torch.from_numpy(splits.test_labels)
    if spec.flaw == "random labels":
        labels = labels[torch.randperm(len(labels))]
    _fit(model, inputs, labels, spec.epochs)
    model.save_pretrained(directory)
    if spec.flaw == "truncated":
        weights = directory / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    return _accuracy(model, held_out_inputs, held_out_labels) if spec.epochs else None


def _image_processor() -> Any:
    from transformers import ViTImageProcessorPil

    return ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def _image_inputs(processor: Any, images: np.ndarray) -> Inputs:
    return {"pixel_values": processor(list(images), return_tensors="pt")["pixel_values"]}


def _text_inputs(tokenizer: PreTrainedTokenizerFast, sentences: list[str]) -> Inputs:
    encoded = tokenizer(sentences, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


def _fit(model: PreTrainedModel, inputs: Inputs, labels: torch.Tensor, epochs: int) -> None:
    import torch

    steps = epochs * -(-len(labels) // BATCH_ROWS)
    if not steps:
        return
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.2)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(BATCH_ROWS):
            batch = {name: values[rows] for name, values in inputs.items()}
            optimizer.zero_grad()
            model(**batch, labels=labels[rows]).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()


def _accuracy(model: PreTrainedModel, inputs: Inputs, labels: torch.Tensor) -> float:
    import torch

    model.eval()
    correct = 0
    with torch.inference_mode():
        for rows in torch.arange(len(labels)).split(BATCH_ROWS):
            logits = model(**{name: values[rows] for name, values in inputs.items()}).logits
            correct += int((logits.argmax(-1) == labels[rows]).sum())
    return correct / len(labels)
