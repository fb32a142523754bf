"""The learning rate over a training: up while it warms up, then down to 0."""

from __future__ import annotations


def rate(step: int, steps: int, warmup: int = 0) -> float:
    """The share of the learning rate that a step (from 0) of `steps` is taken with, after `warmup` steps of rising.

    >>> [rate(step, 4) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    >>> [rate(step, 6, warmup=2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup:
        return (step + 1) / warmup
    return (steps - step) / (steps - warmup)
