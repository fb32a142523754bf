"""The finetune flow: fine-tunes models as a search would, and keeps the best of them as a model of its own."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from prefect import flow

from flows.board import Board
from flows.registration import register_finetuned
from flows.search import evaluate, leave_answer, run_name
from flows.telemetry import tell_answer
from shiftql.answering import answer
from shiftql.answers import Answer
from shiftql.bound import BoundFinetune
from shiftql.keeping import Winner, to_be_kept
from shiftql.plan import Finetune
from shiftql.preparation import prepare
from shiftql.progress import progress
from storage.catalog import Catalog, ModelRecord
from storage.database import Database
from storage.errors import ShiftError, StoreError
from storage.evaluations import Subject
from storage.lineage import LINEAGE_FILE, Lineage, lineage_of
from storage.settings import current_settings
from tasks.host import host
from tasks.sources import HOSTS
from tasks.stages import export

# Of an evaluation's fingerprint, what tells apart the models that were kept under one name.
_SHORT = 12


@flow(name="finetune", flow_run_name=run_name)
async def finetune(statement: str, asked_at: float | None = None) -> dict[str, Any]:
    """Fine-tune what a FINETUNE asks for, keep the best on validation, and leave the answer as an artifact.

    Takes and returns what flows.search.search does.
    """
    return await leave_answer(finetune_and_keep, statement, asked_at)


async def finetune_and_keep(
    statement: str, database: Database, board: Board, asked_at: float | None = None
) -> tuple[Answer, dict[str, Any]]:
    """Fine-tune what a FINETUNE asks for, the answer so far on the board, and keep the best; what `answer_question`
    returns."""
    question, attempted, done = await evaluate(statement, database, board, asked_at)
    plan = prepare(question, database, attempted)
    assert isinstance(question, BoundFinetune)
    assert isinstance(plan, Finetune)
    winner = to_be_kept(question, plan, database)
    if winner is not None:
        await _keep(winner, question, plan, Catalog(database))
    found = answer(question, plan, database, done, partial=done["partial"])
    tell_answer(found)
    return found, done


async def _keep(winner: Winner, question: BoundFinetune, plan: Finetune, catalog: Catalog) -> None:
    """Save the winner with its lineage, and register it here and in MLflow."""
    name = str(question.name)
    evaluation, measurement = winner
    lineage = Lineage(
        asked=question.fingerprint,
        statement=question.statement,
        models=question.candidates,
        evaluation=evaluation.fingerprint,
        parent=evaluation.model,
        datasets=_datasets(question),
        params=evaluation.params,
        metric=str(measurement.metric),
        value=float(measurement.value or 0.0),
    )
    directory = current_settings().finetuned / quote(name, safe=" ") / evaluation.fingerprint[:_SHORT]
    if not directory.exists():
        progress.get().note(f"saving {evaluation.model.name} fine-tuned on {evaluation.train.name}")
        await _save(winner, plan, HOSTS[catalog.model(evaluation.model.name).source], lineage, directory)
    _require_still_free(catalog, name, question)
    model = register_finetuned(catalog, name, directory, evaluation.train.name, lineage)
    await _register(catalog, model)


def _datasets(question: BoundFinetune) -> tuple[Subject, ...]:
    """The registered datasets that the training rows are of."""
    records = [each for dataset in question.train for each in (dataset.record, *(c.by for c in dataset.changes))]
    return tuple(dict.fromkeys(Subject(record.name, record.fingerprint) for record in records))


async def _save(winner: Winner, plan: Finetune, host_name: str | None, lineage: Lineage, directory: Path) -> None:
    """Write the winner's files into a directory that is there only once they are complete."""
    assert host_name is not None
    unfinished = directory.with_name(f".{directory.name}.{uuid4().hex}")
    try:
        unfinished.mkdir(parents=True)
        await export(winner.evaluation, plan.train.parts, host_name, str(unfinished))
        told = unfinished / LINEAGE_FILE
        told.write_text(lineage.json, encoding="utf-8")
        for file in filter(Path.is_file, unfinished.iterdir()):
            # Some libraries write weights for their owner alone.
            file.chmod(told.stat().st_mode)
        if not directory.exists():
            unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _require_still_free(catalog: Catalog, name: str, question: BoundFinetune) -> None:
    """Refuse to take a name that another process gave a model while this one trained."""
    model = catalog.find_models([name]).get(name)
    lineage = None if model is None else lineage_of(model)
    if model is not None and (lineage is None or lineage.asked != question.fingerprint):
        raise StoreError(
            f"another model was registered as {name!r} meanwhile",
            subject=name,
            fix="keep the result under another name: nothing is trained again",
        )


async def _register(catalog: Catalog, model: ModelRecord) -> None:
    """Register a kept model in MLflow's model registry; while that is out of reach it is kept all the same."""
    lineage = lineage_of(model)
    assert lineage is not None
    try:
        version = await asyncio.to_thread(
            host("tracking").call,
            "storage.registry:register_version",
            name=model.name,
            directory=model.path,
            lineage=lineage.json,
        )
    except ShiftError as error:
        progress.get().note(
            f"{model.name} is kept, but could not be registered in MLflow ({error.message.splitlines()[0]}); "
            "the same statement tries again"
        )
        return
    catalog.save_model(model.name, {"lineage": replace(lineage, registered=version).json})
