"""Plans: what will be done for a statement, as a tree of frozen nodes with their estimates.

A plan holds names, fingerprints and figures, no files, connections or threads. Rules (shiftql.rules) rewrite
it before it runs and never during.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shiftql.binder import BoundRanker, BoundRows
from shiftql.cost import Cost
from storage.evaluations import Evaluation, Subject


@dataclass(frozen=True)
class PlanNode:
    """One step. `rows` is how many rows it yields; costs are of the step itself, without its children's."""

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
    def total_cost(self) -> Cost:
        """The cost of this node and all below it."""
        return sum((node.cost for node in self.walk()), Cost())


@dataclass(frozen=True)
class Query(PlanNode):
    """A question that the database answers alone."""

    question: BoundRows

    @property
    def description(self) -> str:
        parts = [f"Query {self.question.relation}"]
        if self.question.condition:
            parts.append(f"where {self.question.condition}")
        if self.question.order:
            parts.append(f"order by {self.question.order}")
        if self.question.limit is not None:
            parts.append(f"limit {self.question.limit}")
        return " ".join(parts)


@dataclass(frozen=True)
class Scan(PlanNode):
    """The models that meet the condition, from the catalog."""

    modality: str
    condition: str | None
    found: int

    @property
    def description(self) -> str:
        condition = f" where {self.condition}" if self.condition else ""
        return f"Scan {self.modality} models{condition}"

    @property
    def rows(self) -> int:
        return self.found


@dataclass(frozen=True)
class Embedding:
    """The forward passes of one model over one dataset; `new_rows` of them are not stored yet."""

    model: Subject
    source: str
    dataset: Subject
    rows: int
    new_rows: int
    opening_seconds: float
    row_cost: Cost
    fits_one_core: bool


@dataclass(frozen=True)
class Embed(PlanNode):
    """Features of datasets by models, into the feature store."""

    embeddings: tuple[Embedding, ...]
    scan: Scan

    @property
    def description(self) -> str:
        datasets = list(dict.fromkeys(embedding.dataset.name for embedding in self.embeddings))
        models = len({embedding.model for embedding in self.embeddings})
        new = sum(embedding.new_rows for embedding in self.embeddings)
        stored = sum(embedding.rows for embedding in self.embeddings) - new
        return f"Embed {', '.join(datasets)} with {_count(models, 'model')}: {new} rows new, {stored} stored"

    @property
    def rows(self) -> int:
        return sum(embedding.rows for embedding in self.embeddings)

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
class PlannedEvaluation:
    """One evaluation with its expected cost; `baseline` ones stand beside the ranking, not in it."""

    evaluation: Evaluation
    cost: Cost
    baseline: bool = False
    known: bool = False


@dataclass(frozen=True)
class Evaluate(PlanNode):
    """A ranker applied to every model. `below` is its Embed, a Scan, or None once it is shared with other rankers."""

    ranker: BoundRanker
    evaluations: tuple[PlannedEvaluation, ...]
    below: Embed | Scan | None

    @property
    def description(self) -> str:
        known = sum(planned.known for planned in self.evaluations)
        baselines = sum(planned.baseline for planned in self.evaluations)
        models = len(self.evaluations) - baselines
        beside = f" and {_count(baselines, 'baseline')}" if baselines else ""
        figures = f"{len(self.evaluations) - known} new, {known} known"
        return f"Evaluate {self.ranker.label} on {_count(models, 'model')}{beside}: {figures}"

    @property
    def rows(self) -> int:
        return len(self.evaluations)

    @property
    def cost(self) -> Cost:
        return sum((planned.cost for planned in self.evaluations if not planned.known), Cost())

    @property
    def children(self) -> tuple[PlanNode, ...]:
        return () if self.below is None else (self.below,)


@dataclass(frozen=True)
class Rank(PlanNode):
    """Rankings of the models by a strategy, which decides while it runs what is evaluated next."""

    strategy: str
    evaluates: tuple[Evaluate, ...]
    shared: Embed | Scan | None
    descending: bool
    limit: int | None
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def description(self) -> str:
        labels = " and ".join(evaluate.ranker.spec.label for evaluate in self.evaluates)
        order = "worst first" if self.descending else "best first"
        limit = f", limit {self.limit}" if self.limit is not None else ""
        refused = f", {_count(len(self.refused), 'model')} refused" if self.refused else ""
        return f"Rank by {labels}, {order}{limit}, strategy {self.strategy}{refused}"

    @property
    def rows(self) -> int:
        models = sum(not planned.baseline for planned in self.evaluates[0].evaluations)
        return models if self.limit is None else min(models, self.limit)

    @property
    def children(self) -> tuple[PlanNode, ...]:
        shared = () if self.shared is None else (self.shared,)
        return (*self.evaluates, *shared)

    @property
    def new_evaluations(self) -> tuple[Evaluation, ...]:
        """What has to be computed, rankers in turn."""
        return tuple(
            planned.evaluation for evaluate in self.evaluates for planned in evaluate.evaluations if not planned.known
        )

    @property
    def embeddings(self) -> tuple[Embedding, ...]:
        """Every embedding some evaluation of this plan rests on, each once."""
        return tuple(
            dict.fromkeys(embedding for node in self.walk() if isinstance(node, Embed) for embedding in node.embeddings)
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
