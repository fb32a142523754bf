"""Plans: what will be done for a statement, as a tree of frozen nodes with their estimates.

A plan holds names, fingerprints and figures, no files, connections or threads. Rules (shiftql.rules) rewrite
it before it runs and never during.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TypeAlias

from shiftql.bound import BoundAverage, BoundDistances, BoundRanker, BoundRows
from shiftql.cost import Cost, worded_bytes
from shiftql.strategies.auto import Auto
from shiftql.strategies.base import Problem, Strategy
from shiftql.strategies.retried import Retried
from shiftql.strategies.rungs import went_through
from shiftql.strategies.specs import NamedStrategy
from storage.evaluations import Evaluation, Measurement, Subject
from storage.parts import Part, Spans
from storage.views import View

EmbeddingKey: TypeAlias = tuple[str, str, Spans, tuple[View, ...]]


@dataclass(frozen=True)
class Saving:
    """What a rule of that name took out of a plan: expected seconds, evaluations, and rows to embed.

    A rule that only puts things in another order saves none of these.
    """

    rule: str
    seconds: float = 0.0
    evaluations: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Waiting:
    """What is waited for a plan by the clock: until what it `starts` runs, and then for its steps, side by side.

    `starts` are the Prefect server and the processes that frameworks run in, by their names.
    """

    starts: tuple[str, ...]
    starting_seconds: float
    running_seconds: float

    @property
    def started(self) -> str:
        """What it starts, in words."""
        return " and ".join(dict.fromkeys("Prefect" if name in {"prefect", "server"} else name for name in self.starts))

    @property
    def seconds(self) -> float:
        return self.starting_seconds + self.running_seconds


@dataclass(frozen=True)
class PlanNode:
    """One step. `rows` is how many rows it yields; costs are of the step itself, without its children's.

    `savings` are those of the rules that a whole plan was rewritten by, in turn; they are told of its first step, as is
    what is waited for besides.
    """

    savings: tuple[Saving, ...] = field(default=(), kw_only=True, compare=False, repr=False)
    waiting: Waiting | None = field(default=None, kw_only=True, compare=False, repr=False)

    @property
    def description(self) -> str:
        """The step in one line, without figures."""
        raise NotImplementedError

    @property
    def rows(self) -> int | None:
        return None

    @property
    def cost(self) -> Cost:
        return Cost()

    @property
    def children(self) -> tuple[PlanNode, ...]:
        return ()

    def walk(self) -> Iterator[PlanNode]:
        """This node and all below it, top down."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def new_planned(self) -> tuple[PlannedEvaluation, ...]:
        """What has to be computed, rankers in turn, each once."""
        wanted = {
            planned.evaluation.fingerprint: planned
            for node in self.walk()
            if isinstance(node, Evaluate)
            for planned in node.evaluations
            if not planned.known
        }
        return tuple(wanted.values())

    @property
    def new_evaluations(self) -> tuple[Evaluation, ...]:
        """The evaluations of `new_planned`."""
        return tuple(planned.evaluation for planned in self.new_planned)

    @property
    def is_cut(self) -> bool:
        """Whether a budget leaves out some of it."""
        return any(isinstance(node, Evaluate) and node.left_out for node in self.walk())

    @property
    def all_embeddings(self) -> tuple[Embedding, ...]:
        """Every embedding some evaluation of this plan rests on, each once."""
        return tuple(
            dict.fromkeys(embedding for node in self.walk() if isinstance(node, Embed) for embedding in node.embeddings)
        )

    @property
    def drafts(self) -> Iterator[PlanNode]:
        """This plan, and every other that a rule may take for a part of it."""
        yield self
        for node in self.walk():
            if isinstance(node, Rank):
                for _, variant in node.variants:
                    yield from variant.drafts

    @property
    def total_cost(self) -> Cost:
        """The cost of this node and all below it."""
        return sum((node.cost for node in self.walk()), Cost())

    @property
    def seconds(self) -> float:
        """What is waited for the whole plan by the clock, as far as that was asked for, or else all work."""
        return self.total_cost.seconds if self.waiting is None else self.waiting.seconds

    @property
    def tasks(self) -> int:
        """How many evaluations are new, and parts of datasets that a model embeds rows of."""
        return len(self.new_evaluations) + sum(embedding.new_rows > 0 for embedding in self.all_embeddings)

    @property
    def kind_of_work(self) -> str:
        """What is most of the plan's work: "features", or what models do that are opened themselves."""
        methods = {evaluation.method for evaluation in self.new_evaluations}
        chosen = any(isinstance(node, Evaluate) and node.choice is not None for node in self.walk())
        return "finetune" if chosen or "finetune" in methods else "task2vec" if "task2vec" in methods else "features"


