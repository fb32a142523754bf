"""The planner: from a bound question to a logical plan, before anything known is taken into account."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType
from typing import Any

from shiftql.bound import (
    BoundAverage,
    BoundDataset,
    BoundDistances,
    BoundFinetune,
    BoundQuery,
    BoundRanker,
    BoundRanking,
    BoundRows,
    BoundSet,
    Question,
)
from shiftql.cost import UNMEASURED, Cost, CostModel
from shiftql.history import kind_of
from shiftql.plan import (
    Choice,
    Combine,
    Distances,
    Embed,
    Embedding,
    Evaluate,
    Finetune,
    PlannedEvaluation,
    PlanNode,
    Query,
    Rank,
    Round,
    Scan,
    Split,
)
from shiftql.probes import TASK2VEC
from shiftql.relations import RELATIONS
from shiftql.strategies.base import Arm, History, Offer, Problem, Strategy
from shiftql.strategies.batch import Batch
from shiftql.strategies.retried import Retried
from shiftql.strategies.rungs import Race, fit_race, least_epochs, rungs_of
from shiftql.strategies.specs import NamedStrategy
from shiftql.strategies.successive_halving import Halving, Schedule, schedule
from shiftql.variants import halved, is_left_open, too_large, without_order
from storage.baselines import MAJORITY, MAJORITY_METHOD, MAJORITY_VERSION, RAW, raw_subject
from storage.catalog import DatasetRecord, ModelRecord
from storage.errors import PlanError
from storage.evaluations import Evaluation, Measurement, Subject
from storage.parts import Part, one_per_dataset
from storage.views import EMBEDDING_VERSION, LAST, PROBABILITIES, View
from storage.workload import fits_one_core
from tasks.rankers.specs import RankerSpec, bind_arguments, find_ranker

# The source whose models are saved whatever they were fine-tuned for, and what those of the others may be for.
_KEPT, _KEPT_TASK = "huggingface", "classification"
# Why models of a source cannot be fine-tuned, and what to do; all others can.
_UNTRAINABLE = {
    "torch": "an exported program has no gradients to train by; register the Hugging Face directory it was made of",
    "pca": "principal components are fitted and not trained; rank them by Linear",
}
# The proxy that Auto may buy, and what stands in for one that needs the classes of a head where there is none.
_USUAL_PROXY, _WITHOUT_HEAD = "Linear", "LogME"
_FULL = "FineTune"
# Auto, which learns from each result, is asked for about so much work at a time: planning takes a fraction of that.
_ROUND_SECONDS = 10.0
# Strategies that rest on results elsewhere alone.
_META_LEARNED = {"BestAverage", "BestPerBenchmark", "NearestBenchmark"}
_TRAIN = "-train"

# Up to this many parameters a model is fine-tuned at the highest default learning rate.
_SMALL_MODEL_PARAMETERS = 1e6
_HIGHEST_LEARNING_RATE = 1e-3

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


def plan(question: Question, stores: Stores) -> PlanNode:
    """The logical plan of a bound question."""
    inputs = tuple(plan(each, stores) for each in _each_once(question.inputs))
    match question:
        case BoundRanking():
            return _with_variants(question, stores, inputs)
        case BoundSet():
            return Combine(question.operator, plan(question.left, stores), plan(question.right, stores))
        case BoundDistances():
            return _plan_distances(question, stores, inputs)
        case BoundFinetune():
            return _plan_finetuning(question, stores, inputs)
        case BoundRows():
            return Query(question, inputs, _plan_embeddings(question.embeddings, stores))
        case BoundAverage():
            return Query(question, inputs)
    raise AssertionError(question)


def _each_once(questions: Sequence[BoundQuery]) -> list[BoundQuery]:
    """Of one sub-select whoever rests on it may need other models."""
    return list({(each.text, getattr(each, "unneeded", None)): each for each in questions}.values())


def _with_variants(question: BoundRanking, stores: Stores, inputs: tuple[PlanNode, ...]) -> Rank:
    """The plan of a ranking, and those that rules may take in its place."""
    plain = without_order(question) if is_left_open(question) else question
    drafted = _plan_ranking(plain, stores, inputs)
    variants = [] if plain is question else [("choose_strategy", _plan_ranking(question, stores, inputs))]
    race = halved(question, drafted.train.num_rows) if drafted.train else None
    if race is not None:
        variants.append(("halve", _plan_ranking(race, stores, inputs)))
    reasons = too_large(question, stores.costs, stores.memory)
    if reasons and (refused := _refused_for_size(question, drafted, reasons, stores)):
        fitting = tuple(model for model in question.models if model.name not in dict(refused))
        smaller = _with_variants(replace(question, models=fitting), stores, inputs)
        variants.append(("drop_oversized", _with_refused(smaller, refused)))
    return replace(drafted, variants=tuple(variants)) if variants else drafted


def _with_refused(rank: Rank, refused: tuple[tuple[str, str], ...]) -> Rank:
    variants = tuple((rule, _with_refused(variant, refused)) for rule, variant in rank.variants)
    return replace(rank, refused=tuple(sorted({*rank.refused, *refused})), variants=variants)


def _refused_for_size(
    question: BoundRanking, drafted: Rank, reasons: Mapping[str, str], stores: Stores
) -> tuple[tuple[str, str], ...]:
    """The models that are too large by the reasons for it, but for those that are measured all the same."""
    evaluations = [
        p.evaluation for e in drafted.evaluates for p in e.evaluations if p.evaluation.model.fingerprint in reasons
    ]
    outcomes = stores.outcomes(evaluations)
    measured = {
        evaluation.model.fingerprint
        for evaluation in evaluations
        if evaluation.fingerprint in outcomes and outcomes[evaluation.fingerprint].status == "completed"
    }
    return tuple(
        (model.name, reasons[model.fingerprint])
        for model in question.models
        if model.fingerprint in reasons and model.fingerprint not in measured
    )


def _plan_ranking(question: BoundRanking, stores: Stores, inputs: tuple[PlanNode, ...]) -> Rank:
    train = stores.split(question.train) if question.train else None
    test = stores.split(question.test) if question.test else None
    title = question.title
    if question.train and title in RELATIONS:
        title = f"{question.train[0].record.modality} models"
    scan = Scan(title, question.condition, len(question.models), inputs)
    halving = _halving(question, train)
    build = _Builder(question, train, test, scan, stores, halving)
    finetunes = any(ranker.spec.kind in {"finetune", "strategy"} for ranker in question.rankers)
    evaluates = tuple(build.evaluate(ranker) for ranker in question.rankers)
    return Rank(
        strategy=_strategy(question, halving, evaluates[0].choice),
        evaluates=evaluates,
        shared=None,
        train=train,
        test=test,
        descending=question.descending,
        limit=question.limit,
        refused=_refused(question.models) if finetunes else (),
        unneeded=question.unneeded,
        within=question.within,
        budget=question.budget.amount if question.budget and question.budget.unit == "seconds" else None,
    )


def _plan_embeddings(embeddings: Sequence[tuple[ModelRecord, DatasetRecord]], stores: Stores) -> tuple[Evaluate, ...]:
    """The Task2Vec vectors of datasets, probe by probe."""
    by_probe: dict[str, list[PlannedEvaluation]] = {}
    for probe, dataset in embeddings:
        by_probe.setdefault(probe.name, []).append(_embedding(probe, (BoundDataset(dataset),), stores))
    return tuple(
        Evaluate(BoundRanker(TASK2VEC, {"probe": name}), tuple(planned), None) for name, planned in by_probe.items()
    )


def _plan_distances(question: BoundDistances, stores: Stores, inputs: tuple[PlanNode, ...]) -> Distances:
    target = _embedding(question.probe, question.train, stores)
    others = [
        (dataset.name, _embedding(question.probe, (BoundDataset(dataset),), stores)) for dataset in question.datasets
    ]
    each_once = {planned.evaluation.fingerprint: planned for planned in (target, *(planned for _, planned in others))}
    return Distances(
        question=question,
        target=target.evaluation,
        others=tuple((name, planned.evaluation) for name, planned in others),
        evaluates=(Evaluate(BoundRanker(TASK2VEC, {"probe": question.probe.name}), tuple(each_once.values()), None),),
        inputs=inputs,
    )


def _embedding(probe: ModelRecord, datasets: Sequence[BoundDataset], stores: Stores) -> PlannedEvaluation:
    task = stores.split(datasets)
    return PlannedEvaluation(
        Evaluation(_subject(probe), task.subject, None, TASK2VEC.name, str(TASK2VEC.version)),
        stores.costs.task_embedding(probe, task.num_rows),
        parts=task.parts,
        source=probe.source,
    )


def _halving(question: BoundRanking, train: Split | None) -> Schedule | None:
    """The rounds of a question that names a chunk or a number of pulls."""
    chunk = question.chunk.rows if question.chunk else None
    budget = question.budget if question.budget and question.budget.unit == "pulls" else None
    pulls = None if budget is None or budget.amount is None else int(budget.amount)
    if train is None or (chunk is None and pulls is None):
        return None
    arms = {model.fingerprint for model in question.models}
    return schedule(len(arms), train.num_rows, chunk, pulls)


def _strategy(question: BoundRanking, halving: Schedule | None, choice: Choice | None) -> str:
    """The strategy that drives a ranking, and its limits."""
    name = "Enumerate" if choice is None else choice.strategy.name
    limits = []
    if choice is not None and question.rankers[0].spec.kind == "finetune":
        evaluations = (offer.evaluation for offer in choice.problem.arms[0].rungs)
        rungs = [str(each.fidelity.get("epochs", each.params["epochs"])) for each in evaluations]
        limits += [f"after {', '.join(rungs)} epochs", f"eta {choice.strategy.arguments['eta']}"]
    if halving is not None:
        name = "SuccessiveHalving"
        limits += [f"chunk {halving.chunk}", f"budget {halving.budget} pulls"]
    if question.within is not None:
        limits.append(f"within {question.within:g} s")
    if question.budget is not None and question.budget.amount is not None and question.budget.unit != "pulls":
        limits.append(f"budget {question.budget.amount:g} {question.budget.unit}")
    return f"{name}({', '.join(limits)})" if limits else name


def _plan_finetuning(question: BoundFinetune, stores: Stores, inputs: tuple[PlanNode, ...]) -> Finetune:
    train = stores.split(question.train)
    scan = Scan("models", None, len(question.models), inputs)
    are_all_kept = question.name is None or question.train[0].record.task == _KEPT_TASK
    kept = [model for model in question.models if are_all_kept or model.source == _KEPT]
    build = _Builder(replace(question, models=tuple(kept)), train, None, scan, stores, None)
    evaluates = (build.finetunes(BoundRanker(question.spec, params), train) for params in question.grid)
    unkept = (
        (model.name, f"a {model.source} model that is no classifier of single rows cannot be kept; leave out AS")
        for model in question.models
        if model not in kept
    )
    return Finetune(
        tuple(replace(evaluate, below=None) for evaluate in evaluates),
        train,
        question.name,
        scan,
        tuple({**dict(unkept), **dict(_refused(question.models))}.items()),
    )


def _refused(models: Sequence[ModelRecord]) -> tuple[tuple[str, str], ...]:
    """The models that cannot be fine-tuned, with the reason."""
    return tuple(
        (model.name, f"FineTune is not available for {model.source} models: {_UNTRAINABLE[model.source]}")
        for model in models
        if model.source in _UNTRAINABLE
    )


class _Builder:
    def __init__(
        self,
        question: BoundRanking | BoundFinetune,
        train: Split | None,
        test: Split | None,
        scan: Scan,
        stores: Stores,
        halving: Schedule | None,
    ) -> None:
        self._question = question
        self._train = train
        self._test = test
        self._scan = scan
        self._stores = stores
        self._costs = stores.costs
        self._budget = question.budget if isinstance(question, BoundRanking) else None
        self._within = question.within if isinstance(question, BoundRanking) else None
        self._halving = halving

    def evaluate(self, ranker: BoundRanker) -> Evaluate:
        if self._train is None or ranker.spec.kind == "catalog":
            return Evaluate(ranker, (), self._scan)
        test = self._test if ranker.spec.needs_test else None
        if ranker.spec.kind == "strategy":
            return self._choose(ranker, self._train, _rungs_of(ranker), None)
        if ranker.spec.kind == "finetune":
            race = self._race(ranker, self._train)
            if race is None:
                return self.finetunes(ranker, self._train)
            return self._choose(ranker, self._train, race.rungs, NamedStrategy("SuccessiveHalving", {"eta": race.eta}))
        raw = ModelRecord(
            name=RAW,
            source=RAW,
            path="",
            fingerprint=raw_subject(self._question.train[0].record.modality).fingerprint,
            signature="",
            modality=self._question.train[0].record.modality,
            num_params=0,
        )
        # What rests on the probabilities of a head says nothing of pixels.
        baselines = [] if ranker.spec.needs_source_probabilities else [raw]
        # Copies of a model are embedded with under the name of the first.
        models: dict[str, ModelRecord] = {}
        for model in (*self._question.models, raw):
            models.setdefault(model.fingerprint, model)
        evaluations, rounds = self._in_rounds(ranker, test, self._train)
        evaluations += [self._scoring(ranker, model, test, self._train.num_rows) for model in baselines]
        embeddings = []
        # By the rows of a round: many models share one.
        trains: dict[int | None, tuple[Part, ...]] = {None: self._train.parts}
        for content, planned in {planned.evaluation.model.fingerprint: planned for planned in evaluations}.items():
            rows = planned.evaluation.fidelity.get("rows")
            if rows is not None and rows not in trains:
                trains[rows] = self._stores.sample(self._train, rows)
            embeddings += self._embeddings(models[content], trains[rows], test, planned.views)
        # What sees no test split has no share of right answers.
        if test is not None:
            metric = {name: value for name, value in ranker.params.items() if name == "metric"}
            majority = self._evaluation(MAJORITY, test, MAJORITY_METHOD, MAJORITY_VERSION, metric)
            evaluations.append(PlannedEvaluation(majority, self._costs.scoring(MAJORITY_METHOD, 0), baseline=True))
        return Evaluate(ranker, tuple(evaluations), Embed(tuple(embeddings), self._scan), rounds)

    def _in_rounds(
        self, ranker: BoundRanker, test: Split | None, train: Split
    ) -> tuple[list[PlannedEvaluation], tuple[Round, ...]]:
        """The evaluations of all models; where they are halved, of the rounds whose models are known, and all rounds.

        The strategy is told whatever is known until it asks for what is not.
        """
        models = self._question.models
        if self._halving is None:
            return [self._scoring(ranker, model, test, train.num_rows) for model in models], ()
        # Copies of a model are one arm, and ranked beside each other.
        copies: dict[str, list[ModelRecord]] = {}
        for model in models:
            copies.setdefault(model.fingerprint, []).append(model)
        planned: dict[str, list[PlannedEvaluation]] = {}
        arms = []
        for alike in copies.values():
            rounds = [
                [self._scoring(ranker, model, test, rows, number) for model in alike]
                for number, rows in enumerate(self._halving.rows)
            ]
            arms.append([first for first, *_ in rounds])
            planned |= {each[0].evaluation.fingerprint: each for each in rounds}
        strategy = Halving([[each.evaluation for each in arm] for arm in arms])
        while wanted := strategy.ask(len(arms)):
            strategy.tell(self._stores.outcomes(wanted))
        reached = chain.from_iterable(planned[each.fingerprint] for each in chain.from_iterable(strategy.rounds))
        first = [alike[0] for alike in copies.values()]
        return list(reached), tuple(self._rounds(first, arms, self._halving))

    def _rounds(
        self, models: Sequence[ModelRecord], arms: Sequence[Sequence[PlannedEvaluation]], halving: Schedule
    ) -> Iterator[Round]:
        """The rounds, each at the mean cost of all models, with the rows that the one before had not seen."""
        seen = 0
        for number, (size, rows) in enumerate(zip(halving.arms, halving.rows, strict=True)):
            passes = (self._costs.row(model) * (rows - seen) + Cost(self._costs.opening(model)) for model in models)
            total = sum((*passes, *(arm[number].cost for arm in arms)), Cost())
            yield Round(size, rows, total * (size / max(1, len(models))))
            seen = rows

    def _scoring(
        self, ranker: BoundRanker, model: ModelRecord, test: Split | None, rows: int, number: int = 0
    ) -> PlannedEvaluation:
        """The evaluation of a model by so many training rows, in a round of that number."""
        assert self._train is not None
        views = _views(ranker, model)
        cost = self._costs.scoring(ranker.spec.name, rows + (test.num_rows if test else 0)) * len(views)
        version = f"{ranker.spec.version}+embedding{EMBEDDING_VERSION}"
        fidelity = {"rows": rows} if rows < self._train.num_rows else {}
        evaluation = self._evaluation(_subject(model), test, ranker.spec.name, version, ranker.params, fidelity)
        return PlannedEvaluation(evaluation, cost, views, baseline=model.source == RAW, round=number)

    def finetunes(self, ranker: BoundRanker, train: Split) -> Evaluate:
        """Every model that can be fine-tuned, with the second tries of what collapsed."""
        planned = [self._finetuning(ranker, model, train) for model in self._finetunable()]
        evaluations = [each.evaluation for each in planned]
        tries = self._tries(Retried(Batch(evaluations), evaluations), planned)
        return Evaluate(ranker, (*planned, *tries), self._scan)

    def _tries(self, strategy: Strategy, planned: Sequence[PlannedEvaluation]) -> Iterator[PlannedEvaluation]:
        """The second tries of what collapsed, once that is known."""
        known = {each.evaluation.fingerprint for each in planned}
        while wanted := strategy.ask(len(planned)):
            strategy.tell(self._stores.outcomes(wanted))
            for second in wanted:
                if second.fingerprint not in known:
                    # Of every copy.
                    for first in planned:
                        if first.evaluation.model.fingerprint == second.model.fingerprint:
                            yield replace(first, evaluation=replace(second, model=first.evaluation.model))

    def _finetuning(self, ranker: BoundRanker, model: ModelRecord, train: Split) -> PlannedEvaluation:
        (planned,) = self._rungs(ranker, model, train, (ranker.params["epochs"],))
        return planned

    def _rungs(
        self, ranker: BoundRanker, model: ModelRecord, train: Split, rungs: Sequence[int]
    ) -> list[PlannedEvaluation]:
        """Fine-tuning in rungs of so many epochs, the last of which is tested, each going on from the one before."""
        params = {**ranker.params, "lr": ranker.params["lr"] or default_learning_rate(model)}
        subject, version = _subject(model), str(ranker.spec.version)
        planned: list[PlannedEvaluation] = []
        seen = 0
        for epochs in rungs:
            is_last = epochs == params["epochs"]
            fidelity = {} if is_last else {"epochs": epochs}
            test = self._test if is_last else None
            evaluation = self._evaluation(subject, test, ranker.spec.name, version, params, fidelity)
            rows = test.num_rows if test else 0
            cost = self._costs.finetuning(model, train.num_rows, rows, epochs - seen, params)
            planned.append(PlannedEvaluation(evaluation, cost, epochs=epochs - seen, source=model.source))
            seen = epochs
        return planned

    def _race(self, ranker: BoundRanker, train: Split) -> Race | None:
        """How fine-tuning is halved; None where all models can be trained to the end within the limits, or none raced.

        Raises PlanError where a budget of epochs is too small for any race.
        """
        finals = [self._finetuning(ranker, model, train) for model in self._finetunable()]
        epochs, models = ranker.params["epochs"], len({each.evaluation.model.fingerprint for each in finals})
        seconds = sum(each.cost.seconds for each in finals) / max(1, len(finals) * epochs)
        budget = self._budget
        limits = [] if self._within is None else [self._within / max(seconds, 1e-9)]
        if budget is not None and budget.amount is not None:
            limits.append(budget.amount if budget.unit == "epochs" else budget.amount / max(seconds, 1e-9))
        if not finals or min(limits, default=math.inf) >= models * epochs:
            return None
        race = fit_race(models, epochs, min(limits))
        least = least_epochs(models, epochs)
        if race is None and budget is not None and budget.unit == "epochs" and (budget.amount or 0) < least:
            raise PlanError(
                f"{budget.amount:g} epochs are too few to choose among {models} models that are trained for {epochs}",
                subject="BUDGET",
                fix=f"give at least {least}, train for fewer epochs, or narrow the models down by WHERE",
            )
        return race

    def _finetunable(self) -> list[ModelRecord]:
        return [model for model in self._question.models if model.source not in _UNTRAINABLE]

    def _choose(
        self, ranker: BoundRanker, train: Split, rungs: Sequence[int], strategy: NamedStrategy | None
    ) -> Evaluate:
        """What is known to a strategy of the models that can be fine-tuned, and what it wants next.

        It is told all that is known, so that the same knowledge has it want the same, whoever came by it. A model that
        a proxy failed on cannot be opened, and is no choice.
        """
        # Copies of a model are one arm.
        copies: dict[str, list[ModelRecord]] = {}
        for model in self._finetunable():
            copies.setdefault(model.fingerprint, []).append(model)
        models = [first for first, *_ in copies.values()]
        full = _trained_by(ranker)
        trained = {_subject(model): self._rungs(full, model, train, rungs) for model in models}
        proxy = _proxy_of(ranker)
        if proxy is not None and proxy.needs_source_probabilities and not all(json.loads(m.labels) for m in models):
            # Scores of two kinds cannot be ranked together.
            proxy = find_ranker(_WITHOUT_HEAD)
        hints = {} if proxy is None else {_subject(model): self._proxy(proxy, model, train) for model in models}
        planned = {each.evaluation.fingerprint: each for each in (*chain(*trained.values()), *hints.values())}
        known = dict(self._stores.outcomes([each.evaluation for each in planned.values()]))
        failed = {
            subject
            for subject, hint in hints.items()
            if (outcome := known.get(hint.evaluation.fingerprint)) is not None
            and outcome.status == "failed"
            and all(_failed_or_unknown(known.get(rung.evaluation.fingerprint)) for rung in trained[subject])
        }
        arms = [
            Arm(
                subject,
                tuple(
                    _offer(rung, 0.0 if number else self._costs.downloading(model).seconds)
                    for number, rung in enumerate(trained[subject])
                ),
                (_offer(hints[subject], self._costs.downloading(model).seconds),) if subject in hints else (),
                {"upstream_accuracy": model.upstream_accuracy, "num_params": model.num_params},
            )
            for model in models
            if (subject := _subject(model)) not in failed
        ]
        splits = (train, *([self._test] if self._test else []))
        target = {split.subject for split in splits} | {part.dataset for split in splits for part in split.parts}
        history = self._stores.history(models, target)
        if models and not history.datasets and ranker.spec.label in _META_LEARNED:
            raise PlanError(
                f"{ranker.spec.label} chooses by what models reached on other datasets, and nothing is known of these",
                subject=ranker.spec.label,
                fix="fill the matrix with 'shiftql benchmark build', or write ORDER BY Auto",
            )
        choice = Choice(
            strategy or _named(ranker, proxy, self._seconds_allowed(trained.values())),
            Problem(train.subject.name.removesuffix(_TRAIN), arms, history),
            {_subject(alike[0]): tuple(model.name for model in alike) for alike in copies.values()},
        )
        by_run = {_run(each.evaluation): each for each in planned.values()}
        chooser, wanted, seconds, left_out = choice.after(known), list[PlannedEvaluation](), 0.0, 0
        left = self._allowed - sum(self._spent(planned[each], outcome) for each, outcome in known.items())
        most = _ROUND_SECONDS if ranker.spec.label == "Auto" else math.inf
        while seconds < most and (asked := chooser.ask(1)):
            # The second try of what collapsed is the same at the same cost, but for its seed. All else was looked up.
            tries = [each for each in asked if each.fingerprint not in planned]
            planned |= {each.fingerprint: replace(by_run[_run(each)], evaluation=each) for each in tries}
            if tries and (found := self._stores.outcomes(tries)):
                known |= found
                chooser.tell(found)
                continue
            for each in asked:
                # Who waits for a second try goes on with it: those are rare, and come on top of a budget.
                price = 0.0 if tries else self._spent(planned[each.fingerprint])
                if price > left:
                    left_out += 1
                else:
                    left -= price
                    wanted.append(planned[each.fingerprint])
                    seconds += planned[each.fingerprint].cost.seconds
        records = {_subject(model): model for model in models}
        embeddings = [
            embedding
            for each in wanted
            if each.views
            for embedding in self._embeddings(
                records[each.evaluation.model], train.parts, self._test if each.evaluation.test else None, each.views
            )
        ]
        evaluations = (*(each for each in planned.values() if each.evaluation.fingerprint in known), *wanted)
        below = Embed(tuple(embeddings), self._scan) if embeddings else self._scan
        return Evaluate(ranker, evaluations, below, choice=choice, left_out=left_out)

    @property
    def _allowed(self) -> float:
        """What evaluations may cost in all, in the unit of the budget."""
        budget = self._budget
        return math.inf if budget is None or budget.amount is None or budget.unit == "pulls" else budget.amount

    def _spent(self, planned: PlannedEvaluation, outcome: Measurement | None = None) -> float:
        """What an evaluation takes of the budget, or took of it: known results count whoever paid for them."""
        if self._budget is not None and self._budget.unit == "epochs":
            return planned.epochs
        return planned.cost.seconds if outcome is None else outcome.cost_seconds

    def _seconds_allowed(self, trained: Collection[Sequence[PlannedEvaluation]]) -> float | None:
        """The seconds that choosing may take; None where no limit says."""
        budget, limits = self._budget, [] if self._within is None else [self._within]
        if budget is not None and budget.amount is not None and budget.unit == "seconds":
            limits.append(budget.amount)
        if budget is not None and budget.amount is not None and budget.unit == "epochs" and trained:
            rungs = list(chain(*trained))
            seconds = sum(each.cost.seconds for each in rungs) / sum(each.epochs for each in rungs)
            limits.append(budget.amount * seconds)
        return min(limits, default=None)

    def _proxy(self, spec: RankerSpec, model: ModelRecord, train: Split) -> PlannedEvaluation:
        """The score of a model by a proxy, at the cost of embedding with it too."""
        test = self._test if spec.needs_test else None
        scoring = self._scoring(_by_default(spec.label), model, test, train.num_rows)
        rows = train.num_rows + (test.num_rows if test else 0)
        return replace(scoring, cost=scoring.cost + Cost(self._costs.opening(model)) + self._costs.row(model) * rows)

    def _evaluation(
        self,
        model: Subject,
        test: Split | None,
        method: str,
        version: str,
        params: Mapping[str, Any],
        fidelity: Mapping[str, Any] = MappingProxyType({}),
    ) -> Evaluation:
        assert self._train is not None
        return Evaluation(model, self._train.subject, test.subject if test else None, method, version, params, fidelity)

    def _embeddings(
        self, model: ModelRecord, train: tuple[Part, ...], test: Split | None, views: tuple[View, ...]
    ) -> list[Embedding]:
        parts = one_per_dataset((*train, *(test.parts if test else ())))
        return [
            Embedding(
                model=_subject(model),
                source=model.source,
                part=part,
                views=views,
                new_rows=part.num_rows,
                opening_seconds=self._costs.opening(model),
                row_cost=self._costs.row(model, len(views)),
                fits_one_core=fits_one_core(model),
                preparation=_preparation(model),
            )
            for part in parts
        ]


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


def default_learning_rate(model: ModelRecord) -> float:
    """The learning rate of a fine-tune that names none: 0.001 up to a million parameters, 0.0001 at a hundred million.

    >>> default_learning_rate(ModelRecord(num_params=100_000_000))
    0.0001
    """
    size = model.num_params or _SMALL_MODEL_PARAMETERS
    return float(f"{_HIGHEST_LEARNING_RATE * min(1.0, (_SMALL_MODEL_PARAMETERS / size) ** 0.5):.1g}")


def _failed_or_unknown(outcome: Measurement | None) -> bool:
    return outcome is None or outcome.status == "failed"


def _by_default(name: str) -> BoundRanker:
    """A ranker with the arguments it has where none are given."""
    spec = find_ranker(name)
    return BoundRanker(spec, bind_arguments(spec, (), {}))


def _proxy_of(ranker: BoundRanker) -> RankerSpec | None:
    """The proxy that a strategy may buy of every model, if any."""
    named = ranker.params.get("proxy", _USUAL_PROXY if ranker.spec.label == "Auto" else None)
    return None if named is None else find_ranker(named)


def _named(ranker: BoundRanker, proxy: RankerSpec | None, seconds: float | None) -> NamedStrategy:
    """The strategy that a ranker stands for, which knows its proxy as a kind of evaluation.

    `seconds` are those that it may spend where it chooses that itself.
    """
    kinds = {"proxy": kind_of(proxy.name, {})} if "proxy" in ranker.params and proxy is not None else {}
    limits = {"budget": seconds} if ranker.spec.label == "Auto" and seconds is not None else {}
    arguments = {name: value for name, value in ranker.params.items() if name != "epochs"}
    return NamedStrategy(ranker.spec.label, {**arguments, **kinds, **limits})


def _trained_by(ranker: BoundRanker) -> BoundRanker:
    """How the models that a ranker chooses are fine-tuned."""
    if ranker.spec.kind == "finetune":
        return ranker
    spec = find_ranker(_FULL)
    return BoundRanker(spec, bind_arguments(spec, (), {"epochs": _epochs(ranker)}))


def _epochs(ranker: BoundRanker) -> int:
    """To how many epochs the models that a ranker chooses are trained."""
    default = next(argument.default for argument in ranker.spec.arguments if argument.name == "epochs")
    return int(ranker.params.get("epochs", default))


def _rungs_of(ranker: BoundRanker) -> tuple[int, ...]:
    """The epochs at which a strategy looks at the models that it trains."""
    epochs = _epochs(ranker)
    match ranker.spec.label:
        case "SuccessiveHalving" | "TwoPhase":
            return rungs_of(epochs)
        case "Hyperband":
            return tuple(range(1, epochs + 1))
        case _:
            return (epochs,)


def _offer(planned: PlannedEvaluation, before: float) -> Offer:
    """An evaluation at its price, with what it takes before, as the model's download."""
    evaluation = planned.evaluation
    return Offer(kind_of(evaluation.method, evaluation.fidelity), evaluation, planned.cost.seconds + before)


def _run(evaluation: Evaluation) -> tuple[Subject, str, str]:
    """What two tries of an evaluation have in common."""
    return evaluation.model, evaluation.method, str(evaluation.fidelity)


def _subject(model: ModelRecord) -> Subject:
    return Subject(model.name, model.fingerprint)
