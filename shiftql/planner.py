"""The planner: from a bound question to a logical plan, before anything known is taken into account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from shiftql import ast
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
from shiftql.finetune_planner import in_epochs, plan_finetunes, refused
from shiftql.plan import (
    Choice,
    Combine,
    Distances,
    Evaluate,
    Finetune,
    PlannedEvaluation,
    PlanNode,
    Query,
    Rank,
    Scan,
    Split,
)
from shiftql.planning import Planning, Stores, subject_of
from shiftql.probes import TASK2VEC
from shiftql.proxy_planner import plan_proxies
from shiftql.relations import RELATIONS
from shiftql.strategies.successive_halving import RowRace, Schedule
from shiftql.strategies.successive_halving import schedule as schedule_of
from shiftql.strategy_planner import plan_epoch_race, plan_strategy
from shiftql.variants import halved, is_left_open, too_large, without_order
from storage.catalog import DatasetRecord, ModelRecord
from storage.evaluations import Evaluation

# The source whose models are saved whatever they were fine-tuned for, and what those of the others may be for.
_KEPT, _KEPT_TASK = "huggingface", "classification"


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
    race = halved(question, drafted.train, drafted.test)
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
    schedule = _schedule(question, train)
    race = question.race if schedule is None else schedule.race(test.num_rows if test else 0)
    finetuning = (ranker for ranker in question.rankers if ranker.spec.kind in {"finetune", "strategy"})
    untrainable = {pair for ranker in finetuning for pair in refused(question.models, ranker)}
    limits = question.budget, question.within
    planning = Planning(question.models, train, test, scan, stores, *limits) if train else None
    evaluates = tuple(_evaluate(ranker, planning, question, scan, race) for ranker in question.rankers)
    return Rank(
        strategy=_strategy(question, schedule, evaluates[0].choice),
        evaluates=evaluates,
        shared=None,
        train=train,
        test=test,
        descending=question.descending,
        limit=question.limit,
        refused=tuple(sorted(untrainable)),
        unneeded=question.unneeded,
        within=question.within,
        budget=_amount(question.budget, "seconds"),
    )


def _evaluate(
    ranker: BoundRanker, planning: Planning | None, question: BoundRanking, scan: Scan, race: RowRace | None
) -> Evaluate:
    if planning is None or ranker.spec.kind == "catalog":
        return Evaluate(ranker, (), scan)
    match ranker.spec.kind:
        case "strategy":
            return plan_strategy(planning, ranker)
        case "finetune":
            ranker = in_epochs(ranker, planning.train.num_rows)
            return plan_epoch_race(planning, ranker) or plan_finetunes(planning, ranker)
        case _:
            return plan_proxies(planning, ranker, question.train[0].record.modality, race)


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
        Evaluation(subject_of(probe), task.subject, None, TASK2VEC.name, str(TASK2VEC.version)),
        stores.costs.task_embedding(probe, task.num_rows),
        parts=task.parts,
        source=probe.source,
    )


def _schedule(question: BoundRanking, train: Split | None) -> Schedule | None:
    """The rounds of a question that names a chunk or a number of pulls."""
    chunk = question.chunk.rows if question.chunk else None
    pulls = _amount(question.budget, "pulls")
    if train is None or (chunk is None and pulls is None):
        return None
    arms = {model.fingerprint for model in question.models}
    return schedule_of(len(arms), train.num_rows, chunk, None if pulls is None else int(pulls))


def _strategy(question: BoundRanking, schedule: Schedule | None, choice: Choice | None) -> str:
    """The strategy that drives a ranking, and its limits."""
    name = "Enumerate" if choice is None else choice.strategy.name
    limits = []
    if choice is not None and question.rankers[0].spec.kind == "finetune":
        evaluations = (offer.evaluation for offer in choice.problem.arms[0].rungs)
        rungs = [str(each.fidelity.get("epochs", each.params["epochs"])) for each in evaluations]
        limits += [f"after {', '.join(rungs)} epochs", f"eta {choice.strategy.arguments['eta']}"]
    if schedule is not None:
        name = "SuccessiveHalving"
        limits += [f"chunk {schedule.chunk}", f"budget {schedule.budget} pulls"]
    if question.race is not None:
        name = "SuccessiveHalving"
        limits.append(f"eta {question.race.eta}")
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
    planning = Planning(kept, train, None, scan, stores)
    rankers = [in_epochs(BoundRanker(question.spec, params), train.num_rows) for params in question.grid]
    evaluates = (plan_finetunes(planning, ranker) for ranker in rankers)
    untrainable = {pair for ranker in rankers for pair in refused(question.models, ranker)}
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
        tuple({**dict(unkept), **dict(sorted(untrainable))}.items()),
        within=question.within,
        budget=_amount(question.budget, "seconds"),
        epochs=_amount(question.budget, "epochs"),
    )


def _amount(budget: ast.Budget | None, unit: str) -> float | None:
    """What may be spent of a unit; None where nothing limits it."""
    return budget.amount if budget is not None and budget.unit == unit else None
