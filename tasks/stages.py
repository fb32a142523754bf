"""The Prefect tasks: thin, one per model × dataset × stage, returning references and never arrays.

Their results are cached by Prefect under content fingerprints. That is a convenience: whoever calls them
checks the stores and asks again with `refresh_cache` when a cached result outlived what it refers to.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from prefect import task
from prefect.context import TaskRunContext

from storage.checkpoints import training_key
from storage.database import Database
from storage.evaluations import Evaluation, Measurement, Subject
from storage.fingerprints import fingerprint_of
from storage.parts import Part
from storage.results import Claim, ResultStore
from storage.settings import current_settings
from storage.views import EMBEDDING_VERSION, View
from tasks.host import host

# What fine-tunes in the host of a framework.
_FINETUNING = {
    "torch": "tasks.finetuning.huggingface:finetune_model",
    "tensorflow": "tasks.finetuning.keras_runs:finetune_keras",
}

# What writes models that were fine-tuned there.
_EXPORTING = {
    "torch": "tasks.finetuning.exporting:export_model",
    "tensorflow": "tasks.finetuning.keras_exporting:export_keras",
}

_one_embeds_here = threading.Lock()


def _embedding_key(_: TaskRunContext, parameters: Mapping[str, Any]) -> str:
    model, part, views = parameters["model"], parameters["part"], parameters["views"]
    rows_and_views = fingerprint_of(part.spans, views)
    return f"embed-{EMBEDDING_VERSION}-{model.fingerprint}-{part.dataset.fingerprint}-{rows_and_views}"


def _evaluation_key(_: TaskRunContext, parameters: Mapping[str, Any]) -> str:
    return f"evaluate-{parameters['claim'].evaluation.fingerprint}"


@task(
    name="embed",
    task_run_name="embed {part.dataset.name} with {model.name}",
    persist_result=True,
    cache_key_fn=_embedding_key,
)
async def embed(
    model: Subject, part: Part, views: Sequence[View], host_name: str | None, then: Subject | None
) -> dict[str, Any]:
    """Bring views of a part of a dataset by a model into the feature store; see tasks.embedding."""
    arguments: dict[str, Any] = {
        "model": model.name,
        "model_fingerprint": model.fingerprint,
        "dataset": part.dataset.name,
        "dataset_fingerprint": part.dataset.fingerprint,
        "spans": part.spans,
        "views": views,
        "then": then and (then.name, then.fingerprint),
    }
    if host_name is None:
        return await asyncio.to_thread(_embed_here, arguments)
    return await asyncio.to_thread(host(host_name).call, "tasks.embedding:embed_dataset", **arguments)


def _embed_here(arguments: Mapping[str, Any]) -> dict[str, Any]:
    from tasks.embedding import embed_dataset

    # One model is open at a time in a process, and searches in several threads share this one.
    with _one_embeds_here:
        return embed_dataset(**arguments)


@task(
    name="classify",
    task_run_name="{claim.evaluation.method} {claim.evaluation.model.name}",
    persist_result=True,
    cache_key_fn=_evaluation_key,
)
async def classify(claim: Claim, views: Sequence[View], embed_seconds: float) -> str:
    """Score stored features, record the score and return the evaluation's fingerprint; see tasks.classification."""
    from tasks.classification import score_features

    return await asyncio.to_thread(lambda: _record(claim, score_features(claim.evaluation, views, embed_seconds)))


@task(
    name="majority",
    task_run_name="majority of {claim.evaluation.train.name}",
    persist_result=True,
    cache_key_fn=_evaluation_key,
)
async def majority(claim: Claim) -> str:
    """Score the majority baseline, record the score and return the evaluation's fingerprint."""
    from tasks.classification import score_majority

    return await asyncio.to_thread(lambda: _record(claim, score_majority(claim.evaluation)))


@task(
    name="finetune",
    task_run_name="finetune {claim.evaluation.model.name} on {claim.evaluation.train.name}",
    persist_result=True,
    cache_key_fn=_evaluation_key,
)
async def finetune(claim: Claim, train: Sequence[Part], test: Sequence[Part], framework: str) -> str:
    """Fine-tune a model of a framework, record what it does and return the evaluation's fingerprint; see
    tasks.finetuning.

    With a fidelity of some epochs it is a rung, recorded by the validation part; so is the whole without a test.
    """
    from tasks.finetuning.results import measurement_of

    evaluation = claim.evaluation
    result = await asyncio.to_thread(
        host(framework).call,
        _FINETUNING[framework],
        model=evaluation.model.name,
        model_fingerprint=evaluation.model.fingerprint,
        train=[part.json for part in train],
        test=[part.json for part in test],
        params=dict(evaluation.params),
        checkpoint=training_key(evaluation),
        epochs=evaluation.fidelity.get("epochs", None if test else evaluation.params["epochs"]),
    )
    return await asyncio.to_thread(_record, claim, measurement_of(result))


@task(name="export", task_run_name="export {evaluation.model.name} fine-tuned on {evaluation.train.name}")
async def export(evaluation: Evaluation, train: Sequence[Part], host_name: str, directory: str) -> None:
    """Write the model that an evaluation fine-tuned into a directory; see tasks.finetuning.exporting."""
    await asyncio.to_thread(
        host(host_name).call,
        _EXPORTING[host_name],
        model=evaluation.model.name,
        model_fingerprint=evaluation.model.fingerprint,
        train=[part.json for part in train],
        params=dict(evaluation.params),
        directory=directory,
        checkpoint=training_key(evaluation),
    )


@task(
    name="task2vec",
    task_run_name="task2vec {claim.evaluation.train.name} with {claim.evaluation.model.name}",
    persist_result=True,
    cache_key_fn=_evaluation_key,
)
async def embed_task(claim: Claim, parts: Sequence[Part]) -> str:
    """Embed a task with a probe, record the vector and return the evaluation's fingerprint; see tasks.task2vec."""
    probe = claim.evaluation.model
    result = await asyncio.to_thread(
        host("torch").call,
        "tasks.task2vec:embed_task",
        probe=probe.name,
        probe_fingerprint=probe.fingerprint,
        task=[part.json for part in parts],
    )
    return await asyncio.to_thread(_record, claim, _embedded(result))


def _embedded(result: Mapping[str, Any]) -> Measurement:
    import numpy as np

    vector = np.asarray(result["vector"], dtype="<f4")
    information = float(vector.mean(dtype=np.float64))
    return Measurement(
        status="completed",
        cost_seconds=result["seconds"],
        metric="fisher",
        value=information,
        vector=vector.tobytes(),
        metrics={"fisher": information, "head_accuracy": result["accuracy"]},
    )


def _record(claim: Claim, measurement: Measurement) -> str:
    ResultStore(Database(current_settings())).record(claim, measurement)
    return claim.evaluation.fingerprint
