"""Fine-tuning a whole Hugging Face model on a dataset, with the epoch chosen on a validation part."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.catalog import Catalog, ModelRecord
from storage.database import Database
from storage.errors import EvaluationError
from storage.parts import Part
from storage.settings import current_settings
from storage.workload import ALL_CORES
from tasks.embedding import unchanged_model
from tasks.reading import read_parts
from tasks.sources.failures import reasons
from tasks.sources.huggingface import (
    load_processor,
    loading_options,
    prepare_images,
    require_all_weights,
)
from tasks.sources.texts import longest_text

VALIDATION_PART = 0.2
_EVALUATION_BATCH_ROWS = 64


def finetune_model(
    model: str,
    model_fingerprint: str,
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    epochs: int,
    lr: float,
    batch_size: int,
    seed: int,
) -> dict[str, Any]:
    """Fine-tune on the rows of the `train` parts and measure accuracy on those of the `test` parts (storage.parts).

    A stratified fifth of the training rows is held out; the weights of the epoch with the highest accuracy on it
    are measured, once, on the test rows. Returns `accuracy`, `per_row_correct` (a list of 0 and 1),
    `validation_accuracy` and `curve` (validation accuracy after each epoch), `collapsed` (whether all test rows are
    given one class, wrong for some) and `seconds`; where a loss is not finite only `reason`, `collapsed`, `seconds`.
    Raises EvaluationError when the model cannot be loaded, or files changed meanwhile.
    """
    started = time.perf_counter()
    catalog = Catalog(Database(current_settings()))
    record = unchanged_model(catalog, model, model_fingerprint)
    train_rows, train_labels = read_parts(catalog, [Part.from_json(part) for part in train])
    test_rows, test_labels = read_parts(catalog, [Part.from_json(part) for part in test])
    classes = sorted(set(train_labels))
    fit, validation = _split(train_labels, seed)
    with reasons(record), tempfile.TemporaryDirectory(prefix="shift-finetune-") as scratch:
        number = {name: index for index, name in enumerate(classes)}
        examples = [(row, number[label]) for row, label in zip(train_rows, train_labels, strict=True)]
        trainer = _trainer(
            record,
            classes,
            [examples[index] for index in fit],
            [examples[index] for index in validation],
            TrainingOptions(scratch, epochs, lr, batch_size, seed),
        )
        trainer.train()
        logs = [entry for entry in trainer.state.log_history if "eval_accuracy" in entry]
        if not all(np.isfinite(entry["eval_loss"]) for entry in logs):
            return {
                "reason": f"the loss is not finite at lr={lr:g}; try a smaller lr",
                "collapsed": True,
                "seconds": time.perf_counter() - started,
            }
        # A test class that training never saw cannot be predicted; 0 stands in where a label is needed at all.
        measured = trainer.predict(
            [(row, number.get(label, 0)) for row, label in zip(test_rows, test_labels, strict=True)]
        )
    predicted = np.asarray(classes)[np.argmax(measured.predictions, axis=1)]
    correct = predicted == np.asarray(test_labels)
    is_constant = len(set(predicted.tolist())) == 1
    curve = [float(entry["eval_accuracy"]) for entry in logs]
    return {
        "accuracy": float(correct.mean()),
        "per_row_correct": correct.astype(int).tolist(),
        "validation_accuracy": max(curve),
        "curve": curve,
        "collapsed": is_constant and not bool(correct.all()),
        "seconds": time.perf_counter() - started,
    }


@dataclass(frozen=True)
class TrainingOptions:
    """How to train; checkpoints go to `scratch`."""

    scratch: str
    epochs: int
    lr: float
    batch_size: int
    seed: int


def _trainer(
    model: ModelRecord,
    classes: list[str],
    fit: list[tuple[Any, int]],
    validation: list[tuple[Any, int]],
    options: TrainingOptions,
) -> Any:
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForImageClassification,
        AutoModelForSequenceClassification,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(options.seed)
    is_image = model.modality == "image"
    auto = AutoModelForImageClassification if is_image else AutoModelForSequenceClassification
    torch.set_num_threads(ALL_CORES)
    network, loading = auto.from_pretrained(
        model.path,
        num_labels=len(classes),
        id2label=dict(enumerate(classes)),
        label2id={name: index for index, name in enumerate(classes)},
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **loading_options(model),
    )
    if list(AutoConfig.from_pretrained(model.path, trust_remote_code=model.trusted).id2label.values()) != classes:
        # A head trained for other classes would have to be unlearnt first, also where it has the same shape.
        fresh = auto.from_config(network.config)
        fresh.base_model.load_state_dict(network.base_model.state_dict())
        network = fresh
    require_all_weights(name for name in loading["missing_keys"] if name.startswith(f"{network.base_model_prefix}."))
    processor = load_processor(model)
    if not is_image:
        network.config.pad_token_id = processor.pad_token_id
    arguments = TrainingArguments(
        output_dir=options.scratch,
        num_train_epochs=options.epochs,
        learning_rate=options.lr,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=_EVALUATION_BATCH_ROWS,
        seed=options.seed,
        data_seed=options.seed,
        eval_strategy="epoch",
        save_strategy="best",
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
    )
    return Trainer(
        model=network,
        args=arguments,
        train_dataset=fit,
        eval_dataset=validation,
        data_collator=_collator(model, processor, network),
        compute_metrics=lambda predictions: {
            "accuracy": float((predictions.predictions.argmax(axis=1) == predictions.label_ids).mean())
        },
    )


def _collator(model: ModelRecord, processor: Any, network: Any) -> Any:
    import torch

    def collate(examples: Sequence[tuple[Any, int]]) -> dict[str, torch.Tensor]:
        rows = [row for row, _ in examples]
        if model.modality == "image":
            inputs = prepare_images(processor, rows)
        else:
            longest = longest_text(processor, network)
            inputs = processor(rows, return_tensors="pt", padding=True, truncation=True, max_length=longest)
        return {**inputs, "labels": torch.tensor([label for _, label in examples])}

    return collate


def _split(labels: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rows to fit and to validate on; stratified where every class has two rows."""
    from sklearn.model_selection import train_test_split

    _, counts = np.unique(labels, return_counts=True)
    held_out = max(round(VALIDATION_PART * len(labels)), len(counts))
    stratify = labels if counts.min() >= 2 and len(labels) - held_out >= len(counts) else None
    if len(labels) < 2 or held_out >= len(labels):
        raise EvaluationError(f"{len(labels)} training rows are too few to fine-tune on and to validate")
    fit, validation = train_test_split(np.arange(len(labels)), test_size=held_out, random_state=seed, stratify=stratify)
    return fit, validation
