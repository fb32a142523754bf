"""From a bound question to the plan that will run: planned, and optimized by what the stores already hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from shiftql.bound import BoundDataset, BoundDistances, BoundFinetune, BoundRanking, BoundRows, Question, steps_in
from shiftql.cost import CostModel, subjects_of
from shiftql.history import history_of
from shiftql.plan import EmbeddingKey, PlanNode, Split, Waiting, Weights
from shiftql.planner import plan
from shiftql.planning import Stores
from shiftql.rules import optimize
from shiftql.rules.knowledge import Knowledge, is_perfect
from storage.bandwidth import bytes_per_second
from storage.catalog import ModelRecord
from storage.database import Database
from storage.device_memory import device_memory
from storage.evaluations import Evaluation, Measurement, Subject
from storage.learned_costs import LearnedCosts
from storage.parts import Part, whole
from storage.results import ResultStore
from storage.settings import current_settings


def prepare(
    question: Question,
    database: Database,
    attempted: Collection[str] | None = frozenset(),
    to_start: Callable[[PlanNode], Collection[str]] = lambda _: (),
) -> PlanNode:
    """The optimized plan of a question. Reads the stores and computes nothing.

    What failed for a passing reason counts as unknown, and is computed again, unless it is among the fingerprints that
    were `attempted` already (None: whatever failed was). `to_start` names what has to be started for a plan.
    """
    results = ResultStore(database)

    def outcomes(evaluations: Sequence[Evaluation]) -> Mapping[str, Measurement]:
        found = results.outcomes(evaluation.fingerprint for evaluation in evaluations)
        return {
            fingerprint: outcome
            for fingerprint, outcome in found.items()
            if not outcome.transient or attempted is None or fingerprint in attempted
        }

    costs = cost_model(database, [model for step in steps_in((question,)) for model in _models_of(step)])
    stores = Stores(_split, _sample, outcomes, partial(history_of, database), costs, device_memory)
    drafted = plan(question, stores)
    known = replace(_what_is_known(drafted, database), costs=costs, **_what_is_missing(question, costs))
    return _waited_for(optimize(drafted, known), costs, to_start)


def cost_model(database: Database, models: Collection[ModelRecord]) -> CostModel:
    """What this machine showed so far of work with these models."""
    return CostModel(LearnedCosts(database).of(subjects_of(models)), bytes_per_second(current_settings()))


def _waited_for(plan: PlanNode, costs: CostModel, to_start: Callable[[PlanNode], Collection[str]]) -> PlanNode:
    """The plan with what is waited for it by the clock."""
    if not plan.new_evaluations:
        return plan
    starts = tuple(sorted(to_start(plan)))
    running = costs.passing(plan.total_cost.seconds, plan.tasks, plan.kind_of_work)
    return replace(plan, waiting=Waiting(starts, costs.starting(starts), running))


def _what_is_missing(question: Question, costs: CostModel) -> dict[str, Any]:
    """What Knowledge says of models that are not on this machine."""
    models = {model.name: model for step in steps_in((question,)) for model in _models_of(step) if not model.is_local}
    if not models:
        return {}
    weights = tuple(Weights(Subject(model.name, model.fingerprint), costs.download(model)) for model in models.values())
    return {"missing_weights": weights, "bytes_per_second": bytes_per_second(current_settings())}


def _models_of(step: Question) -> Iterable[ModelRecord]:
    match step:
        case BoundRanking() | BoundFinetune():
            return step.models
        case BoundDistances():
            return (step.probe,)
        case BoundRows():
            return (probe for probe, _ in step.embeddings)
    raise AssertionError(step)


def _split(datasets: Sequence[BoundDataset]) -> Split:
    """What datasets taken as one are made of; a new combination of rows is noted as a dataset of its own."""
    first = datasets[0].record
    num_classes = max(dataset.record.num_classes for dataset in datasets)
    if len(datasets) == 1 and not datasets[0].changes and not datasets[0].held_out:
        subject = Subject(first.name, first.fingerprint)
        return Split(subject, (whole(subject, first.num_rows),), num_classes=num_classes)
    from storage.derivation import derive
    from storage.manifests import save_manifest

    root = current_settings().manifests
    parts = tuple(part for dataset in datasets for part in _parts(dataset))
    together = derive(root, parts)
    save_manifest(root, together)
    labels = [dataset.label for dataset in datasets]
    name = labels[0] if len(labels) == 1 else f"[{', '.join(labels)}]"
    is_held_out = any(dataset.held_out == "test" for dataset in datasets)
    return Split(Subject(name, together.fingerprint), parts, is_held_out, num_classes)


def _sample(split: Split, rows: int) -> tuple[Part, ...]:
    """The parts of a split that hold its first rows by their hashes."""
    from storage.derivation import first_rows, parts_with
    from storage.manifests import load_manifest

    manifest = load_manifest(current_settings().manifests, split.subject.fingerprint)
    return parts_with(split.parts, first_rows(manifest, rows))


def _parts(dataset: BoundDataset) -> tuple[Part, ...]:
    record = dataset.record
    subject = Subject(record.name, record.fingerprint)
    if dataset.held_out:
        from storage.manifests import load_manifest
        from storage.splits import held_out

        rest, test = held_out(load_manifest(current_settings().manifests, record.fingerprint))
        return (Part(subject, test if dataset.held_out == "test" else rest),)
    if not dataset.changes:
        return (whole(subject, record.num_rows),)
    from storage.derivation import change_parts

    changes = [(each.rows, Subject(each.by.name, each.by.fingerprint), each.by_rows) for each in dataset.changes]
    return change_parts(subject, record.num_rows, changes)


def _what_is_known(drafted: PlanNode, database: Database) -> Knowledge:
    drafts = list(drafted.drafts)
    evaluations = {each.fingerprint: each for draft in drafts for each in draft.new_evaluations}.values()
    if not evaluations:
        return Knowledge()
    measured = ResultStore(database).known(evaluation.fingerprint for evaluation in evaluations)
    known = frozenset(measured)
    perfect = frozenset(fingerprint for fingerprint, measurement in measured.items() if is_perfect(measurement))
    spent = {fingerprint: measurement.cost_seconds for fingerprint, measurement in measured.items()}
    unknown_models = {evaluation.model for evaluation in evaluations if evaluation.fingerprint not in known}
    embeddings = (embedding for draft in drafts for embedding in draft.all_embeddings)
    keys = {embedding.key for embedding in embeddings if embedding.model in unknown_models}
    return Knowledge(known, perfect, spent, missing_rows(keys) if keys else {})


def missing_rows(keys: Iterable[EmbeddingKey]) -> dict[EmbeddingKey, int]:
    """How many of the rows of each embedding have no stored features."""
    from storage.derivation import rows_in
    from storage.features import open_features
    from storage.manifests import load_manifest
    from storage.unembedded import unembedded, union

    settings = current_settings()
    store = open_features(settings, looks_once=True)
    missing = {}
    for key in set(keys):
        model, dataset, spans, views = key
        manifest = load_manifest(settings.manifests, dataset)
        missing[key] = len(union(unembedded(store, model, manifest, rows_in(spans), views)))
    return missing
