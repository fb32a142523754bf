from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.fisher import Head, filter_fisher

# Draws of each row: one; and several, of one class and of others.
UNIFORMS = {
    "one draw": torch.tensor([[0.05], [0.95], [0.4], [0.6], [0.2], [0.8]]),
    "four draws": (torch.tensor([[0.05], [0.95], [0.4], [0.6], [0.2], [0.8]]) + torch.arange(4)) / 4,
}


def _images(rows: int = 6) -> Tensor:
    return torch.randn((rows, 4, 9, 9), generator=torch.Generator().manual_seed(1))


class _Twice(nn.Module):
    """The same layer after itself, as models that share weights between layers have."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(functional.gelu(self.layer(x)))


class _Tokens(nn.Module):
    """Positions side by side in the first dimension, as window attention has them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        windows = x.flatten(2).transpose(1, 2).reshape(len(x) * 9, 9, 4)
        return self.layer(windows).reshape(len(x), 81, 5).transpose(1, 2).unflatten(2, (9, 9))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(4, 6, 3),
    "strides, padding and dilation": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2),
    "groups": lambda: nn.Conv2d(4, 8, (3, 2), groups=2, padding=(1, 0), bias=False),
    "depthwise": lambda: nn.Sequential(nn.Conv2d(4, 4, 5, groups=4), nn.GELU(), nn.Conv2d(4, 3, 1)),
    "change in place": lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 3, 3)),
    "shared weights": _Twice,
    "linear over positions": _Tokens,
}


def _make(name: str) -> tuple[nn.Module, Callable[[Tensor], Tensor], Head]:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval().requires_grad_(False)

    def features_of(batch: Tensor) -> Tensor:
        return network(batch.clone().requires_grad_()).mean(dim=(2, 3))

    dimensions = features_of(_images(1)).shape[1]
    return network, features_of, Head(torch.randn((3, dimensions)), torch.randn(3))


def _measure(name: str, draws: str, batch_rows: int) -> np.ndarray:
    network, features_of, head = _make(name)
    return filter_fisher(network, features_of, _images().split(batch_rows), head, UNIFORMS[draws])


def _brute_force(name: str, draws: str) -> np.ndarray:
    """Row by row and draw by draw, the gradient of the drawn class's likelihood by every weight, as autograd has it."""
    network, features_of, head = _make(name)
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    for weight in weights:
        weight.requires_grad_()
    sums: list[Any] = [0.0 for _ in weights]
    for row, uniforms in zip(_images().split(1), UNIFORMS[draws], strict=True):
        likelihoods = functional.log_softmax(features_of(row) @ head.weights.T + head.bias, dim=1)[0]
        for drawn in torch.searchsorted(likelihoods.detach().exp().cumsum(0), uniforms, side="right"):
            gradients = torch.autograd.grad(likelihoods[drawn], weights, retain_graph=True)
            sums = [total + gradient.square() for total, gradient in zip(sums, gradients, strict=True)]
    num_draws = UNIFORMS[draws].numel()
    return np.concatenate([(total / num_draws).flatten(1).mean(dim=1).numpy() for total in sums])


@pytest.mark.parametrize("draws", UNIFORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_mean_square_of_each_rows_own_gradient(name: str, draws: str) -> None:
    np.testing.assert_allclose(_measure(name, draws, 1), _brute_force(name, draws), rtol=1e-4)


@pytest.mark.parametrize("draws", UNIFORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_batches_only_divide_the_work(name: str, draws: str) -> None:
    np.testing.assert_allclose(_measure(name, draws, 4), _measure(name, draws, 6), rtol=1e-4)


def test_even_draws_give_the_expectation_over_the_classes() -> None:
    network, features_of, head = _make("convolution")
    assert isinstance(network, nn.Conv2d)
    row = _images(1)
    uniforms = (torch.arange(2000) + 0.5)[None] / 2000
    even = filter_fisher(network, features_of, [row], head, uniforms)
    network.weight.requires_grad_()
    likelihoods = functional.log_softmax(features_of(row) @ head.weights.T + head.bias, dim=1)[0]
    exact = sum(
        likelihood.exp().item() * torch.autograd.grad(likelihood, network.weight, retain_graph=True)[0].square()
        for likelihood in likelihoods
    )
    assert isinstance(exact, Tensor)
    np.testing.assert_allclose(even, exact.flatten(1).mean(dim=1).numpy(), rtol=0.01)


def test_a_layer_that_the_features_do_not_rest_on_counts_nothing() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            self.idle(x)
            return self.used(x)

    network = Idle().requires_grad_(False)
    fisher = filter_fisher(
        network,
        lambda batch: network(batch.clone().requires_grad_()).mean(dim=(2, 3)),
        [_images()],
        Head(torch.eye(2), torch.zeros(2)),
        UNIFORMS["one draw"],
    )
    assert (fisher[:2] > 0).all()
    assert (fisher[2:] == 0).all()
