"""From a bound question to the plan that will run: planned, and optimized by what the stores already hold."""

from __future__ import annotations

from collections.abc import Sequence

from shiftql.binder import BoundRanking, BoundRows
from shiftql.plan import Embed, Query, Rank
from shiftql.planner import plan
from shiftql.rules import optimize
from shiftql.rules.knowledge import Knowledge
from storage.catalog import DatasetRecord
from storage.database import Database
from storage.evaluations import Subject
from storage.results import ResultStore
from storage.settings import current_settings


def prepare(question: BoundRows | BoundRanking, database: Database) -> Query | Rank:
    """The optimized plan of a question. Reads the stores and computes nothing."""
    drafted = plan(question, _combine)
    if isinstance(drafted, Query):
        return drafted
    return optimize(drafted, _what_is_known(drafted, database))


def _combine(datasets: Sequence[DatasetRecord]) -> Subject:
    if len(datasets) == 1:
        return Subject(datasets[0].name, datasets[0].fingerprint)
    from storage.manifests import concatenate, load_manifest, save_manifest

    root = current_settings().manifests
    together = concatenate([load_manifest(root, dataset.fingerprint) for dataset in datasets])
    save_manifest(root, together)
    return Subject(f"[{', '.join(dataset.name for dataset in datasets)}]", together.fingerprint)


def _what_is_known(drafted: Rank, database: Database) -> Knowledge:
    evaluations = drafted.new_evaluations
    known = frozenset(ResultStore(database).known(evaluation.fingerprint for evaluation in evaluations))
    unknown_models = {evaluation.model for evaluation in evaluations if evaluation.fingerprint not in known}
    pairs = {
        (embedding.model.fingerprint, embedding.dataset.fingerprint)
        for node in drafted.walk()
        if isinstance(node, Embed)
        for embedding in node.embeddings
        if embedding.model in unknown_models
    }
    return Knowledge(known, missing_rows(pairs) if pairs else {})


def missing_rows(pairs: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """How many rows have no stored features, by fingerprints of model and dataset."""
    from storage.features import FeatureStore
    from storage.manifests import load_manifest

    settings = current_settings()
    store = FeatureStore(settings.features)
    hashes = {dataset: load_manifest(settings.manifests, dataset).row_hashes for _, dataset in pairs}
    return {(model, dataset): len(store.missing(store.key(model), hashes[dataset])) for model, dataset in sorted(pairs)}