@dataclass(frozen=True)
class Query(PlanNode):
    """A question that the database answers alone, from what its inputs result in."""

    question: BoundRows | BoundAverage
    inputs: tuple[PlanNode, ...] = ()
    evaluates: tuple[Evaluate, ...] = ()
    download: Download | None = None

    @property
    def description(self) -> str:
        return " ".join(_query_parts(self.question))

    @property
    def children(self) -> tuple[PlanNode, ...]:
        return (*self.evaluates, *_those_of(self.download), *self.inputs)


def _query_parts(question: BoundRows | BoundAverage) -> Iterator[str]:
    yield f"Query {question.title}"
    if question.condition:
        yield f"where {question.condition}"
    if isinstance(question, BoundAverage):
        yield f"order by {question.function} of {question.metric} of {question.method}"
        yield f"over {', '.join(question.datasets)}"
        if question.descending:
            yield "worst first"
    else:
        if question.retrieve:
            yield f"retrieve {question.retrieve}"
        if question.order:
            yield f"order by {question.order}"
    if question.limit is not None:
        yield f"limit {question.limit}"


@dataclass(frozen=True)
class Combine(PlanNode):
    """A set operation of the results of two plans."""

    operator: str
    left: PlanNode
    right: PlanNode

    @property
    def description(self) -> str:
        return self.operator.capitalize()

    @property
    def children(self) -> tuple[PlanNode, ...]:
        return (self.left, self.right)


@dataclass(frozen=True)
class Distances(PlanNode):
    """Datasets in the order of their distance to a dataset, all embedded by one probe.

    `target` is the embedding of that dataset, the others are by the datasets' names.
    """

    question: BoundDistances
    target: Evaluation
    others: tuple[tuple[str, Evaluation], ...]
    evaluates: tuple[Evaluate, ...]
    inputs: tuple[PlanNode, ...] = ()
    download: Download | None = None

    @property
    def description(self) -> str:
        question = self.question
        condition = f" where {question.condition}" if question.condition else ""
        limit = "" if question.limit is None else f", limit {question.limit}"
        to = ", ".join(dataset.label for dataset in question.train)
        order = "farthest first" if question.descending else "nearest first"
        left_out = f", {_count(len(question.left_out), 'dataset')} left out" if question.left_out else ""
        return f"Rank {question.title}{condition} by {question.ranker.label} distance to {to}, {order}{limit}{left_out}"

    @property
    def rows(self) -> int:
        return len(self.others) if self.question.limit is None else min(len(self.others), self.question.limit)

    @property
    def children(self) -> tuple[PlanNode, ...]:
        return (*self.evaluates, *_those_of(self.download), *self.inputs)


@dataclass(frozen=True)
class Scan(PlanNode):
    """The models that meet the condition, from the catalog."""

    title: str
    condition: str | None
    found: int
    inputs: tuple[PlanNode, ...] = ()

    @property
    def description(self) -> str:
        condition = f" where {self.condition}" if self.condition else ""
        return f"Scan {self.title}{condition}"

    @property
    def rows(self) -> int:
        return self.found

    @property
    def children(self) -> tuple[PlanNode, ...]:
        return self.inputs


@dataclass(frozen=True)
class Split:
    """What is trained or tested on: the whole as one subject, and the parts of registered datasets it is made of.

    `is_held_out` says that it is the rows held out of a dataset that was named for training alone. `num_classes` is 0
    where labels are no classes.
    """

    subject: Subject
    parts: tuple[Part, ...]
    is_held_out: bool = False
    num_classes: int = 0

    @property
    def num_rows(self) -> int:
        return sum(part.num_rows for part in self.parts)


