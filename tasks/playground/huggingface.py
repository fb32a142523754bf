"""Trains one small transformers model on an upstream task and saves it as the hub would hold it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.playground.images import SIDE
from tasks.playground.sizes import BATCH_ROWS, HELD_OUT_ROWS, ModelSpec
from tasks.playground.splits import make_splits

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    Inputs = dict[str, torch.Tensor]

LEARNING_RATE = 2e-3
VOCABULARY = 2000
MAX_TOKENS = 32
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


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
        inputs, held_out_inputs = (
            _image_inputs(processor, part) for part in (splits.train_rows, splits.test_rows)
        )
        model = _image_model(spec, splits.classes)
    else:
        tokenizer = _tokenizer(spec, splits.train_rows)
        tokenizer.save_pretrained(directory)
        inputs, held_out_inputs = (
            _text_inputs(tokenizer, part) for part in (splits.train_rows, splits.test_rows)
        )
        model = _text_model(spec, tokenizer, splits.classes)
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

    return ViTImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


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
    with torch.inference_mode():
        correct = sum(
            int(
                (
                    model(**{name: values[rows] for name, values in inputs.items()}).logits.argmax(-1)
                    == labels[rows]
                ).sum()
            )
            for rows in torch.arange(len(labels)).split(BATCH_ROWS)
        )
    return correct / len(labels)


def _labelled(classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(classes)),
        "label2id": {name: index for index, name in enumerate(classes)},
    }


def _image_model(spec: ModelSpec, classes: tuple[str, ...]) -> PreTrainedModel:
    import transformers as hf

    heads = _labelled(classes)
    widths = [spec.width * 2**stage for stage in range(3)]
    match spec.architecture:
        case "resnet":
            return hf.ResNetForImageClassification(
                hf.ResNetConfig(
                    embedding_size=spec.width,
                    hidden_sizes=widths,
                    depths=[spec.depth] * 3,
                    layer_type="basic",
                    **heads,
                )
            )
        case "convnext":
            return hf.ConvNextForImageClassification(
                hf.ConvNextConfig(
                    image_size=SIDE,
                    patch_size=2,
                    num_stages=3,
                    hidden_sizes=widths,
                    depths=[spec.depth] * 3,
                    layer_scale_init_value=1.0,
                    initializer_range=0.1,
                    **heads,
                )
            )
        case "vit":
            return hf.ViTForImageClassification(
                hf.ViTConfig(
                    image_size=SIDE,
                    patch_size=8,
                    hidden_size=spec.width,
                    num_hidden_layers=spec.depth,
                    num_attention_heads=4,
                    intermediate_size=2 * spec.width,
                    initializer_range=0.1,
                    **heads,
                )
            )
        case "swin":
            return hf.SwinForImageClassification(
                hf.SwinConfig(
                    image_size=SIDE,
                    patch_size=4,
                    window_size=4,
                    embed_dim=spec.width,
                    depths=[spec.depth] * 2,
                    num_heads=[2, 4],
                    initializer_range=0.1,
                    **heads,
                )
            )
    raise ValueError(spec.architecture)


def _tokenizer(spec: ModelSpec, sentences: list[str]) -> PreTrainedTokenizerFast:
    """WordPiece as BERT has it, or byte-level BPE as RoBERTa and BART have it, trained on the corpus."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = list(SPECIAL_TOKENS.values())
    if spec.architecture in ("roberta", "bart"):
        tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(
            vocab_size=VOCABULARY, special_tokens=special, show_progress=False
        )
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        **SPECIAL_TOKENS,
    )


def _text_model(
    spec: ModelSpec, tokenizer: PreTrainedTokenizerFast, classes: tuple[str, ...]
) -> PreTrainedModel:
    import transformers as hf

    shared = dict(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **_labelled(classes))
    encoder = dict(
        hidden_size=spec.width,
        num_hidden_layers=spec.depth,
        num_attention_heads=4,
        intermediate_size=2 * spec.width,
        max_position_embeddings=MAX_TOKENS,
    )
    match spec.architecture:
        case "bert":
            return hf.BertForSequenceClassification(hf.BertConfig(**encoder, **shared))
        case "electra":
            return hf.ElectraForSequenceClassification(
                hf.ElectraConfig(embedding_size=spec.width // 2, **encoder, **shared)
            )
        case "roberta":
            # RoBERTa counts positions from after the padding index.
            encoder["max_position_embeddings"] = MAX_TOKENS + tokenizer.pad_token_id + 1
            return hf.RobertaForSequenceClassification(hf.RobertaConfig(**encoder, **shared))
        case "distilbert":
            return hf.DistilBertForSequenceClassification(
                hf.DistilBertConfig(
                    dim=spec.width,
                    n_layers=spec.depth,
                    n_heads=4,
                    hidden_dim=2 * spec.width,
                    max_position_embeddings=MAX_TOKENS,
                    **shared,
                )
            )
        case "bart":
            return hf.BartForSequenceClassification(
                hf.BartConfig(
                    d_model=spec.width,
                    encoder_layers=spec.depth,
                    decoder_layers=spec.depth,
                    encoder_attention_heads=4,
                    decoder_attention_heads=4,
                    encoder_ffn_dim=2 * spec.width,
                    decoder_ffn_dim=2 * spec.width,
                    max_position_embeddings=MAX_TOKENS,
                    bos_token_id=tokenizer.cls_token_id,
                    eos_token_id=tokenizer.sep_token_id,
                    decoder_start_token_id=tokenizer.sep_token_id,
                    forced_eos_token_id=None,
                    **shared,
                )
            )
    raise ValueError(spec.architecture)
