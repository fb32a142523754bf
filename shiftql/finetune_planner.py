"""Planning fine-tuning: every model that can be, whole or in rungs of some epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from shiftql.bound import BoundRanker
from shiftql.cost import VALIDATION_SHARE
from shiftql.plan import Evaluate, PlannedEvaluation
from shiftql.planning import Planning, subject_of
from shiftql.strategies.base import Strategy
from shiftql.strategies.batch import Batch
from shiftql.strategies.retried import Retried
from storage.catalog import ModelRecord

# Why models of a source cannot be fine-tuned, and what to do; all others can.
_UNTRAINABLE = {
    "torch": "an exported program has no gradients to train by; register the Hugging Face directory it was made of",
    "pca": "principal components are fitted and not trained; rank them by Linear",
}
# The source whose models alone take low-rank changes.
_TAKES_LORA = "huggingface"
# Up to this many parameters a model is fine-tuned at the highest default learning rate.
_SMALL_MODEL_PARAMETERS = 1e6
_HIGHEST_LEARNING_RATE = 1e-3
# Of heads alone, which are trained on features that were computed in other batches since.
_HEAD_VERSION = 2


def plan_finetunes(planning: Planning, ranker: BoundRanker) -> Evaluate:
    """Every model that can be fine-tuned, with the second tries of what collapsed."""
    planned = [plan_training(planning, ranker, model) for model in finetunable(planning.models, ranker)]
    evaluations = [each.evaluation for each in planned]
    tries = _tries(planning, Retried(Batch(evaluations), evaluations), planned)
    return Evaluate(ranker, (*planned, *tries), planning.scan)


def in_epochs(ranker: BoundRanker, num_rows: int) -> BoundRanker:
    """The same training, of so many rows, in the fewest whole epochs that have the steps it was told in, if it was."""
    params = dict(ranker.params)
    steps = params.pop("steps", None)
    if steps is None:
        return ranker
    steps_of_an_epoch = -(-(num_rows - round(VALIDATION_SHARE * num_rows)) // params["batch_size"])
    return replace(ranker, params=params | {"epochs": -(-steps // max(1, steps_of_an_epoch))})


def plan_training(planning: Planning, ranker: BoundRanker, model: ModelRecord) -> PlannedEvaluation:
    (planned,) = plan_rungs(planning, ranker, model, (ranker.params["epochs"],))
    return planned


def plan_rungs(
    planning: Planning, ranker: BoundRanker, model: ModelRecord, rungs: Sequence[int], *, are_tested: bool = False
) -> list[PlannedEvaluation]:
    """Fine-tuning in rungs of so many epochs, each going on from the one before; all are tested, or the last alone."""
    params = {**ranker.params, "lr": ranker.params["lr"] or default_learning_rate(model)}
    subject, version = subject_of(model), str(ranker.spec.version)
    if params.get("mode") == "head":
        version += f"+head{_HEAD_VERSION}"
    planned: list[PlannedEvaluation] = []
    seen = 0
    for epochs in rungs:
        is_last = epochs == params["epochs"]
        fidelity = {} if is_last else {"epochs": epochs}
        test = planning.test if is_last or are_tested else None
        evaluation = planning.evaluation(subject, test, ranker.spec.name, version, params, fidelity)
        rows = test.num_rows if test else 0
        cost = planning.costs.finetuning(model, planning.train.num_rows, rows, epochs - seen, params)
        planned.append(PlannedEvaluation(evaluation, cost, epochs=epochs - seen, source=model.source))
        seen = epochs
    return planned


def finetunable(models: Sequence[ModelRecord], ranker: BoundRanker) -> list[ModelRecord]:
    """Those of the models that can be fine-tuned as the ranker says."""
    return [model for model in models if _obstacle(model, ranker) is None]


def refused(models: Sequence[ModelRecord], ranker: BoundRanker) -> tuple[tuple[str, str], ...]:
    """The models that cannot be fine-tuned as the ranker says, with the reason."""
    return tuple((model.name, why) for model in models if (why := _obstacle(model, ranker)) is not None)


def _obstacle(model: ModelRecord, ranker: BoundRanker) -> str | None:
    if model.source in _UNTRAINABLE:
        return f"FineTune is not available for {model.source} models: {_UNTRAINABLE[model.source]}"
    if ranker.params.get("mode") == "lora" and model.source != _TAKES_LORA:
        return f"mode='lora' is not available for {model.source} models: write mode='full' or mode='head'"
    return None


def default_learning_rate(model: ModelRecord) -> float:
    """The learning rate of a fine-tune that names none: 0.001 up to a million parameters, 0.0001 at a hundred million.

    >>> default_learning_rate(ModelRecord(num_params=100_000_000))
    0.0001
    """
    size = model.num_params or _SMALL_MODEL_PARAMETERS
    return float(f"{_HIGHEST_LEARNING_RATE * min(1.0, (_SMALL_MODEL_PARAMETERS / size) ** 0.5):.1g}")


def _tries(planning: Planning, strategy: Strategy, planned: Sequence[PlannedEvaluation]) -> Iterator[PlannedEvaluation]:
    """The second tries of what collapsed, once that is known."""
    known = {each.evaluation.fingerprint for each in planned}
    while wanted := strategy.ask(len(planned)):
        strategy.tell(planning.stores.outcomes(wanted))
        for second in wanted:
            if second.fingerprint not in known:
                # Of every copy.
                for first in planned:
                    if first.evaluation.model.fingerprint == second.model.fingerprint:
                        yield replace(first, evaluation=replace(second, model=first.evaluation.model))