@dataclass(frozen=True)
class Embedding:
    """The forward passes of one model over rows of one dataset; `new_rows` of them lack a view of their features.

    Models of one `preparation` most likely prepare rows alike.
    """

    model: Subject
    source: str
    part: Part
    views: tuple[View, ...]
    new_rows: int
    opening_seconds: float
    row_cost: Cost
    fits_one_core: bool
    preparation: str = ""

    @property
    def key(self) -> EmbeddingKey:
        """What tells it apart in the feature store."""
        return self.model.fingerprint, self.part.dataset.fingerprint, self.part.spans, self.views


@dataclass(frozen=True)
class Embed(PlanNode):
    """Features of datasets by models, into the feature store."""

    embeddings: tuple[Embedding, ...]
    scan: Scan

    @property
    def description(self) -> str:
        datasets = list(dict.fromkeys(embedding.part.dataset.name for embedding in self.embeddings))
        models = len({embedding.model for embedding in self.embeddings})
        new = sum(embedding.new_rows for embedding in self.embeddings)
        stored = sum(embedding.part.num_rows for embedding in self.embeddings) - new
        return f"Embed {', '.join(datasets)} with {_count(models, 'model')}: {new} rows new, {stored} stored"

    @property
    def rows(self) -> int:
        return sum(embedding.part.num_rows for embedding in self.embeddings)

    @property
    def cost(self) -> Cost:
        # A model is opened once for all its datasets.
        opening = {e.model: e.opening_seconds for e in self.embeddings if e.new_rows}
        passes = sum((e.row_cost * e.new_rows for e in self.embeddings), Cost())
        return Cost(sum(opening.values())) + passes

    @property
    def children(self) -> tuple[PlanNode, ...]:
        return (self.scan,)


@dataclass(frozen=True)
class Weights:
    """The files of a model that a hub still has; `size_bytes` is None where nobody told it."""

    model: Subject
    size_bytes: int | None


@dataclass(frozen=True)
class Download(PlanNode):
    """The files of models, from their hubs to this machine."""

    weights: tuple[Weights, ...]
    bytes_per_second: float

    @property
    def description(self) -> str:
        unknown = sum(weights.size_bytes is None for weights in self.weights)
        beside = f" and {unknown} of unknown size" if unknown else ""
        return f"Download {_count(len(self.weights), 'model')}: {worded_bytes(self.cost.download_bytes)}{beside}"

    @property
    def cost(self) -> Cost:
        size = sum(weights.size_bytes or 0 for weights in self.weights)
        return Cost(size / self.bytes_per_second, download_bytes=size)


@dataclass(frozen=True)
class PlannedEvaluation:
    """One evaluation with its expected cost; `baseline` ones stand beside the ranking, not in it.

    It is of the first of `views`, or of the one that does best on the training rows. `parts` make up what it is
    trained on, where that differs between the evaluations of one plan. `round` is that of the halving it belongs to,
    and `epochs` are those of training that it adds. One that is `shared` is computed for an earlier step of the plan
    already. `source` is the model's where it is opened for this evaluation alone.
    """

    evaluation: Evaluation
    cost: Cost
    views: tuple[View, ...] = ()
    baseline: bool = False
    known: bool = False
    parts: tuple[Part, ...] = ()
    round: int = 0
    epochs: int = 0
    shared: bool = False
    source: str | None = None

    @property
    def is_new(self) -> bool:
        """Whether it has to be computed for this step."""
        return not (self.known or self.shared)


@dataclass(frozen=True)
class Round:
    """A round of halving: how many models are trained on how many rows, and what that is expected to cost.

    They are `tested` on so many, if not on all.
    """

    models: int
    rows: int
    cost: Cost
    tested: int | None = None

    @property
    def description(self) -> str:
        """The round in words."""
        tested = "" if self.tested is None else f" tested on {self.tested}"
        return f"{self.models} on {self.rows} rows{tested}"


