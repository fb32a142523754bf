"""The planner: from a bound question to a logical plan, before anything known is taken into account."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shiftql.binder import BoundRanker, BoundRanking, BoundRows
from shiftql.cost import predict_finetuning, predict_opening, predict_row, predict_scoring
from shiftql.plan import Embed, Embedding, Evaluate, PlannedEvaluation, Query, Rank, Scan
from storage.baselines import MAJORITY, MAJORITY_METHOD, MAJORITY_VERSION, RAW, raw_subject
from storage.catalog import DatasetRecord, ModelRecord
from storage.embedding_version import EMBEDDING_VERSION
from storage.evaluations import Evaluation, Subject
from storage.workload import fits_one_core

# Which sources can be fine-tuned.
_FINETUNABLE = {"huggingface"}

# Up to this many parameters a model is fine-tuned at the highest default learning rate.
_SMALL_MODEL_PARAMETERS = 1e6
_HIGHEST_LEARNING_RATE = 1e-3

Combine = Callable[[Sequence[DatasetRecord]], Subject]


def plan(question: BoundRows | BoundRanking, combine: Combine) -> Query | Rank:
    """The logical plan of a bound question.

    `combine` gives the subject that stands for several datasets taken as one.
    """
    if isinstance(question, BoundRows):
        return Query(question)
    train, test = combine(question.train), combine(question.test) if question.test else None
    scan = Scan(question.train[0].modality, question.condition, len(question.models))
    build = _Builder(question, train, test, scan)
    finetunes = [ranker for ranker in question.rankers if ranker.spec.kind == "finetune"]
    refused = [
        (model.name, f"FineTune is not available for {model.source} models")
        for model in question.models
        if finetunes and model.source not in _FINETUNABLE
    ]
    return Rank(
        strategy="Enumerate",
        evaluates=tuple(build.evaluate(ranker) for ranker in question.rankers),
        shared=None,
        descending=question.descending,
        limit=question.limit,
        refused=tuple(refused),
    )


class _Builder:
    def __init__(self, question: BoundRanking, train: Subject, test: Subject | None, scan: Scan) -> None:
        self._question = question
        self._train = train
        self._test = test
        self._scan = scan
        self._train_rows = sum(dataset.num_rows for dataset in question.train)
        self._test_rows = sum(dataset.num_rows for dataset in question.test)

    def evaluate(self, ranker: BoundRanker) -> Evaluate:
        if ranker.spec.kind == "finetune":
            epochs = ranker.params["epochs"]
            return Evaluate(
                ranker,
                tuple(
                    PlannedEvaluation(
                        self._evaluation(
                            _subject(model),
                            ranker.spec.name,
                            str(ranker.spec.version),
                            {**ranker.params, "lr": ranker.params["lr"] or default_learning_rate(model)},
                        ),
                        predict_finetuning(model, self._train_rows, self._test_rows, epochs),
                    )
                    for model in self._question.models
                    if model.source in _FINETUNABLE
                ),
                self._scan,
            )
        raw = ModelRecord(
            name=RAW,
            source=RAW,
            path="",
            fingerprint=raw_subject(self._scan.modality).fingerprint,
            signature="",
            modality=self._scan.modality,
            num_params=0,
        )
        models = [*self._question.models, raw]
        scoring = predict_scoring(ranker.spec.name, self._train_rows + self._test_rows)
        evaluations = [
            PlannedEvaluation(
                self._evaluation(
                    _subject(model),
                    ranker.spec.name,
                    f"{ranker.spec.version}+embedding{EMBEDDING_VERSION}",
                    ranker.params,
                ),
                scoring,
                baseline=model is raw,
            )
            for model in models
        ]
        majority = self._evaluation(MAJORITY, MAJORITY_METHOD, MAJORITY_VERSION, {})
        evaluations.append(PlannedEvaluation(majority, predict_scoring(MAJORITY_METHOD, 0), baseline=True))
        embeddings = [embedding for model in models for embedding in self._embeddings(model)]
        return Evaluate(ranker, tuple(evaluations), Embed(tuple(embeddings), self._scan))

    def _evaluation(self, model: Subject, method: str, version: str, params: Mapping[str, Any]) -> Evaluation:
        return Evaluation(model, self._train, self._test, method, version, params)

    def _embeddings(self, model: ModelRecord) -> list[Embedding]:
        return [
            Embedding(
                model=_subject(model),
                source=model.source,
                dataset=Subject(dataset.name, dataset.fingerprint),
                rows=dataset.num_rows,
                new_rows=dataset.num_rows,
                opening_seconds=predict_opening(model),
                row_cost=predict_row(model),
                fits_one_core=fits_one_core(model),
            )
            for dataset in {each.fingerprint: each for each in (*self._question.train, *self._question.test)}.values()
        ]


def default_learning_rate(model: ModelRecord) -> float:
    """The learning rate of a fine-tune that names none: 0.001 up to a million parameters, 0.0001 at a hundred million.

    >>> default_learning_rate(ModelRecord(num_params=100_000_000))
    0.0001
    """
    size = model.num_params or _SMALL_MODEL_PARAMETERS
    return float(f"{_HIGHEST_LEARNING_RATE * min(1.0, (_SMALL_MODEL_PARAMETERS / size) ** 0.5):.1g}")


def _subject(model: ModelRecord) -> Subject:
    return Subject(model.name, model.fingerprint)
