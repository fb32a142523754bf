"""Training a TensorFlow model epoch by epoch with Keras's `fit`, so that it can go on where it stopped."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from storage.catalog import ModelRecord
from tasks.finetuning.examples import Examples, Goal, TrainingRows
from tasks.finetuning.keras_networks import Body, head_layers, open_body, require_trainable, standard_of, with_head
from tasks.finetuning.measuring import Measure, Validation
from tasks.finetuning.options import EXPLOSION, LARGEST_GRADIENT, Options
from tasks.finetuning.runs import Diverged
from tasks.finetuning.schedules import rate
from tasks.readers.base import Rows
from tasks.sources.failures import require_finite

# Of rows that are not trained on.
_BATCH_ROWS = 64
# A new head learns so many times as fast as the model under it, which has only to be adapted.
_HEAD_PACE = 10.0
_STATE, _BEST = "state", "best"
_LOSSES = {
    "classification": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "multilabel classification": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
    "regression": keras.losses.MeanSquaredError,
}


class StepsOfEpoch(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the learning rate before each step of an epoch, and raises Diverged once the loss is lost.

    `loss` is the mean of the steps so far, and `learning_rate` that of the last.
    """

    def __init__(self, options: Options, epoch: int, steps: int, most: float) -> None:
        super().__init__()
        self.loss = self.learning_rate = float("nan")
        self._options, self._first, self._most = options, epoch * steps, most
        self._steps = options.epochs * steps
        self._warmup = round(options.warmup * self._steps)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self.learning_rate = self._options.lr * rate(self._first + batch, self._steps, self._warmup)
        self.model.optimizer.learning_rate = self.learning_rate

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        assert logs is not None
        self.loss = float(logs["loss"])
        if not np.isfinite(self.loss):
            raise Diverged(f"the loss is not finite at lr={self._options.lr:g}; try a smaller lr")
        if self.loss > self._most:
            raise Diverged(f"the loss rose to {self.loss:.2g} at lr={self._options.lr:g}; try a smaller lr")


