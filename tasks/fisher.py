"""The diagonal Fisher information of a network's weights on a classification task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

# Kinds of layers whose weights are measured: they hold nearly all there are.
_LAYERS = (nn.Linear, nn.Conv2d)


@dataclass(frozen=True)
class Head:
    """A linear classifier on features: logits are features @ weights.T + bias."""

    weights: Tensor
    bias: Tensor


def filter_fisher(
    network: nn.Module,
    features_of: Callable[[Any], Tensor],
    batches: Sequence[Any],
    head: Head,
    uniforms: Tensor,
) -> np.ndarray:
    """Diagonal Fisher information of a frozen network under a head, averaged over each output unit's weights.

    For every linear and two-dimensional convolution layer, in the order of `network.named_modules()`, one number for
    each output unit (filter): the mean, over the unit's weights and over the rows, of the squared derivative of
    log p(y|x) of that one row, where y is drawn from the model's own p(y|x), as Monte-Carlo estimates do (Achille
    et al., arXiv 1902.03545, section 2). Each of the random numbers `uniforms` ((rows, draws), from [0, 1)) draws the
    first class up to which the row's probabilities add up to more. Layers that no row passes count as 0.

    `features_of` gives the features, (rows, dimensions), of a batch; what it lets into the network has to require a
    gradient. Returns (units,) float64.
    """
    layers: list[Any] = [module for module in network.modules() if isinstance(module, _LAYERS)]
    sums = {layer: torch.zeros(layer.weight.shape[0], dtype=torch.float64) for layer in layers}
    rows = 0
    for batch in batches:
        with _passes(layers) as passed:
            features = features_of(batch)
        logits = functional.linear(features, head.weights, head.bias)
        shares, drawn = _draw(logits.detach().softmax(dim=1), uniforms[rows : rows + len(features)])
        # The square of a row's gradient counts by the share of its draws that are of the class.
        likelihoods = (shares.sqrt() * functional.log_softmax(logits, dim=1).gather(1, drawn)).sum(dim=0)
        outputs = [output for _, _, output in passed]
        for likelihood in likelihoods[shares.any(dim=0)]:
            derivatives = torch.autograd.grad(likelihood, outputs, retain_graph=True, allow_unused=True)
            gradients: dict[nn.Module, Tensor] = {}
            for (layer, given, _), derivative in zip(passed, derivatives, strict=True):
                if derivative is not None:
                    gradient = _weight_gradients(layer, given, derivative, len(features))
                    gradients[layer] = gradients[layer] + gradient if layer in gradients else gradient
            for layer, gradient in gradients.items():
                sums[layer] += gradient.square().mean(dim=2).sum(dim=0).double().cpu()
        rows += len(features)
    return (torch.cat([sums[layer] for layer in layers]) / rows).numpy()


def _draw(probabilities: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """The classes that each row's numbers draw by its probabilities, and the shares of its draws that are of each.

    Two tensors (rows, most classes that a row can have drawn), the shares first; a class may stand with the share 0.
    """
    classes = probabilities.shape[1]
    drawn = torch.searchsorted(probabilities.cumsum(dim=1), uniforms.to(probabilities), right=True)
    # Rounded probabilities may add up to less than 1.
    of_classes = functional.one_hot(drawn.clamp(max=classes - 1), classes).to(probabilities).mean(dim=1)
    return of_classes.topk(min(classes, uniforms.shape[1]), dim=1)


@contextmanager
def _passes(layers: Sequence[nn.Module]) -> Iterator[list[tuple[nn.Module, Tensor, Tensor]]]:
    """What goes into and comes out of layers, call by call, while the context lasts."""
    passed: list[tuple[nn.Module, Tensor, Tensor]] = []

    def keep(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        # What does not depend on the rows, as a table of relative positions, has no derivative for each of them.
        if not given[0].requires_grad:
            return None
        passed.append((layer, given[0].detach(), output))
        # What changes its input in place must not change what is kept.
        return output.clone()

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield passed
    finally:
        for handle in handles:
            handle.remove()


def _weight_gradients(layer: Any, given: Tensor, derivative: Tensor, rows: int) -> Tensor:
    """The gradient of each row's own likelihood by a layer's weights: (rows, output units, weights of a unit)."""
    if isinstance(layer, nn.Linear):
        # Windows and positions of one row lie side by side.
        given = given.reshape(rows, -1, layer.in_features)
        derivative = derivative.reshape(rows, -1, layer.out_features)
        return torch.einsum("npo,npi->noi", derivative, given)
    patches = functional.unfold(given, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    patches = patches.unflatten(1, (layer.groups, -1))
    derivative = derivative.flatten(2).unflatten(1, (layer.groups, -1))
    return torch.einsum("ngop,ngip->ngoi", derivative, patches).flatten(1, 2)
