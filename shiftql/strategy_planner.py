"""Planning a strategy: what is known to it of the models that can be fine-tuned, and what it wants next."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain

from shiftql.bound import BoundRanker
from shiftql.finetune_planner import finetunable, plan_rungs, plan_training
from shiftql.history import kind_of
from shiftql.plan import Choice, Embed, Evaluate, PlannedEvaluation
from shiftql.planning import Planning, ranker_named, subject_of
from shiftql.strategies.base import Arm, Offer, Problem
from shiftql.strategies.known import is_little_known
from shiftql.strategies.retried import run_of
from shiftql.strategies.rungs import EpochRace, fit_race, least_epochs, rungs_of
from shiftql.strategies.specs import NamedStrategy
from shiftql.strategies.successive_halving import RowRace, row_race
from storage.catalog import ModelRecord
from storage.errors import PlanError
from storage.evaluations import Measurement
from tasks.rankers.specs import RankerSpec, find_ranker

# The proxy that Auto may buy, and what stands in for one that needs the classes of a head where there is none.
_USUAL_PROXY, _WITHOUT_HEAD = "Linear", "LogME"
_FULL = "FineTune"
# Auto, which learns from each result, is asked for about so much work at a time: planning takes a fraction of that.
_ROUND_SECONDS = 10.0
# Strategies that rest on results elsewhere alone.
_META_LEARNED = {"BestAverage", "BestPerBenchmark", "NearestBenchmark"}
_TRAIN = "-train"


def plan_strategy(planning: Planning, ranker: BoundRanker) -> Evaluate:
    """The evaluations that a strategy chooses."""
    return _choose(planning, ranker, _rungs_of(ranker), None)


def plan_epoch_race(planning: Planning, ranker: BoundRanker) -> Evaluate | None:
    """Fine-tuning as a race over epochs, where the limits cannot pay for all of it; None where they can."""
    raced = _epoch_race(planning, ranker)
    if raced is None:
        return None
    return _choose(planning, ranker, raced.rungs, NamedStrategy("SuccessiveHalving", {"eta": raced.eta}))


def _epoch_race(planning: Planning, ranker: BoundRanker) -> EpochRace | None:
    """How fine-tuning is halved; None where all models can be trained to the end within the limits, or none raced."""
    finals = [plan_training(planning, ranker, model) for model in finetunable(planning.models, ranker)]
    epochs, models = ranker.params["epochs"], len({each.evaluation.model.fingerprint for each in finals})
    seconds = sum(each.cost.seconds for each in finals) / max(1, len(finals) * epochs)
    budget = planning.budget
    limits = [] if planning.within is None else [planning.within / max(seconds, 1e-9)]
    if budget is not None and budget.amount is not None:
        limits.append(budget.amount if budget.unit == "epochs" else budget.amount / max(seconds, 1e-9))
    if not finals or min(limits, default=math.inf) >= models * epochs:
        return None
    # Steps make more epochs where some of the rows are held out, which a budget is not refused for.
    least = least_epochs(models, epochs) if budget is not None and budget.unit == "epochs" else 0
    return fit_race(models, epochs, max(least, min(limits)))


def _choose(planning: Planning, ranker: BoundRanker, rungs: Sequence[int], strategy: NamedStrategy | None) -> Evaluate:
    """What is known to a strategy of the models that can be fine-tuned, and what it wants next.

    It is told all that is known, so that the same knowledge has it want the same, whoever came by it.
    """
    choice, planned, known = _open(planning, ranker, rungs, strategy)
    by_run = {run_of(each.evaluation): each for each in planned.values()}
    chooser, wanted, seconds, left_out = choice.after(known), list[PlannedEvaluation](), 0.0, 0
    left = _allowed(planning) - sum(_spent(planning, planned[each], outcome) for each, outcome in known.items())
    most = _ROUND_SECONDS if ranker.spec.label == "Auto" else math.inf
    while seconds < most and (asked := chooser.ask(1)):
        # The second try of what collapsed is the same at the same cost, but for its seed. All else was looked up.
        tries = [each for each in asked if each.fingerprint not in planned]
        planned |= {each.fingerprint: replace(by_run[run_of(each)], evaluation=each) for each in tries}
        if tries and (found := planning.stores.outcomes(tries)):
            known |= found
            chooser.tell(found)
            continue
        for each in asked:
            # Who waits for a second try goes on with it: those are rare, and come on top of a budget.
            price = 0.0 if tries else _spent(planning, planned[each.fingerprint])
            if price > left:
                left_out += 1
            else:
                left -= price
                wanted.append(planned[each.fingerprint])
                seconds += planned[each.fingerprint].cost.seconds
    records = {subject_of(model): model for model in planning.models}
    embeddings = [
        embedding
        for each in wanted
        if each.views
        for embedding in planning.embeddings(records[each.evaluation.model], each)
    ]
    evaluations = (*(each for each in planned.values() if each.evaluation.fingerprint in known), *wanted)
    below = Embed(tuple(embeddings), planning.scan) if embeddings else planning.scan
    return Evaluate(ranker, evaluations, below, choice=choice, left_out=left_out)


def _open(
    planning: Planning, ranker: BoundRanker, rungs: Sequence[int], strategy: NamedStrategy | None
) -> tuple[Choice, dict[str, PlannedEvaluation], dict[str, Measurement]]:
    """What is chosen from, and by fingerprint all that may be evaluated for it and what came of that so far.

    A model that a proxy failed on cannot be opened, and is no choice. Raises PlanError where the strategy rests on
    other datasets and nothing is known of these.
    """
    # Copies of a model are one arm.
    copies: dict[str, list[ModelRecord]] = {}
    for model in finetunable(planning.models, ranker):
        copies.setdefault(model.fingerprint, []).append(model)
    models = [first for first, *_ in copies.values()]
    full = _trained_by(ranker)
    splits = (planning.train, *([planning.test] if planning.test else []))
    target = {split.subject for split in splits} | {part.dataset for split in splits for part in split.parts}
    history = planning.stores.history(models, target)
    if models and not history.datasets and ranker.spec.label in _META_LEARNED:
        raise PlanError(
            f"{ranker.spec.label} chooses by what models reached on other datasets, and nothing is known of these",
            subject=ranker.spec.label,
            fix="fill the matrix with 'shiftql benchmark build', or write ORDER BY Auto",
        )
    proxy = _proxy_of(ranker)
    if proxy is not None and proxy.needs_source_probabilities and not all(json.loads(m.labels) for m in models):
        # Scores of two kinds cannot be ranked together.
        proxy = find_ranker(_WITHOUT_HEAD)
    hints = {} if proxy is None else {subject_of(model): _proxy(planning, proxy, model) for model in models}
    race = None if proxy is None or ranker.spec.label != "Auto" else _race_of_looks(planning, proxy, len(models))
    tries = race is not None or (
        ranker.spec.label == "Auto" and is_little_known([model.name for model in models], history)
    )
    if tries:
        rungs = _trial_and_rest(rungs[-1])
    # Few rows are held out, and they may be more like those that are trained on than what is tested is.
    trained = {subject_of(model): plan_rungs(planning, full, model, rungs, are_tested=tries) for model in models}
    looks = {subject: list[PlannedEvaluation]() for subject in hints}
    if proxy is not None and race is not None:
        looks = {subject_of(model): _looks(planning, proxy, model, race) for model in models}
    everything = *chain(*trained.values()), *chain(*looks.values()), *hints.values()
    planned = {each.evaluation.fingerprint: each for each in everything}
    known = dict(planning.stores.outcomes([each.evaluation for each in planned.values()]))
    failed = {
        subject
        for subject, hint in hints.items()
        if any(
            (outcome := known.get(each.evaluation.fingerprint)) is not None and outcome.status == "failed"
            for each in (*looks[subject], hint)
        )
        and all(_failed_or_unknown(known.get(rung.evaluation.fingerprint)) for rung in trained[subject])
    }
    arms = [
        Arm(
            subject,
            tuple(
                _offer(rung, 0.0 if number else planning.costs.downloading(model).seconds)
                for number, rung in enumerate(trained[subject])
            ),
            (_offer(hints[subject], planning.costs.downloading(model).seconds),) if subject in hints else (),
            {"upstream_accuracy": model.upstream_accuracy, "num_params": model.num_params},
            tuple(
                _offer(look, 0.0 if number else planning.costs.downloading(model).seconds)
                for number, look in enumerate(looks.get(subject, ()))
            ),
        )
        for model in models
        if (subject := subject_of(model)) not in failed
    ]
    choice = Choice(
        strategy or _named(ranker, proxy, _seconds_allowed(planning, trained.values())),
        Problem(
            planning.train.subject.name.removesuffix(_TRAIN), arms, history, Problem.eta if race is None else race.eta
        ),
        {subject_of(alike[0]): tuple(model.name for model in alike) for alike in copies.values()},
    )
    return choice, planned, known


def _allowed(planning: Planning) -> float:
    """What evaluations may cost in all, in the unit of the budget."""
    budget = planning.budget
    return math.inf if budget is None or budget.amount is None or budget.unit == "pulls" else budget.amount


def _spent(planning: Planning, planned: PlannedEvaluation, outcome: Measurement | None = None) -> float:
    """What an evaluation takes of the budget, or took of it: known results count whoever paid for them."""
    if planning.budget is not None and planning.budget.unit == "epochs":
        return planned.epochs
    return planned.cost.seconds if outcome is None else outcome.cost_seconds


def _seconds_allowed(planning: Planning, trained: Collection[Sequence[PlannedEvaluation]]) -> float | None:
    """The seconds that choosing may take; None where no limit says."""
    budget, limits = planning.budget, [] if planning.within is None else [planning.within]
    if budget is not None and budget.amount is not None and budget.unit == "seconds":
        limits.append(budget.amount)
    if budget is not None and budget.amount is not None and budget.unit == "epochs" and trained:
        rungs = list(chain(*trained))
        seconds = sum(each.cost.seconds for each in rungs) / sum(each.epochs for each in rungs)
        limits.append(budget.amount * seconds)
    return min(limits, default=None)


def _proxy(planning: Planning, spec: RankerSpec, model: ModelRecord) -> PlannedEvaluation:
    """The score of a model by a proxy, at the cost of embedding with it too."""
    test = planning.test if spec.needs_test else None
    scoring = planning.scoring(ranker_named(spec.label), model, test)
    rows = scoring.evaluation.num_rows(planning.train.num_rows, test.num_rows if test else 0)
    return replace(scoring, cost=scoring.cost + planning.costs.embedding(model, rows))


def _race_of_looks(planning: Planning, spec: RankerSpec, models: int) -> RowRace | None:
    """How so many models are raced by a proxy; None where there are too few of them, or of rows."""
    test = planning.test if spec.needs_test else None
    return row_race(models, planning.train.num_rows, test.num_rows if test else 0, planning.train.num_classes)


def _looks(planning: Planning, spec: RankerSpec, model: ModelRecord, race: RowRace) -> list[PlannedEvaluation]:
    """The scores of a model by a proxy in all rounds of a race but the last, in which it has seen all rows."""
    test = planning.test if spec.needs_test else None
    looks, seen = list[PlannedEvaluation](), 0
    for rows, tested in list(zip(race.rows, race.tested, strict=True))[:-1]:
        scoring = planning.scoring(ranker_named(spec.label), model, test, rows, tested)
        looks.append(replace(scoring, cost=scoring.cost + planning.costs.embedding(model, rows + tested - seen)))
        seen = rows + tested
    return looks


def _failed_or_unknown(outcome: Measurement | None) -> bool:
    return outcome is None or outcome.status == "failed"


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
    return ranker_named(_FULL, epochs=_epochs(ranker))


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


def _trial_and_rest(epochs: int) -> tuple[int, ...]:
    """A fifth of the epochs, which tells models apart that proxies do not, and all of them."""
    return tuple(sorted({-(-epochs // 5), epochs}))


def _offer(planned: PlannedEvaluation, before: float) -> Offer:
    """An evaluation at its price, with what it takes before, as the model's download."""
    evaluation = planned.evaluation
    return Offer(kind_of(evaluation.method, evaluation.fidelity), evaluation, planned.cost.seconds + before)