@dataclass(frozen=True)
class Choice:
    """A strategy, and what it chooses from. `names` are those that each of its models is registered under.

    What it is told makes the same strategy of it at any time: it holds no state.
    """

    strategy: NamedStrategy
    problem: Problem
    names: Mapping[Subject, tuple[str, ...]]

    def after(self, outcomes: Mapping[str, Measurement]) -> Strategy:
        """The strategy that was told outcomes, by fingerprint, and what these show of shorter runs."""
        runs = [[offer.evaluation for offer in arm.rungs] for arm in self.problem.arms]
        strategy = Retried(self.strategy.make(self.problem), chain(*runs))
        strategy.tell({**dict(chain(*(went_through(rungs, outcomes) for rungs in runs))), **outcomes})
        return strategy

    @cached_property
    def seconds(self) -> float:
        """What it may take from the beginning: all that Auto may spend, or what others do if all models did alike."""
        strategy = self.strategy.make(self.problem)
        if isinstance(strategy, Auto):
            return strategy.budget
        offers = [offer for arm in self.problem.arms for offer in (*arm.rungs, *arm.hints)]
        price = {offer.evaluation.fingerprint: offer.seconds for offer in offers}
        total = 0.0
        while wanted := strategy.ask(len(offers)):
            total += sum(price[evaluation.fingerprint] for evaluation in wanted)
            strategy.tell({each.fingerprint: Measurement("completed", 0.0, value=_TYPICAL) for each in wanted})
        return total


# Any accuracy will do to follow a strategy by.
_TYPICAL = 0.5


@dataclass(frozen=True)
class Evaluate(PlanNode):
    """A ranker applied to every model. `below` is its Embed, a Scan, or None once it is shared with other rankers.

    Of models that are halved in `rounds`, `evaluations` has those of the rounds whose models are known already; of
    those that a strategy has the `choice` of, what is known of them and what it wants next. `left_out` counts those
    that a budget has nothing left for.
    """

    ranker: BoundRanker
    evaluations: tuple[PlannedEvaluation, ...]
    below: Embed | Scan | None
    rounds: tuple[Round, ...] = ()
    choice: Choice | None = None
    left_out: int = 0

    @property
    def description(self) -> str:
        beyond = f", {self.left_out} beyond the budget" if self.left_out else ""
        return f"{self._work}{beyond}"

    @property
    def _work(self) -> str:
        """What is done, in words."""
        if self.choice is not None:
            new, known = (sum(planned.known is is_known for planned in self.evaluations) for is_known in (False, True))
            arms = _count(len(self.choice.problem.arms), "model")
            history = _count(len(self.choice.problem.history.datasets), "other dataset")
            return f"Choose by {self.ranker.label} among {arms}, with results on {history}: {new} next, {known} known"
        if self.ranker.spec.kind == "catalog" and isinstance(self.below, Scan):
            return f"Order {_count(self.below.found, 'model')} by {self.ranker.label}, which opens none"
        # Copies of a model are evaluated once.
        known = len({planned.evaluation.fingerprint for planned in self.evaluations if planned.known})
        shared = len({planned.evaluation.fingerprint for planned in self.evaluations if planned.shared})
        new = len({planned.evaluation.fingerprint for planned in self.evaluations if planned.is_new})
        elsewhere = f", {shared} of another step" if shared else ""
        if self.ranker.spec.ranks == "datasets":
            datasets = _count(len({planned.evaluation.train for planned in self.evaluations}), "dataset")
            return f"Embed {datasets} by {self.ranker.label}: {new} new, {known} known{elsewhere}"
        baselines = sum(planned.baseline for planned in self.evaluations)
        models = len({planned.evaluation.model for planned in self.evaluations if not planned.baseline})
        beside = f" and {_count(baselines, 'baseline')}" if baselines else ""
        figures = f"{new} new, {known} known{elsewhere}"
        halved = ", ".join(each.description for each in self.rounds)
        in_rounds = f", in rounds ({halved})" if halved else ""
        return f"Evaluate {self.ranker.label} on {_count(models, 'model')}{beside}{in_rounds}: {figures}"

    @property
    def rows(self) -> int:
        return len(self.evaluations)

    @property
    def cost(self) -> Cost:
        if self.choice is not None and not any(planned.is_new for planned in self.evaluations):
            # It wants no more.
            return Cost()
        if self.choice is not None:
            spent = sum((planned.cost for planned in self.evaluations if planned.known), Cost())
            embedding = self.below.cost.seconds if self.below is not None else 0.0
            return Cost(max(0.0, self.choice.seconds - spent.seconds - embedding))
        planned = {planned.evaluation.fingerprint: planned.cost for planned in self.evaluations if planned.is_new}
        return sum((*planned.values(), *(each.cost for each in self.rounds_left)), Cost())

    @property
    def rounds_left(self) -> tuple[Round, ...]:
        """The rounds of halving whose models are not known yet."""
        return self.rounds[1 + max((planned.round for planned in self.evaluations), default=-1) :]

    @property
    def children(self) -> tuple[PlanNode, ...]:
        return () if self.below is None else (self.below,)


