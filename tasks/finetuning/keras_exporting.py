"""A fine-tuned TensorFlow model as a SavedModel, called as hub modules are: rows in, features and probabilities out.

Images are (rows, side, side, 3) float32 in 0 to 1, texts (rows,) strings. The names of the classes stand in a file that
tasks.sources.tfhub reads.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from storage.catalog import ModelRecord
from tasks.finetuning.evaluating import export
from tasks.finetuning.examples import Goal
from tasks.finetuning.keras_runs import open_training
from tasks.finetuning.keras_training import KerasTraining
from tasks.sources.tfhub import LABELS


class Finetuned(tf.Module):  # type: ignore[misc]
    """A body with its head, and all that owns their variables and assets; it is called on rows as `spec` has them."""

    def __init__(self, training: KerasTraining, spec: tf.TensorSpec) -> None:
        super().__init__()
        self.body, self.head = training.body.network, training.head
        self.resources = training.body.resources
        self._feed = training.body.feed
        self.__call__ = tf.function(self._answer, input_signature=[spec])

    def _answer(self, rows: Any) -> dict[str, Any]:
        features = self.body(self._feed(rows), training=False)
        return {"features": features, "probabilities": tf.nn.softmax(self.head(features, training=False))}


def _write(training: KerasTraining, model: ModelRecord, goal: Goal, directory: Path) -> None:
    assert goal.kind == "classification"
    image = training.body.network.input_shape[1:]
    spec = tf.TensorSpec((None,), tf.string) if model.modality == "text" else tf.TensorSpec((None, *image), tf.float32)
    module = Finetuned(training, spec)
    tf.saved_model.save(module, str(directory), signatures=module.__call__.get_concrete_function())
    (directory / LABELS).parent.mkdir(exist_ok=True)
    (directory / LABELS).write_text(json.dumps({"labels": goal.classes}))


export_keras = partial(export, open_training, _write)
