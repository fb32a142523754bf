"""Other ways to answer what a question leaves open; each is planned, and a rule may take its plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from shiftql.bound import BoundRanker, BoundRanking
from shiftql.cost import CostModel, worded_bytes
from shiftql.plan import Split
from shiftql.planning import ranker_named
from shiftql.strategies.successive_halving import row_race
from storage.catalog import ModelRecord

_FULL = "FineTune"
# Below this nobody asks what the device has.
_FITS_EVERYWHERE = 1_000_000_000


def without_order(question: BoundRanking) -> BoundRanking:
    """The same question by what it all is about, where it names no order: the accuracy of every model, fine-tuned."""
    return replace(question, rankers=(ranker_named(_FULL),), is_unordered=False)


def is_left_open(question: BoundRanking) -> bool:
    """Whether it is left to the optimizer how the best is found; within a limit there is one way to do so."""
    return question.is_unordered and question.within is None and question.budget is None and question.chunk is None


def halved(question: BoundRanking, train: Split | None, test: Split | None) -> BoundRanking | None:
    """The same question halved, if that is left to the optimizer: by as few rows as do.

    The last models, so many as the question asks for, are scored on all rows, so that what is best is known as well as
    it can be. None where it is not left open, or too small to be halved.
    """
    chunk, budget = question.chunk, question.budget
    pulls = budget if budget is not None and budget.unit == "pulls" else None
    auto = next((node for node in (chunk, pulls) if node is not None), None)
    is_named = (chunk is not None and chunk.rows is not None) or (pulls is not None and pulls.amount is not None)
    is_proxy = all(ranker.spec.kind == "features" for ranker in question.rankers)
    if auto is None or is_named or not is_proxy or question.descending or train is None:
        return None
    arms = len({model.fingerprint for model in question.models})
    found = row_race(arms, train.num_rows, test.num_rows if test else 0, train.num_classes, question.limit)
    if found is None:
        return None
    return replace(question, race=found, chunk=None, budget=None if pulls is not None else budget)


def too_large(question: BoundRanking, costs: CostModel, memory: Callable[[], int | None]) -> Mapping[str, str]:
    """The models that need more memory than the device has, by fingerprint, with the reason."""
    needs = {model.fingerprint: least_memory(question.rankers, model, costs) for model in question.models}
    large = {fingerprint: need for fingerprint, need in needs.items() if need > _FITS_EVERYWHERE}
    there = memory() if large else None
    if there is None:
        return {}
    return {
        fingerprint: f"it takes about {worded_bytes(need)} of memory, and the device has {worded_bytes(there)}"
        for fingerprint, need in large.items()
        if need > there
    }


def least_memory(rankers: Sequence[BoundRanker], model: ModelRecord, costs: CostModel) -> int:
    """Bytes of the least demanding of what some rankers do with a model, row by row."""
    return min((costs.memory(model, params) for params in _trainings(rankers)), default=0)


def _trainings(rankers: Sequence[BoundRanker]) -> Iterator[Mapping[str, object] | None]:
    """How each ranker opens a model: to fine-tune it by arguments, or to embed (None)."""
    for ranker in rankers:
        match ranker.spec.kind:
            case "features":
                yield None
            case "finetune":
                yield {**ranker.params, "batch_size": 1}
            case "strategy":
                yield {"batch_size": 1}