@dataclass(frozen=True)
class Rank(PlanNode):
    """Rankings of the models by a strategy, which decides while it runs what is evaluated next.

    `within` are the seconds of wall time that it may take, and `budget` those that its evaluations may cost in all.
    `unneeded` are the fingerprints of the models whose places nobody asks for. `variants` are other plans for the same
    question, by the rule that may take each.
    """

    strategy: str
    evaluates: tuple[Evaluate, ...]
    shared: Embed | Scan | None
    train: Split | None
    test: Split | None
    descending: bool
    limit: int | None
    refused: tuple[tuple[str, str], ...] = ()
    download: Download | None = None
    unneeded: frozenset[str] = frozenset()
    within: float | None = None
    budget: float | None = None
    variants: tuple[tuple[str, Rank], ...] = ()

    @property
    def description(self) -> str:
        labels = " and ".join(evaluate.ranker.spec.label for evaluate in self.evaluates)
        order = "worst first" if self.descending else "best first"
        limit = f", limit {self.limit}" if self.limit is not None else ""
        refused = f", {_count(len(self.refused), 'model')} refused" if self.refused else ""
        return f"Rank by {labels}, {order}{limit}, strategy {self.strategy}{refused}"

    @property
    def rows(self) -> int:
        first = self.evaluates[0]
        if first.choice is not None:
            models = len(first.choice.problem.arms)
        elif first.ranker.spec.kind == "catalog" and isinstance(first.below, Scan):
            models = first.below.found
        else:
            # Of a model that is halved there is an evaluation for every round it came to.
            models = len({planned.evaluation.model for planned in first.evaluations if not planned.baseline})
        return models if self.limit is None else min(models, self.limit)

    @property
    def children(self) -> tuple[PlanNode, ...]:
        return (*self.evaluates, *_those_of(self.shared, self.download))


@dataclass(frozen=True)
class Finetune(PlanNode):
    """Models fine-tuned, a step below for each combination of arguments; the best on validation is kept as `name`.

    `within` and `budget` are those of a Rank, `epochs` those that all trainings may take together.
    """

    evaluates: tuple[Evaluate, ...]
    train: Split
    name: str | None
    scan: Scan
    refused: tuple[tuple[str, str], ...] = ()
    download: Download | None = None
    within: float | None = None
    budget: float | None = None
    epochs: float | None = None

    @property
    def description(self) -> str:
        models = _count(len({p.evaluation.model for evaluate in self.evaluates for p in evaluate.evaluations}), "model")
        tries = f", {len(self.evaluates)} combinations of arguments each" if len(self.evaluates) > 1 else ""
        refused = f", {_count(len(self.refused), 'model')} refused" if self.refused else ""
        under = f", the best kept as {self.name}" if self.name else ""
        return f"Fine-tune {models} on {self.train.subject.name}{tries}{''.join(self._limits)}{under}{refused}"

    @property
    def _limits(self) -> Iterator[str]:
        if self.within is not None:
            yield f", within {self.within:g} s"
        if self.budget is not None:
            yield f", budget {self.budget:g} seconds"
        if self.epochs is not None:
            yield f", budget {self.epochs:g} epochs"

    @property
    def rows(self) -> int:
        # A second try makes no row of its own.
        return sum(len({p.evaluation.model for p in evaluate.evaluations}) for evaluate in self.evaluates)

    @property
    def children(self) -> tuple[PlanNode, ...]:
        return (*self.evaluates, *_those_of(self.download), self.scan)


# What takes evaluations, and is driven by a flow.
Step: TypeAlias = Rank | Distances | Query | Finetune


def _those_of(*nodes: PlanNode | None) -> tuple[PlanNode, ...]:
    return tuple(node for node in nodes if node is not None)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
