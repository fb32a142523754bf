"""The transformers architectures of the playground, small enough to train in seconds on one core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.playground.images import SIDE
from tasks.playground.sizes import ModelSpec
from tasks.playground.tokenization import MAX_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# The usual 0.02 is for widths near 768; at 16 to 64 nothing is learnt from it in a few hundred steps.
IMAGE_INITIALIZER_RANGE = 0.1


def _labelled(classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(classes)),
        "label2id": {name: index for index, name in enumerate(classes)},
    }


def image_model(spec: ModelSpec, classes: tuple[str, ...]) -> PreTrainedModel:
    """An untrained ResNet, ConvNeXt, ViT or Swin of the spec's width and depth, with a head for the classes."""
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
                    initializer_range=IMAGE_INITIALIZER_RANGE,
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
                    initializer_range=IMAGE_INITIALIZER_RANGE,
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
                    initializer_range=IMAGE_INITIALIZER_RANGE,
                    **heads,
                )
            )
    raise ValueError(spec.architecture)


def text_model(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast, classes: tuple[str, ...]) -> PreTrainedModel:
    """An untrained BERT, ELECTRA, RoBERTa, DistilBERT or BART, with a head for the classes."""
    import transformers as hf

    shared = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        **_labelled(classes),
    }
    encoder: dict[str, Any] = {
        "hidden_size": spec.width,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": 4,
        "intermediate_size": 2 * spec.width,
        "max_position_embeddings": MAX_TOKENS,
        **shared,
    }
    match spec.architecture:
        case "bert":
            return hf.BertForSequenceClassification(hf.BertConfig(**encoder))
        case "electra":
            return hf.ElectraForSequenceClassification(hf.ElectraConfig(embedding_size=spec.width // 2, **encoder))
        case "roberta":
            # RoBERTa counts positions from after the padding index.
            encoder["max_position_embeddings"] = MAX_TOKENS + tokenizer.pad_token_id + 1
            return hf.RobertaForSequenceClassification(hf.RobertaConfig(**encoder))
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
