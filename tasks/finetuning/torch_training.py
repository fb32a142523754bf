"""Training a torch network epoch by epoch, by AdamW on one device, in a way that can be gone on with bit for bit.

Every epoch is seeded by its number, so that neither the order of the rows nor what is dropped out depends on how the
training came there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.finetuning.examples import Examples, Goal
from tasks.finetuning.inputs import Inputs, Items
from tasks.finetuning.measuring import Measure, Validation
from tasks.finetuning.modes import Trainable
from tasks.finetuning.options import EXPLOSION, LARGEST_GRADIENT, Options
from tasks.finetuning.runs import Diverged
from tasks.finetuning.schedules import rate
from tasks.finetuning.sleeping import SleepingOutputs, begin_keeping, heard, standing_in
from tasks.sources.failures import is_out_of_memory

if TYPE_CHECKING:
    import torch

_EVALUATION_ROWS = 64
# After so many steps it is looked whether the losses are sound: asking a GPU each time would hold it up.
_CHECKED_STEPS = 16
_BEST, _LAST, _OPTIMIZER = "best.safetensors", "last.safetensors", "optimizer.pt"


class TorchTraining:
    """A network in training; see tasks.finetuning.runs.Training. Those of its weights are trained that ask for it."""

    def __init__(
        self,
        trainable: Trainable,
        inputs: Inputs,
        measure: Measure,
        fit: Examples,
        validation: Examples,
        options: Options,
    ) -> None:
        import torch
        from accelerate import Accelerator

        network = trainable.network
        self._trainable = trainable
        self._inputs, self._measure, self._options = inputs, measure, options
        self._fit, self._validation = inputs.prepare(fit), validation
        self._targets = _targets(measure.goal, fit.labels)
        self._accelerator = Accelerator(mixed_precision="bf16" if _has_bfloat16() else "no")
        self._device = self._accelerator.device
        optimizer = torch.optim.AdamW(
            [weights for weights in network.parameters() if weights.requires_grad],
            lr=options.lr,
            weight_decay=0.0,
            fused=True,
        )
        self._network, self._optimizer = self._accelerator.prepare(network, optimizer)
        self._best: dict[str, torch.Tensor] | None = None
        self._at_once = options.batch_size
        self._first_loss: float | None = None
        steps = -(-len(self._fit) // options.batch_size)
        self._steps = steps
        self._prepared_validation = inputs.prepare(validation)
        # Of the rows of every epoch, what is kept of the part that sleeps.
        self._kept: dict[int, SleepingOutputs | None] = {}

    def merged(self) -> Any:
        """The network with all that was learnt in weights of its own; not to be trained any more."""
        self._trainable.merge()
        return self._trainable.network

    def train(self, epoch: int) -> Mapping[str, float]:
        from transformers import set_seed

        started = time.perf_counter()
        for items in (self._fit, self._prepared_validation):
            if id(items) not in self._kept:
                self._kept[id(items)] = self._outputs_kept(items)
        seed = int(np.random.SeedSequence([self._options.seed, epoch]).generate_state(1)[0])
        set_seed(seed)
        _reset_peak_memory(self._device)
        self._network.train()
        if self._trainable.asleep is not None:
            self._trainable.asleep.eval()
        order = np.random.default_rng(seed).permutation(len(self._fit))
        steps = self._options.epochs * self._steps
        losses: list[torch.Tensor] = []
        total = 0.0
        # Of equal size but for one row: an odd row alone would weigh as much as a whole batch.
        for number, rows in enumerate(np.array_split(order, self._steps)):
            share = rate(epoch * self._steps + number, steps, round(self._options.warmup * steps))
            for group in self._optimizer.param_groups:
                group["lr"] = self._options.lr * share
            losses.append(self._step(rows))
            if len(losses) == _CHECKED_STEPS or number == self._steps - 1:
                total += self._checked(losses)
                losses.clear()
        return {
            "train_loss": total / self._steps,
            "learning_rate": self._options.lr * share,
            "rows_per_second": len(self._fit) / (time.perf_counter() - started),
            "peak_memory_bytes": _peak_memory(self._device),
        }

    def validate(self) -> Validation:
        return self._measure.validation(self._scores(self._prepared_validation), self._validation.labels)

    def scores(self, examples: Examples) -> np.ndarray:
        """(labels, outputs) float32 of rows by the weights as they are."""
        return self._scores(self._inputs.prepare(examples))

    def keep_best(self) -> None:
        self._best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._weights().items()}

    def use_best(self) -> None:
        if self._best is not None:
            self._set_weights(self._best)

    def save(self, directory: Path, goes_on: bool) -> None:
        import torch
        from safetensors.torch import save_file

        save_file(self._best or {}, directory / _BEST)
        if goes_on:
            save_file({name: each.detach().contiguous() for name, each in self._weights().items()}, directory / _LAST)
            torch.save(
                {"optimizer": self._optimizer.state_dict(), "first_loss": self._first_loss}, directory / _OPTIMIZER
            )

    def load(self, directory: Path, goes_on: bool) -> None:
        import torch
        from safetensors.torch import load_file

        self._best = load_file(directory / _BEST)
        if goes_on:
            self._set_weights(load_file(directory / _LAST))
            state = torch.load(directory / _OPTIMIZER, map_location=self._device, weights_only=True)
            self._optimizer.load_state_dict(state["optimizer"])
            self._first_loss = state["first_loss"]

    def _step(self, rows: np.ndarray) -> torch.Tensor:
        """One step on these rows; in parts, where they do not fit the memory together."""
        import torch

        while True:
            try:
                self._optimizer.zero_grad()
                losses = [self._backward(part, rows) for part in _parts(rows, self._at_once)]
                break
            except (RuntimeError, MemoryError) as error:
                if self._at_once == 1 or not is_out_of_memory(error):
                    raise
                self._at_once = -(-min(self._at_once, len(rows)) // 2)
            self._empty_cache()
        self._accelerator.clip_grad_norm_(self._network.parameters(), LARGEST_GRADIENT)
        self._optimizer.step()
        return torch.stack(losses).sum()

    def _backward(self, part: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        """Add the gradient of a part of the rows to a step's; the part's share of the loss."""
        targets = self._targets[np.concatenate([self._fit.of_item[row] for row in part])]
        answered = sum(len(self._fit.of_item[row]) for row in rows)
        logits = self._logits(self._fit, part)
        loss = _loss(self._measure.goal, logits, targets.to(logits.device)) / max(answered, 1)
        self._accelerator.backward(loss)
        return loss.detach()

    def _logits(self, items: Items, rows: np.ndarray) -> torch.Tensor:
        asked = [items.items[row] for row in rows]
        batch = self._inputs.batch(asked, self._device)
        kept = self._kept.get(id(items))
        if kept is None:
            outputs = self._network(**batch)
        else:
            with standing_in(self._trainable.asleep, kept.of(rows.tolist())):
                outputs = self._network(**batch)
        return self._inputs.answers(outputs.logits.float(), asked)

    def _outputs_kept(self, items: Items) -> SleepingOutputs | None:
        """What the part that sleeps says of all rows; None where it says something else after a step, or too much."""
        import torch

        body = self._trainable.asleep
        if body is None or any(weights.requires_grad for weights in body.parameters()):
            return None
        self._network.eval()
        kept: SleepingOutputs | None = None
        with torch.no_grad():
            for part in _by_length(items):
                run = partial(self._logits, items, part)
                if kept is None and (kept := begin_keeping(body, len(items), len(part), run)) is None:
                    return None
                _, outputs = heard(body, run)
                kept.add(part.tolist(), [_length(items.items[row]) for row in part], outputs)
        return kept

    def _checked(self, losses: Sequence[torch.Tensor]) -> float:
        """The sum of the losses of steps. Raises Diverged."""
        import torch

        values = torch.stack(list(losses)).double().cpu().numpy()
        if self._first_loss is None:
            self._first_loss = float(values[0])
        bound = EXPLOSION * (abs(self._first_loss) + 1)
        if not np.isfinite(values).all():
            raise Diverged(f"the loss is not finite at lr={self._options.lr:g}; try a smaller lr")
        if values.max() > bound:
            raise Diverged(f"the loss rose to {values.max():.2g} at lr={self._options.lr:g}; try a smaller lr")
        return float(values.sum())

    def _scores(self, items: Items) -> np.ndarray:
        import torch

        self._network.eval()
        scores = np.zeros((items.total, self._measure.goal.outputs), np.float32)
        # Of a word that two items share, the first part counts.
        found: dict[int, np.ndarray] = {}
        with torch.inference_mode():
            for part in _by_length(items):
                answers = self._logits(items, part).cpu().numpy()
                edges = np.cumsum([len(items.of_item[row]) for row in part])
                found |= dict(zip(part.tolist(), np.split(answers, edges[:-1]), strict=True))
        for row in reversed(range(len(items))):
            scores[items.of_item[row]] = found[row]
        return scores

    def _weights(self) -> dict[str, torch.Tensor]:
        """What training changes: the weights that are trained, and the state of layers such as batch norm."""
        network = self._trainable.network
        persistent = network.state_dict(keep_vars=True)
        trained = {name: each for name, each in network.named_parameters() if each.requires_grad}
        buffers = {name: each for name, each in network.named_buffers() if name in persistent}
        return trained | buffers

    def _set_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, tensor in self._weights().items():
                tensor.copy_(weights[name])

    def _empty_cache(self) -> None:
        import torch

        torch.cuda.empty_cache()


def _parts(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _by_length(items: Items) -> Iterator[np.ndarray]:
    """All rows in batches, alike in length side by side, the longest first."""
    order = np.argsort([-_length(item) for item in items.items], kind="stable")
    yield from _parts(order, _EVALUATION_ROWS)


def _length(item: Any) -> int:
    return len(item.ids) if hasattr(item, "ids") else 0


def _targets(goal: Goal, labels: np.ndarray) -> torch.Tensor:
    """Labels as the loss takes them, (labels,) or (labels, classes)."""
    import torch

    if goal.task == "regression":
        return torch.from_numpy(((labels - goal.mean) / goal.deviation).astype(np.float32))
    if goal.task == "multilabel classification":
        return torch.from_numpy(labels.astype(np.float32))
    return torch.from_numpy(labels)


def _loss(goal: Goal, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss summed over labels; of several classes a row has, the mean over these."""
    from torch.nn import functional

    if goal.task == "regression":
        return functional.mse_loss(logits[:, 0], targets, reduction="sum")
    if goal.task == "multilabel classification":
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / targets.shape[1]
    return functional.cross_entropy(logits, targets, reduction="sum")


def _has_bfloat16() -> bool:
    """Half precision is for GPUs that compute with it; bfloat16 has the range of float32, so nothing overflows."""
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def _reset_peak_memory(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory(device: torch.device) -> float:
    """The most bytes in use so far: of the GPU in this epoch, or of this process since it began."""
    import resource

    import torch

    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
