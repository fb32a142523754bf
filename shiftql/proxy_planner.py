"""Planning proxies: every model by a ranker of features, on all training rows or in rounds of halving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from shiftql.bound import BoundRanker
from shiftql.cost import Cost
from shiftql.plan import Embed, Evaluate, PlannedEvaluation, Round, Split
from shiftql.planning import Planning
from shiftql.strategies.successive_halving import Halving, RowRace
from storage.baselines import MAJORITY, MAJORITY_METHOD, MAJORITY_VERSION, RAW, raw_subject
from storage.catalog import ModelRecord


def plan_proxies(planning: Planning, ranker: BoundRanker, modality: str, race: RowRace | None) -> Evaluate:
    """Every model by a proxy, with the baselines beside them."""
    test = planning.test if ranker.spec.needs_test else None
    raw = ModelRecord(
        name=RAW,
        source=RAW,
        path="",
        fingerprint=raw_subject(modality).fingerprint,
        signature="",
        modality=modality,
        num_params=0,
    )
    # What rests on the probabilities of a head says nothing of pixels.
    baselines = [] if ranker.spec.needs_source_probabilities else [raw]
    # Copies of a model are embedded with under the name of the first.
    models: dict[str, ModelRecord] = {}
    for model in (*planning.models, raw):
        models.setdefault(model.fingerprint, model)
    evaluations, rounds = _in_rounds(planning, ranker, test, race)
    evaluations += [planning.scoring(ranker, model, test) for model in baselines]
    # Of a model the last round has all the rows of those before.
    last = {planned.evaluation.model.fingerprint: planned for planned in evaluations}
    embeddings = [each for content, planned in last.items() for each in planning.embeddings(models[content], planned)]
    # What sees no test split has no share of right answers.
    if test is not None:
        metric = {name: value for name, value in ranker.params.items() if name == "metric"}
        majority = planning.evaluation(MAJORITY, test, MAJORITY_METHOD, MAJORITY_VERSION, metric)
        evaluations.append(PlannedEvaluation(majority, planning.costs.scoring(MAJORITY_METHOD, 0), baseline=True))
    return Evaluate(ranker, tuple(evaluations), Embed(tuple(embeddings), planning.scan), rounds)


def _in_rounds(
    planning: Planning, ranker: BoundRanker, test: Split | None, race: RowRace | None
) -> tuple[list[PlannedEvaluation], tuple[Round, ...]]:
    """The evaluations of all models; where they are halved, of the rounds whose models are known, and all rounds.

    The strategy is told whatever is known until it asks for what is not.
    """
    models = planning.models
    if race is None:
        return [planning.scoring(ranker, model, test) for model in models], ()
    # Copies of a model are one arm, and ranked beside each other.
    copies: dict[str, list[ModelRecord]] = {}
    for model in models:
        copies.setdefault(model.fingerprint, []).append(model)
    planned: dict[str, list[PlannedEvaluation]] = {}
    arms = []
    for alike in copies.values():
        rounds = [
            [planning.scoring(ranker, model, test, rows, tested, number) for model in alike]
            for number, (rows, tested) in enumerate(zip(race.rows, race.tested, strict=True))
        ]
        arms.append([first for first, *_ in rounds])
        planned |= {each[0].evaluation.fingerprint: each for each in rounds}
    strategy = Halving([[each.evaluation for each in arm] for arm in arms], race.arms)
    while wanted := strategy.ask(len(arms)):
        strategy.tell(planning.stores.outcomes(wanted))
    reached = chain.from_iterable(planned[each.fingerprint] for each in chain.from_iterable(strategy.rounds))
    first = [alike[0] for alike in copies.values()]
    return list(reached), tuple(_rounds(planning, first, arms, race))


def _rounds(
    planning: Planning, models: Sequence[ModelRecord], arms: Sequence[Sequence[PlannedEvaluation]], race: RowRace
) -> Iterator[Round]:
    """The rounds, each at the mean cost of all models, with the rows that the one before had not seen."""
    seen = 0
    for number, (size, rows, tested) in enumerate(zip(race.arms, race.rows, race.tested, strict=True)):
        new = rows + tested - seen
        passes = (planning.costs.embedding(model, new) for model in models)
        total = sum((*passes, *(arm[number].cost for arm in arms)), Cost())
        cost = total * (size / max(1, len(models)))
        yield Round(size, rows, cost, tested if tested < race.tested[-1] else None)
        seen = rows + tested
