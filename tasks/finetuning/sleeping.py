"""The part of a network that stays as it is while the rest trains: what it says of rows is computed once.

It is kept as far as the rest reads it, which is found out by trying: what can be made unreadable (NaN) and the network
says the same to the bit is not read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import torch

# More than this is computed again in every epoch.
_MOST_BYTES = 1 << 30

# How much of a tensor (rows, …) is read: nothing, its first position, (rows, 1, …), or all of it.
Extent: TypeAlias = Literal["nothing", "first", "all"]
_EXTENTS: tuple[Extent, ...] = ("nothing", "first", "all")


@dataclass
class SleepingOutputs:
    """What a sleeping part of a network says of some rows, by the names of its outputs, as far as that is read."""

    kind: type
    read: Mapping[str, Extent]
    # Of what is not read, one that may stand for it.
    blanks: Mapping[str, torch.Tensor]
    of_row: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)

    def add(self, rows: Sequence[int], lengths: Sequence[int], outputs: Any) -> None:
        """Keep what it said of a batch of rows; of texts as many positions as each is long."""
        longest = max(lengths)
        for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            self.of_row[row] = {}
            for name, extent in self.read.items():
                said = outputs[name][place]
                if extent == "first":
                    self.of_row[row][name] = said[:1].clone()
                elif extent == "all":
                    has_positions = said.ndim > 1 and len(said) == longest
                    self.of_row[row][name] = (said[:length] if has_positions else said).clone()

    def of(self, rows: Sequence[int]) -> Any:
        """The outputs for a batch of rows."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        found = {}
        for name in self.read:
            if name in self.blanks:
                found[name] = self.blanks[name].expand(len(rows), *self.blanks[name].shape[1:])
                continue
            each = [self.of_row[row][name] for row in rows]
            alike = all(tensor.shape == each[0].shape for tensor in each)
            found[name] = torch.stack(each) if alike else pad_sequence(each, batch_first=True)
        return self.kind(**found)


@contextlib.contextmanager
def standing_in(body: Any, outputs: Any) -> Iterator[None]:
    """Within it the body says these outputs, whatever it is asked."""
    body.forward = lambda *_, **__: outputs
    try:
        yield
    finally:
        del body.forward


def heard(body: Any, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Any]:
    """What a network says in a `run`, and what its body says to the rest of it."""
    found: list[Any] = []
    handle = body.register_forward_hook(lambda module, given, outputs: found.append(outputs))
    try:
        said = run()
    finally:
        handle.remove()
    return said, found[-1] if len(found) == 1 else None


def begin_keeping(body: Any, rows: int, in_batch: int, run: Callable[[], torch.Tensor]) -> SleepingOutputs | None:
    """What is to be kept of a body's outputs for so many rows, by a `run` of the network on a batch of them.

    None where it says more than once what it says, where that cannot be handed to the rest, or is too much to keep.
    """
    import torch

    said, outputs = heard(body, run)
    if not hasattr(outputs, "items"):
        return None
    tensors = {name: each for name, each in outputs.items() if isinstance(each, torch.Tensor)}
    if any(each.ndim < 2 or len(each) != in_batch for each in tensors.values()):
        return None
    read: dict[str, Extent] = {}
    for name, tensor in tensors.items():
        for extent in _EXTENTS:
            with standing_in(body, type(outputs)(**tensors | {name: _blinded(tensor, extent)})):
                if torch.equal(run(), said):
                    read[name] = extent
                    break
        else:
            return None
    sizes = {"nothing": 0, "first": 1}
    kept = sum(tensors[name][:, : sizes.get(extent)].nbytes for name, extent in read.items())
    if kept * rows > _MOST_BYTES * in_batch:
        return None
    blanks = {name: torch.zeros_like(tensors[name][:1]) for name, extent in read.items() if extent == "nothing"}
    return SleepingOutputs(type(outputs), read, blanks)


def _blinded(tensor: torch.Tensor, extent: Extent) -> torch.Tensor:
    """The same, but for what is not read by that extent."""
    import torch

    if extent == "all" or not tensor.is_floating_point():
        return tensor
    blinded = torch.full_like(tensor, torch.nan)
    if extent == "first" and tensor.ndim > 2:
        blinded[:, :1] = tensor[:, :1]
    return blinded
