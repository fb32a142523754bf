"""Trains one small TensorFlow model on an upstream task and saves it as TensorFlow Hub would hold it.

The saved object is called as hub modules are: images (rows, 32, 32, 3) float32 in [0, 1], or a
one-dimensional tensor of sentences, in; features (rows, dimensions) float32 out. The head is not saved.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tasks.playground.images import SIDE
from tasks.playground.sizes import BATCH_ROWS, HELD_OUT_ROWS, ModelSpec
from tasks.playground.splits import make_splits

LEARNING_RATE = 3e-3
HASH_BUCKETS = 4096


class ImageFeatures(tf.Module):  # type: ignore[misc]
    """Convolutions, each halving the side and doubling the width, averaged over the image."""

    def __init__(self, width: int, depth: int, generator: np.random.Generator) -> None:
        super().__init__()
        widths = [3, *(width * 2**layer for layer in range(depth))]
        self.kernels = [_weights(generator, 3, 3, *pair) for pair in pairwise(widths)]
        self.biases = [tf.Variable(tf.zeros(width)) for width in widths[1:]]
        self.dimensions = widths[-1]

    @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="images")])
    def __call__(self, images: Any) -> Any:
        hidden = images * 2 - 1
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            hidden = tf.nn.relu(tf.nn.conv2d(hidden, kernel, 1, "SAME") + bias)
            hidden = tf.nn.max_pool2d(hidden, 2, 2, "SAME")
        return tf.reduce_mean(hidden, (1, 2))


class TextFeatures(tf.Module):  # type: ignore[misc]
    """Embeddings of the words' hash buckets, averaged over the sentence, and a dense layer."""

    def __init__(self, width: int, generator: np.random.Generator) -> None:
        super().__init__()
        self.embeddings = tf.Variable(generator.normal(0, 0.1, (HASH_BUCKETS, width)).astype(np.float32))
        self.dense = _weights(generator, width, width)
        self.dimensions = width

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="sentences")])
    def __call__(self, sentences: Any) -> Any:
        letters = tf.strings.regex_replace(tf.strings.lower(sentences), "[^a-z0-9]+", " ")
        words = tf.strings.split(letters)
        buckets = tf.strings.to_hash_bucket_fast(words.flat_values, HASH_BUCKETS)
        rows = words.value_rowids()
        shape = (tf.shape(sentences)[0], tf.shape(self.embeddings)[1])
        sums = tf.scatter_nd(rows[:, None], tf.gather(self.embeddings, buckets), tf.cast(shape, tf.int64))
        lengths = tf.cast(tf.maximum(words.row_lengths(), 1), tf.float32)
        return tf.nn.relu(sums / lengths[:, None] @ self.dense)


def train(spec: ModelSpec, directory: Path, seed: int) -> float:
    """Write the SavedModel to `directory`; returns the accuracy on held-out rows of the upstream task.

    Equal arguments give equal files, but for `fingerprint.pb`, in a process that trains nothing else:
    TensorFlow numbers the functions of a process, and the numbers are saved.
    """
    tf.config.experimental.enable_op_determinism()
    generator = np.random.default_rng([seed, *spec.name.encode()])
    splits = make_splits(spec.modality, spec.upstream, spec.rows, HELD_OUT_ROWS, seed)
    if spec.modality == "image":
        rows, held_out_rows = (part / np.float32(255) for part in (splits.train_rows, splits.test_rows))
        features: ImageFeatures | TextFeatures = ImageFeatures(spec.width, spec.depth, generator)
    else:
        rows, held_out_rows = np.array(splits.train_rows), np.array(splits.test_rows)
        features = TextFeatures(spec.width, generator)
    head = _weights(generator, features.dimensions, len(splits.classes))
    _fit(features, head, rows, splits.train_labels, spec.epochs, generator)
    predicted = np.argmax(features(held_out_rows) @ head, axis=1)
    tf.saved_model.save(features, directory, signatures=features.__call__.get_concrete_function())
    return float(np.mean(predicted == splits.test_labels))


def _weights(generator: np.random.Generator, *shape: int) -> Any:
    """He's normal initialisation: variance 2 over the number of inputs."""
    return tf.Variable(generator.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32))


def _fit(
    features: ImageFeatures | TextFeatures,
    head: Any,
    rows: np.ndarray,
    labels: np.ndarray,
    epochs: int,
    generator: np.random.Generator,
) -> None:
    """Adam (Kingma and Ba, 2015) on the cross-entropy of `features` followed by the linear `head`."""
    variables = (*features.trainable_variables, head)
    means = [tf.Variable(tf.zeros_like(variable)) for variable in variables]
    squares = [tf.Variable(tf.zeros_like(variable)) for variable in variables]

    @tf.function(reduce_retracing=True)
    def step(batch: Any, wanted: Any, number: Any) -> None:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, features(batch) @ head)
            loss = tf.reduce_mean(losses)
        for variable, mean, square, gradient in zip(
            variables, means, squares, tape.gradient(loss, variables), strict=True
        ):
            gradient = tf.convert_to_tensor(gradient)
            mean.assign(0.9 * mean + 0.1 * gradient)
            square.assign(0.999 * square + 0.001 * gradient**2)
            rate = LEARNING_RATE * tf.sqrt(1 - 0.999**number) / (1 - 0.9**number)
            variable.assign_sub(rate * mean / (tf.sqrt(square) + 1e-8))

    number = 0
    for _ in range(epochs):
        order = generator.permutation(len(rows))
        for start in range(0, len(rows), BATCH_ROWS):
            batch = order[start : start + BATCH_ROWS]
            number += 1
            step(rows[batch], labels[batch], tf.constant(number, tf.float32))
