"""What the evaluations of one question are planned from, and how one is planned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from shiftql import ast
from shiftql.bound import BoundDataset, BoundRanker
from shiftql.cost import UNMEASURED, CostModel
from shiftql.plan import Embedding, PlannedEvaluation, Scan, Split
from shiftql.strategies.base import History
from storage.baselines import RAW
from storage.catalog import ModelRecord
from storage.evaluations import Evaluation, Measurement, Subject
from storage.parts import Part, one_per_dataset
from storage.views import EMBEDDING_VERSION, LAST, PROBABILITIES, View
from storage.workload import fits_one_core
from tasks.rankers.specs import bind_arguments, find_ranker

Prepare = Callable[[Sequence[BoundDataset]], Split]


@dataclass(frozen=True)
class Stores:
    """What planning asks of the stores.

    `split` gives what several datasets taken as one are made of, `sample` the parts of it that its first rows by
    their hashes are, and `outcomes` what came of evaluations before, by fingerprint: what strategies want rests on it.
    `history` is what models brought elsewhere than on a target; see shiftql.history. `costs` predicts what work takes,
    and `memory` tells the bytes that the device has, where that is known.
    """

    split: Prepare
    sample: Callable[[Split, int], tuple[Part, ...]]
    outcomes: Callable[[Sequence[Evaluation]], Mapping[str, Measurement]]
    history: Callable[[Sequence[ModelRecord], Collection[Subject]], History]
    costs: CostModel = UNMEASURED
    memory: Callable[[], int | None] = lambda: None


@dataclass(frozen=True)
class Planning:
    """The models of one question, what they are trained and tested on, and within which limits.

    `within` is in seconds.
    """

    models: Sequence[ModelRecord]
    train: Split
    test: Split | None
    scan: Scan
    stores: Stores
    budget: ast.Budget | None = None
    within: float | None = None

    @property
    def costs(self) -> CostModel:
        return self.stores.costs

    def evaluation(
        self,
        model: Subject,
        test: Split | None,
        method: str,
        version: str,
        params: Mapping[str, Any],
        fidelity: Mapping[str, Any] = MappingProxyType({}),
    ) -> Evaluation:
        return Evaluation(model, self.train.subject, test.subject if test else None, method, version, params, fidelity)

    def scoring(
        self,
        ranker: BoundRanker,
        model: ModelRecord,
        test: Split | None,
        rows: int | None = None,
        tested: int | None = None,
        number: int = 0,
    ) -> PlannedEvaluation:
        """The evaluation of a model on all rows, or on so many training and test rows, in a round of that number."""
        views = _views(ranker, model)
        fidelity = {}
        if rows is not None and rows < self.train.num_rows:
            fidelity["rows"] = rows
        if test is not None and tested is not None and tested < test.num_rows:
            fidelity["test_rows"] = tested
        version = f"{ranker.spec.version}+embedding{EMBEDDING_VERSION}"
        evaluation = self.evaluation(subject_of(model), test, ranker.spec.name, version, ranker.params, fidelity)
        scored = evaluation.num_rows(self.train.num_rows, test.num_rows if test else 0)
        cost = self.costs.scoring(ranker.spec.name, scored) * len(views)
        return PlannedEvaluation(evaluation, cost, views, baseline=model.source == RAW, round=number)

    def embeddings(self, model: ModelRecord, planned: PlannedEvaluation) -> list[Embedding]:
        """The forward passes that the evaluation of a model rests on."""
        evaluation = planned.evaluation
        train = self._first(self.train, evaluation.fidelity.get("rows"))
        test = self._first(self.test, evaluation.fidelity.get("test_rows")) if self.test and evaluation.test else ()
        parts = one_per_dataset((*train, *test))
        return [
            Embedding(
                model=subject_of(model),
                source=model.source,
                part=part,
                views=planned.views,
                new_rows=part.num_rows,
                opening_seconds=self.costs.opening(model),
                row_cost=self.costs.row(model, len(planned.views)),
                fits_one_core=fits_one_core(model),
                preparation=_preparation(model),
            )
            for part in parts
        ]

    def _first(self, split: Split, rows: int | None) -> tuple[Part, ...]:
        """The parts of a split, or those that its first rows are: many models share them."""
        if rows is None:
            return split.parts
        key = split.subject.fingerprint, rows
        if key not in self._sampled:
            self._sampled[key] = self.stores.sample(split, rows)
        return self._sampled[key]

    @cached_property
    def _sampled(self) -> dict[tuple[str, int], tuple[Part, ...]]:
        return {}


def ranker_named(name: str, **arguments: Any) -> BoundRanker:
    """A ranker with these arguments, and all others as they are by default."""
    spec = find_ranker(name)
    return BoundRanker(spec, bind_arguments(spec, (), arguments))


def subject_of(model: ModelRecord) -> Subject:
    return Subject(model.name, model.fingerprint)


def _views(ranker: BoundRanker, model: ModelRecord) -> tuple[View, ...]:
    """The views of a model's features that a ranker scores or chooses from."""
    if ranker.spec.needs_source_probabilities:
        return (PROBABILITIES,)
    if model.source == RAW:
        return (LAST,)
    layer = ranker.params.get("layer", LAST.layer)
    pooling = ranker.params.get("pooling", LAST.pooling)
    if layer == "best":
        # The last layer, after whatever normalisation follows it, in place of that of the highest number.
        hidden = [str(number) for number in range(1, model.num_layers or 1)]
        return tuple(View(each, pooling) for each in (*hidden, LAST.layer))
    return (View(layer, pooling),)


def _preparation(model: ModelRecord) -> str:
    """What tells how a model prepares rows, as far as the catalog knows: the size of images, or whose tokens."""
    shape = model.image_size if model.modality == "image" else f"{model.architecture} {model.token_length}"
    return f"{model.source} {model.modality} {shape}"
