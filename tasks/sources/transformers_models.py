"""Forward passes of transformers models: in batches that fit, with every view of the features from one pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from storage.views import LAST, PREDICTIONS, PROBABILITIES, View
from storage.workload import cores_for
from tasks.readers.base import Rows
from tasks.sources.failures import is_out_of_memory, reasons, require_finite
from tasks.sources.pixels import ImagePreparation
from tasks.sources.texts import NO_WORD, TextPreparation, TokenizedRow, Tokens, pad

if TYPE_CHECKING:
    import torch

# Positions (tokens, or patches of 16 by 16 pixels) of a batch: what keeps the caches of a core, or a GPU, busy.
_CPU_POSITIONS = 2048
_GPU_POSITIONS = 131_072
_MOST_ROWS = 1024
_PATCH_PIXELS = 256
_PADDING_MULTIPLE = 8
# A text to be padded, and by what share its vectors may change for it: what is due to rounding.
_PROBE = ["one", "two", "three", "four"]
_PROBE_TOLERANCE = 1e-4
_PROBE_HALF_TOLERANCE = 0.02
_LAST = "last"
_MEAN, _FIRST = "mean", "first"
_OF_HEAD = (PROBABILITIES, PREDICTIONS)

# Positions that fitted once memory ran out, by the model's fingerprint.
_fitting: dict[str, int] = {}


class TransformersModel(ABC):
    """An opened encoder or decoder. `head` opens the same model with its classifier, when that is first needed."""

    preparation: str

    def __init__(self, model: ModelRecord, network: Any, head: Callable[[], Any]) -> None:
        self._model = model
        self._network = network
        self._open_head = head
        self._head: Any = None
        usual = _GPU_POSITIONS if network.device.type == "cuda" else _CPU_POSITIONS
        self._positions = _fitting.get(model.fingerprint, usual)

    @abstractmethod
    def prepare(self, rows: Rows) -> list[Any]:
        """What the network takes of each row."""

    @abstractmethod
    def embed(self, prepared: Sequence[Any], views: Collection[View]) -> dict[View, np.ndarray]:
        """See tasks.sources.base."""

    @abstractmethod
    def _inputs(self, items: Sequence[Any]) -> dict[str, Any]:
        """A batch on the device, by the names the network takes, and what pooling needs under other names."""

    @abstractmethod
    def _pool(self, hidden: torch.Tensor, pooling: str, inputs: dict[str, Any], outputs: Any | None) -> torch.Tensor:
        """One vector a row of a layer; `outputs` are the network's where it is the last layer, with its own pooling."""

    def close(self) -> None:
        self._network = self._head = None

    def _run(
        self, items: Sequence[Any], positions: Sequence[int], views: Collection[View]
    ) -> tuple[np.ndarray, dict[View, np.ndarray]]:
        """The views of items, longest first, and in which order: memory that is short shows at once."""
        import torch

        # Whatever ran in this process before may have left another number.
        torch.set_num_threads(cores_for(self._model))
        order = np.argsort([-count for count in positions], kind="stable")
        parts: dict[View, list[torch.Tensor]] = {view: [] for view in views}
        start = 0
        with reasons(self._model), torch.inference_mode():
            while start < len(order):
                number = max(1, min(_MOST_ROWS, self._positions // positions[order[start]]))
                batch = [items[index] for index in order[start : start + number]]
                try:
                    vectors = self._forward(batch, views)
                except (RuntimeError, MemoryError) as error:
                    if number == 1 or not is_out_of_memory(error):
                        raise
                    tried = number * positions[order[start]]
                    self._positions = _fitting[self._model.fingerprint] = tried // 2
                    torch.cuda.empty_cache()
                    continue
                for view, part in vectors.items():
                    parts[view].append(part)
                start += number
            return order, {view: torch.cat(part).cpu().numpy() for view, part in parts.items()}

    def _forward(self, items: Sequence[Any], views: Collection[View]) -> dict[View, torch.Tensor]:
        inputs = self._inputs(items)
        taken = {name: value for name, value in inputs.items() if name != "words"}
        result = {}
        of_head = [view for view in views if view in _OF_HEAD]
        of_layers = [view for view in views if view not in _OF_HEAD]
        if of_layers:
            needs_all = any(view.layer != _LAST for view in of_layers)
            outputs = self._network(**taken, **({"output_hidden_states": True} if needs_all else {}))
            result = {view: self._view(view, inputs, outputs).float() for view in of_layers}
        if of_head:
            if self._head is None:
                self._head = self._open_head()
            logits = self._head(**taken).logits.float()
            result |= {view: self._said(view, logits, inputs) for view in of_head}
        return result

    def _said(self, view: View, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """What the head says: `probabilities`, or `predictions` as it was trained to make them."""
        if view == PREDICTIONS:
            config = self._head.config
            if config.problem_type == "regression" or config.num_labels == 1:
                return logits
            if config.problem_type == "multi_label_classification":
                return logits.sigmoid()
        elif logits.shape[-1] == 1:
            raise EvaluationError(
                "its head tells no classes apart", fix="rank by LogME, which needs none, or leave it out"
            )
        return self._of_rows(logits.softmax(dim=-1), view, inputs)

    def _of_rows(self, probabilities: torch.Tensor, view: View, inputs: dict[str, Any]) -> torch.Tensor:
        """One vector a row, or a word."""
        return probabilities

    def _view(self, view: View, inputs: dict[str, Any], outputs: Any) -> torch.Tensor:
        import torch

        if view.layer == _LAST:
            return self._pool(outputs.last_hidden_state, view.pooling, inputs, outputs)
        layers = outputs.hidden_states
        if view.layer == _MEAN:
            pooled = [self._pool(hidden, view.pooling, inputs, None).float() for hidden in layers[1:]]
            if len({vectors.shape[1] for vectors in pooled}) > 1:
                widths = ", ".join(str(vectors.shape[1]) for vectors in pooled)
                raise EvaluationError(
                    f"its layers are of different widths ({widths}) and have no mean", fix="choose one layer, or 'last'"
                )
            return torch.stack(pooled).mean(dim=0)
        number = int(view.layer)
        if not -len(layers) < number < len(layers):
            raise EvaluationError(
                f"it has no layer {number}", fix=f"choose one from 0 (embeddings) to {len(layers) - 1}, or 'last'"
            )
        return self._pool(layers[number], view.pooling, inputs, None)

    def _finite(self, vectors: dict[View, np.ndarray]) -> dict[View, np.ndarray]:
        return {view: require_finite(array, self._model) for view, array in vectors.items()}


class ImageModel(TransformersModel):
    """An image encoder with its own processor.

    Its own pooling is the model's pooled output where its weights hold a trained pooler (or it needs none), else
    the class token where there is one, else the mean over positions. `mean` and `max` leave class tokens out.
    """

    def __init__(
        self,
        model: ModelRecord,
        network: Any,
        head: Callable[[], Any],
        preparation: ImagePreparation,
        pooler_is_trained: bool,
    ) -> None:
        super().__init__(model, network, head)
        self._preparation = preparation
        self.preparation = preparation.fingerprint
        self._pooler_is_trained = pooler_is_trained
        names = [name.rpartition(".")[2] for name, _ in network.named_parameters()]
        self._has_class_token = any(name in {"cls_token", "class_embedding"} for name in names)
        registers = getattr(network.config, "num_register_tokens", 0) or 0
        self._prefix = self._has_class_token + ("distillation_token" in names) + registers

    def prepare(self, rows: Rows) -> list[np.ndarray]:
        with reasons(self._model):
            return self._preparation.prepare(rows)

    def embed(self, prepared: Sequence[np.ndarray], views: Collection[View]) -> dict[View, np.ndarray]:
        vectors: dict[View, np.ndarray] = {}
        shapes = np.unique([image.shape for image in prepared], axis=0)
        for shape in shapes:
            rows = [index for index, image in enumerate(prepared) if image.shape == tuple(shape)]
            images = [prepared[index] for index in rows]
            positions = [-(-image.shape[1] * image.shape[2] // _PATCH_PIXELS) for image in images]
            order, found = self._run(images, positions, views)
            for view, part in found.items():
                whole = vectors.setdefault(view, np.empty((len(prepared), part.shape[1]), np.float32))
                whole[np.asarray(rows)[order]] = part
        return self._finite(vectors)

    def _inputs(self, items: Sequence[np.ndarray]) -> dict[str, Any]:
        return {"pixel_values": self._preparation.on_device(items, self._network.device, self._network.dtype)}

    def _pool(self, hidden: torch.Tensor, pooling: str, inputs: dict[str, Any], outputs: Any | None) -> torch.Tensor:
        if pooling == "default":
            own = getattr(outputs, "pooler_output", None)
            if own is not None and self._pooler_is_trained:
                return own.flatten(1)
            pooling = "cls" if self._has_class_token and hidden.ndim == 3 else "mean"
        if pooling == "cls":
            if not self._has_class_token or hidden.ndim != 3:
                raise EvaluationError("it has no class token", fix="choose another pooling: mean or max")
            return hidden[:, 0]
        if pooling in {"first", "last"}:
            raise EvaluationError(
                f"an image has no {pooling} word or token", fix="choose another pooling: cls, mean or max"
            )
        flat = hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden[:, self._prefix :]
        return flat.mean(dim=1) if pooling == "mean" else flat.amax(dim=1)


class TextModel(TransformersModel):
    """A text encoder or decoder with its own tokenizer.

    Its own pooling is what its files say, else the mean over the tokens that are not padding. Rows that are words give
    a vector a word: the `mean` (its own pooling), the `max`, the `first` or the `last` of its tokens; zeros where the
    tokenizer makes none of it.
    """

    def __init__(
        self,
        model: ModelRecord,
        network: Any,
        head: Callable[[], Any],
        tokenizer: Any,
        preparation: TextPreparation,
        pooling: str,
    ) -> None:
        super().__init__(model, network, head)
        self._own_pooling = pooling
        self._tokenizer = tokenizer
        self._bearing: dict[View, bool] = {}
        self._padding_multiple = 1 if network.device.type == "cpu" else _PADDING_MULTIPLE
        self._preparation = preparation
        self.preparation = preparation.fingerprint

    def prepare(self, rows: Rows) -> list[TokenizedRow]:
        with reasons(self._model):
            return self._preparation.prepare(rows)

    def embed(self, prepared: Sequence[TokenizedRow], views: Collection[View]) -> dict[View, np.ndarray]:
        sequences = [tokens for row in prepared for tokens in row.sequences]
        are_words = prepared[0].num_words is not None
        groups = [np.arange(len(sequences))]
        if not all(self._bears_padding(view if view in _OF_HEAD else LAST, are_words) for view in views):
            self._padding_multiple = 1
            lengths = np.array([len(tokens.ids) for tokens in sequences])
            groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
        positions = [self._padded(len(tokens.ids)) for tokens in sequences]
        runs = [self._run([sequences[at] for at in group], [positions[at] for at in group], views) for group in groups]
        order = np.concatenate([group[within] for group, (within, _) in zip(groups, runs, strict=True)])
        vectors = {view: np.concatenate([found[view] for _, found in runs]) for view in views}
        places, total = (order, len(prepared))
        if are_words:
            places, total = _places_of_words(prepared, order)
        return self._finite({view: _placed(part, places, total) for view, part in vectors.items()})

    def _bears_padding(self, view: View, are_words: bool) -> bool:
        """Whether a row's vector stays what it is in a padded batch, as of any other view but those of the head.

        FNet and Funnel mix padding into it, and XLNet's head looks at the last position.
        """
        import torch

        if view not in self._bearing:
            rows = [_PROBE, _PROBE * 4] if are_words else [" ".join(_PROBE), " ".join(_PROBE * 4)]
            short, long = (row.sequences[0] for row in self._preparation.prepare(rows))
            with reasons(self._model), torch.inference_mode():
                alone = self._forward([short], [view])[view]
                together = self._forward([short, long], [view])[view][: len(alone)]
            tolerance = _PROBE_TOLERANCE if self._network.dtype == torch.float32 else _PROBE_HALF_TOLERANCE
            self._bearing[view] = bool((alone - together).norm() <= tolerance * alone.norm())
        return self._bearing[view]

    def _of_rows(self, probabilities: torch.Tensor, view: View, inputs: dict[str, Any]) -> torch.Tensor:
        of_words, are_words = probabilities.ndim == 3, "words" in inputs
        if of_words != are_words:
            told, given = ("words", "texts") if of_words else ("texts", "words")
            raise EvaluationError(
                f"its head tells classes of {told} apart, and these rows are {given}",
                fix="rank by LogME, which needs none, or leave it out",
            )
        # A word is told by its first token, as it was trained to be.
        pooling = _FIRST if view == PREDICTIONS else _MEAN
        return _pool_words(probabilities, inputs["words"], pooling) if are_words else probabilities

    def _inputs(self, items: Sequence[Tokens]) -> dict[str, Any]:
        import torch

        device = self._network.device
        width = self._padded(max(len(tokens.ids) for tokens in items))
        padded = pad(items, self._tokenizer.pad_token_id or 0, width)
        batch = {name: torch.from_numpy(array) for name, array in padded.items()}
        if device.type == "cuda":
            batch = {name: tensor.pin_memory() for name, tensor in batch.items()}
        return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}

    def _padded(self, tokens: int) -> int:
        """The width of a batch: on a GPU, whose kernels like it, a multiple of 8 where the model takes that many."""
        multiple = self._padding_multiple
        return min(-(-tokens // multiple) * multiple, self._preparation.longest) if multiple > 1 else tokens

    def _pool(self, hidden: torch.Tensor, pooling: str, inputs: dict[str, Any], outputs: Any | None) -> torch.Tensor:
        import torch

        if hidden.shape[1] != inputs["input_ids"].shape[1]:
            raise EvaluationError(
                f"this layer has {hidden.shape[1]} positions for {inputs['input_ids'].shape[1]} tokens",
                fix="choose layer='last'",
            )
        if "words" in inputs:
            return _pool_words(hidden, inputs["words"], pooling)
        mask = inputs["attention_mask"].unsqueeze(-1)
        match self._own_pooling if pooling == "default" else pooling:
            case "mean":
                # Padding weighs nothing; sums are in single precision whatever the network computes in.
                weights = mask.to(hidden.dtype)
                return (hidden * weights).sum(dim=1, dtype=hidden.float().dtype) / mask.sum(dim=1).clamp(min=1)
            case "max":
                return hidden.masked_fill(mask == 0, float("-inf")).amax(dim=1)
            case "cls":
                return self._class_token(hidden, inputs["input_ids"])
            case "last":
                # Where the count of tokens that are not padding is first complete.
                place = mask[..., 0].cumsum(dim=1).argmax(dim=1)
                return hidden[torch.arange(len(hidden), device=hidden.device), place]
        raise _no_words()

    def _class_token(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        import torch

        if self._tokenizer.cls_token_id is None:
            raise EvaluationError("its tokenizer has no class token", fix="choose another pooling: mean, max or last")
        # Most put it first, some last.
        place = (ids == self._tokenizer.cls_token_id).int().argmax(dim=1)
        return hidden[torch.arange(len(hidden), device=hidden.device), place]


def _no_words() -> EvaluationError:
    return EvaluationError("these rows are not made of words", fix="choose another pooling: cls, mean, max or last")


def _pool_words(hidden: torch.Tensor, words: torch.Tensor, pooling: str) -> torch.Tensor:
    """A vector for every word of every sequence (sequences, tokens, dimensions) in turn."""
    import torch

    is_word = words != NO_WORD
    # Numbered so that a larger number is a later word.
    numbers = torch.arange(len(words), device=words.device)[:, None] * (words.max() + 1) + words
    _, of_token = numbers[is_word].unique(return_inverse=True)
    tokens = hidden[is_word].float()
    total = int(of_token.max()) + 1 if len(of_token) else 0
    if pooling == "cls":
        raise EvaluationError("a word has no class token", fix="choose another pooling: mean, max, first or last")
    if pooling in {"first", "last"}:
        is_edge = torch.ones_like(of_token, dtype=torch.bool)
        edges = is_edge[1:] if pooling == "first" else is_edge[:-1]
        edges.copy_(of_token[1:] != of_token[:-1])
        return tokens[is_edge]
    into = of_token[:, None].expand_as(tokens)
    how = "amax" if pooling == "max" else "mean"
    return tokens.new_zeros(total, tokens.shape[1]).scatter_reduce(0, into, tokens, how, include_self=False)


def _places_of_words(prepared: Sequence[TokenizedRow], order: np.ndarray) -> tuple[np.ndarray, int]:
    """Where each vector of `_pool_words` belongs among all rows' words, and how many of those there are."""
    counts = np.array([row.num_words for row in prepared])
    starts = np.concatenate([[0], counts.cumsum()])
    words = [
        starts[index] + np.unique(tokens.words[tokens.words != NO_WORD])
        for index, row in enumerate(prepared)
        for tokens in row.sequences
        if tokens.words is not None
    ]
    return np.concatenate([words[index] for index in order]), int(starts[-1])


def _placed(vectors: np.ndarray, places: np.ndarray, total: int) -> np.ndarray:
    """Vectors put in their places; zeros where none is given."""
    result = np.zeros((total, vectors.shape[1]), np.float32)
    # Of a word that two sequences share, the first part counts.
    result[places[::-1]] = vectors[::-1]
    return result
