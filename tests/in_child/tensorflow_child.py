"""What tests run in TensorFlow's own process, so that theirs never imports it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from storage.views import LAST


def save_image_model(path: str) -> None:
    """A SavedModel that is called on images (rows, 16, 16, 3) and gives 8 features of random weights."""
    import tensorflow as tf

    class Images(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(tf.random.stateless_normal((3, 8), seed=(0, 1)))

        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
        def __call__(self, images: Any) -> Any:
            return tf.tanh(tf.reduce_mean(images, (1, 2)) @ self.weights)

    _save(Images(), path)


def save_text_model(path: str) -> None:
    """A SavedModel that is called on sentences and gives 8 features of random weights."""
    import tensorflow as tf

    class Sentences(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(tf.random.stateless_normal((64, 8), seed=(0, 2)))

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def __call__(self, sentences: Any) -> Any:
            words = tf.strings.split(sentences)
            vectors = tf.gather(self.weights, tf.strings.to_hash_bucket_fast(words.flat_values, 64))
            return tf.math.segment_mean(vectors, words.value_rowids())

    _save(Sentences(), path)


def _save(module: Any, path: str) -> None:
    import tensorflow as tf

    tf.saved_model.save(module, path, signatures=module.__call__.get_concrete_function())


def embed(record: dict[str, Any], rows_file: str, batches: list[int]) -> str:
    """Open a model and embed the rows of an .npz in batches of these sizes; the name of the features' file."""
    from storage.catalog import ModelRecord
    from tasks.sources import source_named

    with np.load(rows_file) as arrays:
        rows = [str(row) if row.dtype.kind == "U" else row for row in arrays.values()]
    model = source_named("tfhub").open(ModelRecord(**record))
    edges = np.cumsum([0, *batches])
    features = [model.embed(model.prepare(rows[start:stop]), [LAST])[LAST] for start, stop in pairwise(edges)]
    model.close()
    target = Path(rows_file).with_suffix(".features.npy")
    np.save(target, np.concatenate(features))
    return str(target)
