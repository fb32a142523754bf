"""Fine-tuning a Hugging Face model, with the epoch chosen on a validation part."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from storage.catalog import Catalog, ModelRecord
from storage.checkpoints import CheckpointStore
from storage.database import Database
from storage.parts import Part
from storage.settings import current_settings
from storage.workload import cores_for
from tasks.embedding import unchanged_model
from tasks.finetuning.examples import TrainingRows, read_test, read_training
from tasks.finetuning.measuring import Measure, measure_for
from tasks.finetuning.networks import open_inputs, open_network
from tasks.finetuning.results import collapse_of, rung_of, whole_of
from tasks.finetuning.runs import Diverged, Run, Schedule
from tasks.finetuning.torch_training import Options, TorchTraining
from tasks.sources.failures import reasons


def finetune_model(
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
    validation part alone. Either goes on from the checkpoint of the training that has the key `checkpoint`
    (storage.checkpoints). Returns what tasks.finetuning.results says. Raises EvaluationError when the model cannot be
    loaded, the rows do not fit it, or files changed meanwhile.
    """
    started = time.perf_counter()
    settings = current_settings()
    catalog, checkpoints = Catalog(Database(settings)), CheckpointStore(settings)
    record = unchanged_model(catalog, model, model_fingerprint)
    rows = read_training(catalog, [Part.from_json(part) for part in train], params["seed"])
    measure = measure_for(rows.goal, params.get("metric"))
    with reasons(record), checkpoints.in_use(checkpoint):
        run = run_of(checkpoints, checkpoint, record, rows, measure, params)
        try:
            if epochs is not None:
                result = rung_of(measure, run.reach(epochs))
            else:
                progress, training = run.finish()
                examples = read_test(catalog, [Part.from_json(part) for part in test], rows.goal)
                result = whole_of(measure, progress, training.scores(examples), examples.labels)
        except Diverged as diverged:
            result = collapse_of(diverged)
    checkpoints.evict(settings.checkpoint_bytes)
    return {**result, "seconds": time.perf_counter() - started}


def run_of(
    checkpoints: CheckpointStore,
    key: str,
    model: ModelRecord,
    rows: TrainingRows,
    measure: Measure,
    params: Mapping[str, Any],
) -> Run[TorchTraining]:
    """The training of a model with these parameters, to be gone on with."""
    schedule = Schedule(params["epochs"])
    return Run(
        checkpoints, key, schedule, measure.higher_is_better, lambda: _open_training(model, rows, measure, params)
    )


def _open_training(
    model: ModelRecord, rows: TrainingRows, measure: Measure, params: Mapping[str, Any]
) -> TorchTraining:
    """The training of a model as it begins."""
    import torch
    from transformers import set_seed

    torch.set_num_threads(cores_for(model))
    # Of the head, which is random.
    set_seed(params["seed"])
    network, _ = open_network(model, rows.goal)
    inputs = open_inputs(model, network)
    options = Options(params["epochs"], params["lr"], params["batch_size"], params["seed"])
    return TorchTraining(network, inputs, measure, rows.fit, rows.validation, options)