class KerasTraining:
    """A training as tasks.finetuning.runs drives it. What is not trained of a model runs once, before the first epoch.

    On the CPU it is the same to the bit at every time. Raises EvaluationError when the model cannot be opened, does not
    fit the rows, or is to be trained as a whole and cannot be.
    """

    def __init__(
        self,
        model: ModelRecord,
        rows: TrainingRows,
        measure: Measure,
        options: Options,
        mode: Literal["full", "head"],
    ) -> None:
        if not tf.config.list_physical_devices("GPU"):
            tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(options.seed)
        self._model, self._options, self._measure, self._mode = model, options, measure, mode
        self._labels = rows.validation.labels
        self._body = open_body(model, rows.fit.rows[0])
        self._pace = _HEAD_PACE if mode == "full" else 1.0
        self._head = head_layers(rows.goal.outputs, self._pace)
        if mode == "full":
            require_trainable(self._body, model)
            self._trained = with_head(self._body.network, self._head)
            self._feed, self._taken = self._body.feed, self._body.tensor
        else:
            self._trained = self.head
            self._feed, self._taken = _as_it_is, self._features
        self._fit = self._taken(rows.fit.rows)
        self._validation = self._taken(rows.validation.rows)
        self._steps = -(-len(self._fit) // options.batch_size)
        self._best = [tf.Variable(variable.value, trainable=False) for variable in self._trained.variables]
        self._order = tf.Variable(tf.range(len(self._fit), dtype=tf.int64))
        self._batches = self._in_order(tf.constant(_targets(rows.goal, rows.fit.labels)))
        self._optimizer = self._compile(rows.goal)
        self._run = tf.function(lambda batch: self._trained(self._feed(batch), training=False), reduce_retracing=True)

    def train(self, epoch: int) -> Mapping[str, float]:
        started = time.perf_counter()
        if epoch == 0:
            features = self._fit.numpy() if self._mode == "head" else self._embedded(self._fit)
            self._head[0].set_weights(standard_of(require_finite(features, self._model), self._pace))
        self._order.assign(np.random.default_rng([self._options.seed, epoch]).permutation(len(self._fit)))
        steps = StepsOfEpoch(self._options, epoch, self._steps, EXPLOSION * (_ignorance(self._measure.goal) + 1))
        self._trained.fit(
            self._batches, epochs=epoch + 1, initial_epoch=epoch, verbose=0, shuffle=False, callbacks=[steps]
        )
        return {
            "train_loss": steps.loss,
            "learning_rate": steps.learning_rate,
            "rows_per_second": len(self._fit) / (time.perf_counter() - started),
            "peak_memory_bytes": _peak_memory(),
        }

    def validate(self) -> Validation:
        return self._measure.validation(self._scores(self._validation), self._labels)

    def scores(self, examples: Examples) -> np.ndarray:
        """(rows, outputs) float32 of rows by the weights as they are."""
        return self._scores(self._taken(examples.rows))

    @property
    def body(self) -> Body:
        """What makes features of rows, by the weights as they are."""
        return self._body

    @property
    def head(self) -> keras.Model:
        """What says numbers, (rows, outputs), of features by the weights as they are."""
        features = keras.Input(self._body.network.output_shape[1:])
        return with_head(keras.Model(features, features), self._head)

    def keep_best(self) -> None:
        for best, variable in zip(self._best, self._trained.variables, strict=True):
            best.assign(variable.value)

    def save(self, directory: Path, goes_on: bool) -> None:
        _checkpoint(self._best).write(str(directory / _BEST))
        if goes_on:
            _checkpoint(self._state).write(str(directory / _STATE))

    def load(self, directory: Path, goes_on: bool) -> None:
        _checkpoint(self._best).read(str(directory / _BEST)).assert_consumed()
        if goes_on:
            _checkpoint(self._state).read(str(directory / _STATE)).assert_consumed()

    def use_best(self) -> None:
        for best, variable in zip(self._best, self._trained.variables, strict=True):
            variable.assign(best)

    @property
    def _state(self) -> list[Any]:
        return [variable.value for variable in (*self._trained.variables, *self._optimizer.variables)]

    def _compile(self, goal: Goal) -> Any:
        optimizer = keras.optimizers.Adam(self._options.lr, global_clipnorm=LARGEST_GRADIENT)
        optimizer.build(self._trained.trainable_variables)
        # Compiling for the device takes longer than small models train.
        self._trained.compile(optimizer, _LOSSES[goal.task](), jit_compile=False)
        return optimizer

    def _in_order(self, targets: Any) -> tf.data.Dataset:
        """Batches of the fitted rows, in the order of the epoch.

        They are of equal size but for one row: an odd row alone would weigh as much as a whole batch.
        """
        rows = len(self._fit)

        def batch(step: Any) -> tuple[Any, Any]:
            chosen = self._order[step * rows // self._steps : (step + 1) * rows // self._steps]
            return self._feed(tf.gather(self._fit, chosen)), tf.gather(targets, chosen)

        return tf.data.Dataset.range(self._steps).map(batch)

    def _features(self, rows: Rows) -> Any:
        return tf.constant(self._embedded(self._body.tensor(rows)))

    def _embedded(self, rows: Any) -> np.ndarray:
        run = tf.function(
            lambda batch: self._body.network(self._body.feed(batch), training=False), reduce_retracing=True
        )
        return _batched(run, rows)

    def _scores(self, rows: Any) -> np.ndarray:
        return _batched(self._run, rows)


def _targets(goal: Goal, labels: np.ndarray) -> np.ndarray:
    """Labels as the loss takes them, (rows,) or (rows, outputs)."""
    match goal.task:
        case "regression":
            return ((labels - goal.mean) / goal.deviation).astype(np.float32)[:, None]
        case "multilabel classification":
            return labels.astype(np.float32)
    return labels


def _ignorance(goal: Goal) -> float:
    """The loss of one who says the same of every row: of as many classes, two, or the mean."""
    match goal.task:
        case "regression":
            return 1.0
        case "multilabel classification":
            return float(np.log(2))
    return float(np.log(goal.outputs))


def _peak_memory() -> float:
    """The most bytes in use so far: of the GPU, or of this process since it began."""
    if tf.config.list_physical_devices("GPU"):
        return float(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _batched(run: Any, rows: Any) -> np.ndarray:
    starts = range(0, len(rows), _BATCH_ROWS)
    return np.concatenate([run(rows[start : start + _BATCH_ROWS]).numpy() for start in starts])


def _checkpoint(variables: list[Any]) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(variables=variables)


def _as_it_is(batch: Any) -> Any:
    return batch
