"""Trains the tokenizers of the playground's text models on their own corpora."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 2000
MAX_TOKENS = 32
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def train_tokenizer(architecture: str, sentences: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE as RoBERTa and BART have it, WordPiece as BERT and the others have it.

    Equal sentences give an equal tokenizer.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = _byte_pairs(sentences) if architecture in ("roberta", "bart") else _word_pieces(sentences)
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


def _byte_pairs(sentences: list[str]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL_TOKENS.values()), show_progress=False
    )
    tokenizer.train_from_iterator(sentences, trainer)
    return tokenizer


def _word_pieces(sentences: list[str]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    def tokenizer_of(model: Any) -> Tokenizer:
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer

    # The trainer numbers "##a" to "##z" in the order of a hash table, another one in every process, and
    # breaks ties by these numbers. Tokens said to be special are numbered first and in the order given.
    characters = sorted(set("".join(sentences).lower()) - {" "})
    trained = tokenizer_of(models.WordPiece(unk_token="[UNK]"))
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL_TOKENS.values(), *(f"##{character}" for character in characters)],
        show_progress=False,
    )
    trained.train_from_iterator(sentences, trainer)
    return tokenizer_of(models.WordPiece(trained.get_vocab(), unk_token="[UNK]"))
