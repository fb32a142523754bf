"""An evaluation by fine-tuning, whatever library trains: a rung of it, or the whole."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from storage.catalog import Catalog, ModelRecord
from storage.checkpoints import CheckpointStore
from storage.database import Database
from storage.errors import EvaluationError, StoreError
from storage.parts import Part
from storage.settings import current_settings
from tasks.embedding import unchanged_model
from tasks.finetuning.examples import Goal, TrainingRows, read_test, read_training
from tasks.finetuning.measuring import Measure, measure_for
from tasks.finetuning.results import collapse_of, note_of, rung_of, whole_of
from tasks.finetuning.runs import Diverged, Run, Schedule, Training
from tasks.rankers.specs import RANKERS
from tasks.sources.failures import reasons

Trained = TypeVar("Trained", bound=Training)
# What parameters leave out where it is the default; the metric is then that of the task.
_DROPPED = {
    argument.name: argument.default
    for argument in RANKERS["finetune"].arguments
    if argument.is_dropped_at_default and argument.name != "metric"
}
# Makes the training of a model on rows by these parameters, all of them, as it begins.
OpenTraining: TypeAlias = Callable[[ModelRecord, TrainingRows, Measure, Mapping[str, Any]], Trained]


def evaluate(
    open_training: OpenTraining[Training],
    model: str,
    model_fingerprint: str,
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    checkpoint: str,
    epochs: int | None = None,
) -> dict[str, Any]:
    """Fine-tune on the rows of the `train` parts and measure those of the `test` parts (storage.parts).

    A fifth of the training rows is held out, stratified where they have one class each; the weights of the epoch that
    does best on it are measured, once, on the test rows. With `epochs` it is a rung: trained so far, and told by the
    validation part where there is nothing to test. Either goes on from the checkpoint of the training that has the key
    `checkpoint` (storage.checkpoints). Returns what tasks.finetuning.results says. Raises EvaluationError when the
    model cannot be loaded, the rows do not fit it, or files changed meanwhile.
    """
    settings = current_settings()
    catalog, checkpoints = Catalog(Database(settings)), CheckpointStore(settings)
    record = unchanged_model(catalog, model, model_fingerprint)
    # What came from the shared store until now says nothing of the next time.
    started = time.perf_counter()
    rows = read_training(catalog, [Part.from_json(part) for part in train], params["seed"])
    measure = measure_for(rows.goal, params.get("metric"))
    with reasons(record), checkpoints.in_use(checkpoint):
        run = run_of(open_training, checkpoints, checkpoint, record, rows, measure, params)
        try:
            if epochs is not None and not test:
                result = rung_of(measure, run.reach(epochs))
            else:
                progress, training = run.finish(epochs)
                examples = read_test(catalog, [Part.from_json(part) for part in test], rows.goal)
                result = whole_of(measure, progress, training.scores(examples), examples.labels)
        except Diverged as diverged:
            result = collapse_of(diverged)
        # What cannot be shared now is trained again elsewhere.
        with contextlib.suppress(StoreError):
            checkpoints.share(checkpoint)
    checkpoints.evict(settings.checkpoint_bytes)
    return {**result, "epochs_trained": run.epochs_trained, "seconds": time.perf_counter() - started}


def run_of(
    open_training: OpenTraining[Trained],
    checkpoints: CheckpointStore,
    key: str,
    model: ModelRecord,
    rows: TrainingRows,
    measure: Measure,
    params: Mapping[str, Any],
) -> Run[Trained]:
    """The training of a model with these parameters, to be gone on with."""
    params = _DROPPED | dict(params)
    schedule = Schedule(params["epochs"], params["patience"])
    return Run(
        checkpoints,
        key,
        schedule,
        measure.higher_is_better,
        lambda: open_training(model, rows, measure, params),
        lambda progress: checkpoints.note(key, note_of(measure, progress)),
    )


def export(
    open_training: OpenTraining[Trained],
    write: Callable[[Trained, ModelRecord, Goal, Path], None],
    model: str,
    model_fingerprint: str,
    train: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    directory: str,
    checkpoint: str,
) -> dict[str, Any]:
    """Write the best weights of a fine-tuning on the `train` parts (storage.parts) into a directory, by `write`.

    They come from the checkpoint of the training that has the key `checkpoint`; where that is gone they are trained
    again, to the same bits on the same machine. Returns the `epoch` (from 1) that the weights are of, and its
    `validation_…` by the metric. Raises EvaluationError as fine-tuning does, and where a loss is lost.
    """
    settings = current_settings()
    catalog, checkpoints = Catalog(Database(settings)), CheckpointStore(settings)
    record = unchanged_model(catalog, model, model_fingerprint)
    rows = read_training(catalog, [Part.from_json(part) for part in train], params["seed"])
    measure = measure_for(rows.goal, params.get("metric"))
    with reasons(record), checkpoints.in_use(checkpoint):
        try:
            progress, training = run_of(open_training, checkpoints, checkpoint, record, rows, measure, params).finish()
        except Diverged as diverged:
            raise EvaluationError(str(diverged), subject=model) from diverged
        write(training, record, rows.goal, Path(directory))
    checkpoints.evict(settings.checkpoint_bytes)
    return {"epoch": progress.best + 1, f"validation_{measure.metric}": progress.curve[progress.best]}
