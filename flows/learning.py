"""What a search took, for the cost model to learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shiftql import cost
from shiftql.assignments import Assignment
from shiftql.plan import PlannedEvaluation
from storage.baselines import MAJORITY_METHOD
from storage.catalog import Catalog, ModelRecord
from storage.database import Database
from storage.evaluations import EPOCHS_TRAINED, Measurement
from storage.learned_costs import LearnedCosts, Observation

# What is over sooner, as where a model was open already, tells of the clock only.
_LEAST_SECONDS = 1e-3
# What a process computes first sets up its libraries; beside so many seconds that is nothing.
_LONG_SECONDS = 20.0


@dataclass(frozen=True)
class Pass:
    """A call that embedded rows with a model, by its name, and what it returned; see tasks.embedding."""

    model: str
    result: Mapping[str, Any]


def learn(
    assignment: Assignment,
    database: Database,
    passes: Sequence[Pass],
    computed: Sequence[str],
    outcomes: Mapping[str, Measurement],
    *,
    has_trained: bool,
) -> None:
    """Take what an assignment took into what is known of this machine.

    `computed` are the fingerprints of what was computed here, in turn, `outcomes` what came of it, by fingerprint;
    `has_trained` says whether models had been trained in the same processes before.
    """
    planned_here = {
        planned.evaluation.fingerprint: planned
        for planned in assignment.evaluations
        if planned.evaluation.fingerprint in outcomes
    }
    done = {fingerprint: planned_here[fingerprint] for fingerprint in computed if fingerprint in planned_here}
    trained = [each for each, planned in done.items() if planned.evaluation.method == "finetune"]
    if trained and not has_trained and outcomes[trained[0]].cost_seconds < _LONG_SECONDS:
        del done[trained[0]]
    names = {each.model for each in passes} | {planned.evaluation.model.name for planned in done.values()}
    models = Catalog(database).find_models(sorted(names))
    observed = [
        *_of_passes(passes, models),
        *_of_evaluations(assignment, list(done.values()), outcomes, models, passes),
    ]
    LearnedCosts(database).learn(observed)


def _of_passes(passes: Sequence[Pass], models: Mapping[str, ModelRecord]) -> Iterator[Observation]:
    for each in passes:
        result, model = each.result, models.get(each.model)
        is_told = result["was_warm"] or result["seconds"] > _LONG_SECONDS
        if model is None or not is_told or not result["embedded_rows"]:
            continue
        if result["opening_seconds"] > _LEAST_SECONDS:
            yield cost.opening_took(model, result["opening_seconds"])
        seconds = result["seconds"] - result["opening_seconds"]
        rows, waited = result["embedded_rows"], result["waited_seconds"]
        yield from cost.rows_took(model, rows, max(seconds, _LEAST_SECONDS), waited)


def _of_evaluations(
    assignment: Assignment,
    done: Sequence[PlannedEvaluation],
    outcomes: Mapping[str, Measurement],
    models: Mapping[str, ModelRecord],
    passes: Sequence[Pass],
) -> Iterator[Observation]:
    embedding: dict[str, float] = {}
    for each in passes:
        embedding[each.model] = embedding.get(each.model, 0.0) + each.result["seconds"]
    train_rows, test_rows = (0 if each is None else each.num_rows for each in (assignment.train, assignment.test))
    for planned in done:
        evaluation = planned.evaluation
        outcome, model = outcomes.get(evaluation.fingerprint), models.get(evaluation.model.name)
        if outcome is None or outcome.status != "completed" or evaluation.method == MAJORITY_METHOD:
            continue
        seconds = max(outcome.cost_seconds, _LEAST_SECONDS)
        if evaluation.method == "task2vec":
            if model is not None:
                yield cost.task_embedding_took(model, sum(part.num_rows for part in planned.parts), seconds)
        elif evaluation.method == "finetune":
            epochs = int(outcome.metrics.get(EPOCHS_TRAINED, 0))
            if model is not None and epochs:
                rows = test_rows if evaluation.test is not None else 0
                yield cost.finetuning_took(model, train_rows, rows, epochs, evaluation.params, seconds)
        elif len(planned.views) == 1:
            rows = evaluation.num_rows(train_rows, test_rows)
            scored = seconds - embedding.get(evaluation.model.name, 0.0)
            yield cost.scoring_took(evaluation.method, rows, max(scored, _LEAST_SECONDS))
