"""What a Hugging Face network takes of rows, and where its answers stand: prepared once, then batch by batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.workload import ALL_CORES
from tasks.finetuning.examples import Examples
from tasks.readers.base import Rows
from tasks.sources.pixels import ImagePreparation
from tasks.sources.texts import NO_WORD, TextPreparation, Tokens, longest_text, pad

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Items:
    """What the network takes: of each row one, or where words go on in another sequence several.

    `of_item` tells the numbers of the labels that each item has an answer to, among `total` of them.
    """

    items: list[Any]
    of_item: list[np.ndarray]
    total: int

    def __len__(self) -> int:
        return len(self.items)


class Inputs(ABC):
    """How rows become what a network takes."""

    @abstractmethod
    def prepare(self, examples: Examples) -> Items:
        """The items of all rows in turn."""

    @abstractmethod
    def batch(self, items: Sequence[Any], device: torch.device) -> dict[str, torch.Tensor]:
        """The network's arguments."""

    def answers(self, logits: torch.Tensor, items: Sequence[Any]) -> torch.Tensor:
        """(labels, outputs) of the batch, for the labels of its items in turn."""
        return logits


class ImageInputs(Inputs):
    """Pixels."""

    def __init__(self, processor: Any) -> None:
        self._preparation = ImagePreparation(processor, ALL_CORES)

    def prepare(self, examples: Examples) -> Items:
        return _one_each(self._preparation.prepare(examples.rows))

    def batch(self, items: Sequence[np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
        import torch

        return {"pixel_values": self._preparation.on_device(items, device, torch.float32)}


class TextInputs(Inputs):
    """Tokens of texts, of pairs of them or of words; of a word the first token answers."""

    def __init__(self, tokenizer: Any, network: Any) -> None:
        self._preparation = TextPreparation(tokenizer, longest_text(tokenizer, network))
        self._padding = tokenizer.pad_token_id or 0

    def prepare(self, examples: Examples) -> Items:
        rows: Rows = examples.rows
        prepared = self._preparation.prepare(rows)
        if examples.lengths is None:
            return _one_each([row.sequences[0] for row in prepared])
        starts = np.cumsum(examples.lengths) - examples.lengths
        found = [
            (sequence, start + words[_first_tokens(words)])
            for start, row in zip(starts, prepared, strict=True)
            for sequence in row.sequences
            if (words := _words(sequence)) is not None
        ]
        return Items([item for item, _ in found], [numbers for _, numbers in found], int(examples.lengths.sum()))

    def batch(self, items: Sequence[Tokens], device: torch.device) -> dict[str, torch.Tensor]:
        import torch

        padded = pad(items, self._padding, max(len(item.ids) for item in items))
        tensors = {name: torch.from_numpy(array) for name, array in padded.items() if name != "words"}
        if device.type == "cuda":
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}

    def answers(self, logits: torch.Tensor, items: Sequence[Tokens]) -> torch.Tensor:
        import torch

        if items[0].words is None:
            return logits
        firsts = [np.flatnonzero(_first_tokens(item.words)) for item in items if item.words is not None]
        sequences = np.repeat(np.arange(len(items)), [len(each) for each in firsts])
        places = torch.from_numpy(np.concatenate(firsts)).to(logits.device)
        return logits[torch.from_numpy(sequences).to(logits.device), places]


def _one_each(items: list[Any]) -> Items:
    return Items(items, [np.array([number]) for number in range(len(items))], len(items))


def _words(sequence: Tokens) -> np.ndarray | None:
    return sequence.words


def _first_tokens(words: np.ndarray) -> np.ndarray:
    """Which tokens begin a word: (tokens,) bool."""
    return (words != NO_WORD) & np.diff(words, prepend=NO_WORD).astype(bool)
