"""The networks that Keras trains: what makes features of rows, then features standardised and a fresh head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from storage.catalog import ModelRecord
from storage.errors import EvaluationError
from tasks.readers.base import Pair, Row, Rows
from tasks.sources import source_named
from tasks.sources.keras import KerasModel
from tasks.sources.tfhub import TFHubModel

# A feature that hardly varies is not blown up: its variance counts as this share of the features' mean one at least.
_LEAST_VARIANCE = 0.01


@dataclass(frozen=True)
class Body:
    """What makes features (rows, dimensions) of rows: `network`, fed with what `feed` makes of a tensor of rows.

    `tensor` makes that: images (uint8), sentences, or pairs of them (rows, 2). `resources` own what a network is made
    of that Keras does not know of.
    """

    network: keras.Model
    feed: Callable[[Any], Any]
    tensor: Callable[[Rows], Any]
    resources: Any = None


def open_body(model: ModelRecord, example: Row) -> Body:
    """The body of a TensorFlow model for rows like `example`; all of it is trainable that training can change.

    Raises EvaluationError when the model cannot be opened, or does not fit the rows.
    """
    opened = source_named(model.source).open(model)
    assert isinstance(opened, KerasModel | TFHubModel)

    def tensor(rows: Rows) -> Any:
        prepared = opened.prepare(rows)
        return tf.constant(np.stack(prepared) if model.modality == "image" else prepared)

    def feed(rows: Any) -> Any:
        return opened.feed(tf.cast(rows, tf.float32) / 255 if rows.dtype == tf.uint8 else rows)

    row = tensor([example])
    are_pairs = isinstance(example, Pair)
    fed = feed(tf.reshape(row, [-1]) if are_pairs else row)
    if isinstance(opened, KerasModel):
        network, resources = _with_mean_over_positions(opened.body), None
        network.trainable = True
    else:
        network, resources = _functional(SavedModelLayer(opened, fed), fed), opened.loaded
    if are_pairs:
        return Body(_functional(PairsLayer(network, feed), row), lambda pairs: pairs, tensor, resources)
    return Body(network, feed, tensor, resources)


def require_trainable(body: Body, model: ModelRecord) -> None:
    """Raise EvaluationError where training cannot change what the body says."""
    if not body.network.trainable_variables:
        raise EvaluationError(
            "no gradient reaches a weight of it, so that it cannot be trained as a whole",
            subject=model.name,
            fix="train a head on its features: FineTune(mode='head')",
        )


def standard_of(features: np.ndarray, pace: float) -> list[np.ndarray]:
    """Mean, and variance divided by the pace's square, of each of the features (rows, dimensions).

    The variance of those that hardly vary is raised.
    """
    variances = features.var(axis=0)
    least = _LEAST_VARIANCE * variances.mean()
    raised = np.maximum(variances, least) if least else np.ones_like(variances)
    return [features.mean(axis=0), raised / pace**2]


def head_layers(units: int, pace: float) -> list[keras.layers.Layer]:
    """Features standardised, by mean and variance that are the weights of the first layer, and a linear layer.

    That way features of any scale are learnt from at one learning rate. They are `pace` times as large as usual, and
    the linear layer's first weights as much smaller: Adam, whose steps are of one size, changes what the head says of
    features so many times as fast.
    """
    standardise = keras.layers.BatchNormalization(center=False, scale=False, epsilon=1e-12, trainable=False)
    first_weights = keras.initializers.VarianceScaling(1 / pace**2, "fan_avg", "uniform")
    return [standardise, keras.layers.Dense(units, kernel_initializer=first_weights)]


def with_head(network: keras.Model, layers: list[keras.layers.Layer]) -> keras.Model:
    """The network with these layers after it, all side by side as Keras's own files have them."""
    output = network.output
    for layer in layers:
        output = layer(output)
    return keras.Model(network.input, output)


class SavedModelLayer(keras.layers.Layer):  # type: ignore[misc]
    """An opened SavedModel as a layer that gives features (rows, dimensions), the mean over positions.

    It is trained as it infers: statistics of batches stay as they are, and nothing is dropped out.
    """

    def __init__(self, opened: TFHubModel, fed: Any) -> None:
        super().__init__()
        self._opened = opened
        with tf.GradientTape() as tape:
            features = self._flat(opened.features(fed))
        self._width = features.shape[-1]
        # Wrapped, they stay the SavedModel's own.
        self.reached = [
            keras.Variable(variable, shape=variable.shape, dtype=variable.dtype, name=f"weights_{number}")
            for number, variable in enumerate(_reached(tape, features, opened.weights))
        ]

    def call(self, fed: Any) -> Any:
        return tf.ensure_shape(self._flat(self._opened.features(fed)), (None, self._width))

    def compute_output_spec(self, fed: Any) -> Any:
        return keras.KerasTensor((fed.shape[0], self._width), "float32")

    @staticmethod
    def _flat(features: Any) -> Any:
        rank = features.shape.rank
        if rank is not None and rank > 2:
            features = tf.reduce_mean(features, list(range(1, rank - 1)))
        elif rank == 1:
            features = features[:, None]
        return tf.cast(features, tf.float32)


def _reached(tape: tf.GradientTape, features: Any, variables: list[Any]) -> list[Any]:
    """The variables that a gradient reaches; operations may have none."""
    try:
        gradients = tape.gradient(features, variables)
    except LookupError:
        return []
    return [variable for variable, gradient in zip(variables, gradients, strict=True) if gradient is not None]


class PairsLayer(keras.layers.Layer):  # type: ignore[misc]
    """Pairs (rows, 2) of sentences as features u, v, |u − v|, u · v of them, as they are embedded."""

    def __init__(self, body: keras.Model, feed: Callable[[Any], Any]) -> None:
        super().__init__()
        self.body = body
        self._feed = feed

    def call(self, pairs: Any, training: bool = False) -> Any:
        features = self.body(self._feed(tf.reshape(pairs, [-1])), training=training)
        first, second = features[::2], features[1::2]
        return tf.concat([first, second, tf.abs(first - second), first * second], axis=1)

    def compute_output_spec(self, pairs: Any, training: bool = False) -> Any:
        return keras.KerasTensor((pairs.shape[0], 4 * self.body.output_shape[-1]), "float32")


def _functional(layer: keras.layers.Layer, fed: Any) -> keras.Model:
    """A network of that one layer, for batches like `fed`."""
    rows = keras.Input(fed.shape[1:], dtype=fed.dtype.name)
    return keras.Model(rows, layer(rows))


def _with_mean_over_positions(network: keras.Model) -> keras.Model:
    pooling = {
        1: keras.layers.Reshape((1,)),
        3: keras.layers.GlobalAveragePooling1D(),
        4: keras.layers.GlobalAveragePooling2D(),
        5: keras.layers.GlobalAveragePooling3D(),
    }
    rank = len(network.output.shape)
    return with_head(network, [pooling[rank]]) if rank in pooling else network
