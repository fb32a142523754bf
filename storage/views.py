"""What of a model's forward pass is kept: a layer and how its positions are pooled."""

from __future__ import annotations

from typing import NamedTuple

# Raise it when features change for equal files: everything computed from the former becomes unknown.
EMBEDDING_VERSION = 3


class View(NamedTuple):
    """One vector a row. Features of another view of the same forward pass are stored beside it.

    `layer` is `last`, `mean` (over the hidden layers), the number of a layer (0 are the input embeddings), or
    `probabilities`, those of the classes the model was trained to tell apart. `pooling` is `cls`, `mean`, `max` or
    `last` over a row's positions, `first` of a word's, or `default`, what each of tasks.sources documents as its own.
    """

    layer: str = "last"
    pooling: str = "default"


LAST = View()
PROBABILITIES = View("probabilities")
# What a head says of each row as it was trained to say it; never stored.
PREDICTIONS = View("predictions")
