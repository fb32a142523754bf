"""Texts as token ids: what a tokenizer makes of sentences, of pairs of them and of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from storage.errors import EvaluationError
from storage.fingerprints import fingerprint_of
from tasks.readers.base import Pair, Rows

LONGEST_TEXT_TOKENS = 512
NO_WORD = -1


class Tokens(NamedTuple):
    """One sequence of (tokens,) ids; `types` tell the texts of a pair apart, `words` say which word each is of."""

    ids: np.ndarray
    types: np.ndarray | None
    words: np.ndarray | None


class TokenizedRow(NamedTuple):
    """Words that do not fit in one sequence go on in another; `num_words` is None where the row is not of words."""

    sequences: tuple[Tokens, ...]
    num_words: int | None


class TextPreparation:
    """Turns rows into tokens, cut at `longest` of them. Equal `fingerprint`s make equal tokens of equal rows."""

    def __init__(self, tokenizer: Any, longest: int) -> None:
        self._tokenizer = tokenizer
        self.longest = longest
        self._has_types = "token_type_ids" in tokenizer.model_input_names
        # Of a text that a tokenizer makes nothing of, the token that a text begins or ends with.
        special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        self._nothing = next((token for token in special if token is not None), 0)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        content = backend.to_str() if backend is not None else [tokenizer.get_vocab(), repr(tokenizer)]
        self.fingerprint = fingerprint_of("text", content, longest, self._has_types)

    def prepare(self, rows: Rows) -> list[TokenizedRow]:
        """The tokens of every row."""
        if not len(rows):
            return []
        if isinstance(rows[0], list):
            return self._prepare_words(rows)
        texts: tuple[list[Any], ...] = ([str(row) for row in rows],)
        if isinstance(rows[0], Pair):
            texts = ([row[0] for row in rows], [row[1] for row in rows])
        encoded = self._tokenizer(*texts, truncation=True, max_length=self.longest)
        types = encoded["token_type_ids"] if self._has_types else [None] * len(rows)
        return [
            TokenizedRow((self._tokens(ids, kinds, None),), None)
            for ids, kinds in zip(encoded["input_ids"], types, strict=True)
        ]

    def _prepare_words(self, rows: Rows) -> list[TokenizedRow]:
        if not self._tokenizer.is_fast:
            raise EvaluationError(
                f"its tokenizer ({type(self._tokenizer).__name__}) does not tell which word a token is of",
                fix="leave it out, or save its tokenizer as tokenizer.json",
            )
        encoded = self._tokenizer(
            list(rows),
            is_split_into_words=True,
            truncation=True,
            max_length=self.longest,
            return_overflowing_tokens=True,
        )
        result: list[list[Tokens]] = [[] for _ in rows]
        for index, ids in enumerate(encoded["input_ids"]):
            words = [NO_WORD if word is None else word for word in encoded.word_ids(index)]
            types = encoded["token_type_ids"][index] if self._has_types else None
            result[encoded["overflow_to_sample_mapping"][index]].append(self._tokens(ids, types, words))
        return [TokenizedRow(tuple(found), len(row)) for found, row in zip(result, rows, strict=True)]

    def _tokens(self, ids: Sequence[int], types: Sequence[int] | None, words: Sequence[int] | None) -> Tokens:
        if not ids:
            ids, types, words = [self._nothing], types and [0], None if words is None else [NO_WORD]
        return Tokens(_ids(ids), _ids(types), _ids(words))


def pad(sequences: Sequence[Tokens], padding_id: int, width: int) -> dict[str, np.ndarray]:
    """Sequences as (sequences, width) arrays, filled up on the right: ids, mask, types and words where there are."""
    shape = (len(sequences), width)
    batch = {"input_ids": np.full(shape, padding_id, np.int64), "attention_mask": np.zeros(shape, np.int64)}
    if sequences[0].types is not None:
        batch["token_type_ids"] = np.zeros(shape, np.int64)
    if sequences[0].words is not None:
        batch["words"] = np.full(shape, NO_WORD, np.int64)
    for row, sequence in enumerate(sequences):
        length = len(sequence.ids)
        batch["input_ids"][row, :length] = sequence.ids
        batch["attention_mask"][row, :length] = 1
        if sequence.types is not None:
            batch["token_type_ids"][row, :length] = sequence.types
        if sequence.words is not None:
            batch["words"][row, :length] = sequence.words
    return batch


def longest_text(tokenizer: Any, network: Any) -> int:
    """The most tokens the model takes: what its tokenizer says, its positions allow, and 512 at most."""
    positions = getattr(network.config, "max_position_embeddings", None) or LONGEST_TEXT_TOKENS
    if positions < 0:  # XLNet's way of saying that there is no limit.
        positions = LONGEST_TEXT_TOKENS
    for name, module in network.named_modules():
        # RoBERTa and its kin count positions from one past the padding token.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions = module.num_embeddings - module.padding_idx - 1
    return min(tokenizer.model_max_length, positions, LONGEST_TEXT_TOKENS)


def _ids(values: Sequence[int] | None) -> Any:
    return None if values is None else np.asarray(values, np.int32)
