"""What models brought on other datasets, for a live question: own results, and the published ones beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from sqlalchemy import select
from sqlmodel import Session

from shiftql.published import TABLES, keep_published
from shiftql.strategies.base import History
from storage.baselines import BASELINES, MAJORITY_METHOD
from storage.catalog import ModelRecord
from storage.database import Database
from storage.evaluations import Subject
from storage.published import PublishedModelRecord, PublishedRecord
from storage.results import EvaluationRecord
from storage.uncollected import uncollected

if TYPE_CHECKING:
    import numpy as np

# The method of full evaluations, and what they are called in a history.
FULL = "finetune"
# Methods whose values say nothing of how good a model is.
_NO_SCORES = ("task2vec", MAJORITY_METHOD)
# A table that holds the results of another once more, rounded, and some of its own; the exact one comes first.
_EXACT, _ROUNDED = "curves_nlp", "two_phase_nlp"
# Of a fingerprint, what tells two models of one name apart.
_SHORT = 8


def history_of(database: Database, models: Sequence[ModelRecord], target: Collection[Subject]) -> History:
    """What is known of the models, and of others beside them, on datasets other than the target.

    `target` are the splits that are trained and tested on and the registered datasets their rows are from: they, what
    was derived or held out from them, and other versions of them by their names are no history.

    A dataset measured here is a column by its name, a published one by its table and name, as vision_1k/caltech101.
    A column has at least one of `models`, and a row at least one cell. Own results are found by the content of a model,
    published ones by its name or handle. Kinds are named by `kind_of`; `finetune(epochs=2)` is also what fine-tunes
    that went on validated at then. Values are utilities. Of several own results of a model on a dataset the best of
    the newest version counts; of a dataset's several contents, test splits and metrics the one with the most models.
    What is reached counts as tested: both live and published fine-tunes are told by their accuracy on the test split.
    """
    candidates = _Candidates(models)
    table = _Table()
    keep_published(database)

    def read(session: Session) -> None:
        _add_own(table, session, candidates, target)
        _add_published(table, session, candidates)

    with uncollected():
        database.do(read)
        return table.history(candidates.names)


def kind_of(method: str, fidelity: Mapping[str, Any]) -> str:
    """What a history calls evaluations by a method at a fidelity.

    >>> kind_of("linear", {}), kind_of("finetune", {"epochs": 2})
    ('linear', 'finetune(epochs=2)')
    """
    told = ", ".join(f"{name}={value}" for name, value in sorted(fidelity.items()))
    return f"{method}({told})" if told else method


class _Candidates:
    """The models to choose from: their names by what results know them by."""

    def __init__(self, models: Sequence[ModelRecord]) -> None:
        self.names = {model.name for model in models}
        self.modalities = {model.modality for model in models}
        self.by_content: dict[str, list[str]] = {}
        self.by_spelling: dict[str, list[str]] = {}
        for model in models:
            self.by_content.setdefault(model.fingerprint, []).append(model.name)
            for spelling in {model.name, model.handle or model.name}:
                self.by_spelling.setdefault(spelling, []).append(model.name)


@dataclass
class _Table:
    """Values with seconds, where these are known, by kind, column and model."""

    cells: dict[str, dict[str, dict[str, tuple[float, float | None]]]] = field(default_factory=dict)

    def column(self, kind: str, name: str) -> dict[str, tuple[float, float | None]]:
        """Where to put the cells of a column."""
        return self.cells.setdefault(kind, {}).setdefault(name, {})

    def history(self, candidates: set[str]) -> History:
        """The columns that hold a candidate as arrays."""
        import numpy as np

        useful = {
            name
            for columns in self.cells.values()
            for name, cells in columns.items()
            if not candidates.isdisjoint(cells)
        }
        datasets = sorted(useful)
        kept = [(kind, name, cells) for kind, by in self.cells.items() for name, cells in by.items() if name in useful]
        models = sorted({model for _, _, cells in kept for model in cells})
        rows = {name: number for number, name in enumerate(models)}
        columns = {name: number for number, name in enumerate(datasets)}

        def empty() -> np.ndarray:
            return np.full((len(models), len(datasets)), np.nan)

        seen = {kind: empty() for kind, _, _ in kept}
        seconds = {kind: empty() for kind in seen}
        for kind, name, cells in kept:
            places = [rows[model] for model in cells]
            told = np.array(list(cells.values()), dtype=float)
            seen[kind][places, columns[name]] = told[:, 0]
            seconds[kind][places, columns[name]] = told[:, 1]
        reached = seen.get(FULL, empty())
        return History(tuple(models), tuple(datasets), reached, reached, seen, seconds)


# --- own results ------------------------------------------------------------------------------------------------------


class _Result(NamedTuple):
    """What counts of a completed evaluation."""

    model_fingerprint: str
    model_name: str
    train_fingerprint: str
    train_name: str
    test_fingerprint: str | None
    method: str
    version: str
    fidelity: str
    metric: str
    value: float
    higher_is_better: bool | None
    cost_seconds: float | None
    curve: str

    @property
    def utility(self) -> float:
        return self.value if self.higher_is_better is not False else -self.value


def _add_own(table: _Table, session: Session, candidates: _Candidates, target: Collection[Subject]) -> None:
    results = _own_results(session, target)
    # A dataset, and a model that is no candidate, goes by its latest name.
    datasets = {result.train_fingerprint: result.train_name for result in results}
    names = _names_by_content(results, candidates)
    grouped: dict[tuple[str, str], dict[Hashable, dict[str, list[_Result]]]] = {}
    for result in results:
        place = _kind(result.method, result.fidelity), datasets[result.train_fingerprint]
        protocol = result.train_fingerprint, result.test_fingerprint, result.metric
        protocols = grouped.setdefault(place, {})
        protocols.setdefault(protocol, {}).setdefault(result.model_fingerprint, []).append(result)
    # What was evaluated as a rung of its own counts before what a full run went through.
    for (kind, column), protocols in sorted(grouped.items(), key=lambda each: each[0][0] != FULL):
        by_model = max(
            reversed(protocols.values()),
            key=lambda each: (sum(content in candidates.by_content for content in each), len(each)),
        )
        cells = table.column(kind, column)
        for content, measured in by_model.items():
            best = _best(measured)
            for name in names[content]:
                cells[name] = best.utility, best.cost_seconds
                if kind == FULL and best.curve != "[]":
                    _add_epochs(table, column, name, best.curve, best.cost_seconds)


def _best(measured: Sequence[_Result]) -> _Result:
    """The best by the newest version of the method."""
    if len(measured) == 1:
        return measured[0]
    newest = max(_version(result.version) for result in measured)
    return max((each for each in measured if _version(each.version) == newest), key=lambda each: each.utility)


def _own_results(session: Session, target: Collection[Subject]) -> list[_Result]:
    """Completed results that say how good a model is on another dataset than the target, the latest last."""
    columns = EvaluationRecord.__table__.c  # type: ignore[attr-defined]
    contents = [subject.fingerprint for subject in target]
    found = session.connection().execute(
        select(*(columns[name] for name in _Result._fields))
        .where(columns.status == "completed", columns.value.is_not(None))
        .where(columns.method.not_in(_NO_SCORES), columns.model_fingerprint.not_in(BASELINES))
        .where(columns.train_fingerprint.not_in(contents))
        .where(columns.test_fingerprint.is_(None) | columns.test_fingerprint.not_in(contents))
        .order_by(columns.recorded, columns.fingerprint)
    )
    results = [_Result._make(row) for row in found.all()]
    kin = {name for name in {result.train_name for result in results} if _is_kin(name, target)}
    return [result for result in results if result.train_name not in kin]


def _is_kin(name: str, target: Iterable[Subject]) -> bool:
    """Whether a dataset's name, also one made up for a derived dataset, has that of the target in it.

    >>> target = [Subject("digits", "")]
    >>> [_is_kin(name, target) for name in ("digits (held out)", "[digits, letters]", "letters", "digits-2")]
    [True, True, False, False]
    """
    return any(re.search(rf"(?<![^\[( ,]){re.escape(each.name)}(?![^\]) ,])", name) for each in target)


def _names_by_content(results: Sequence[_Result], candidates: _Candidates) -> dict[str, Sequence[str]]:
    """The rows of each model: the names of the candidates it is, or a name that no other model has."""
    names: dict[str, Sequence[str]] = dict(candidates.by_content)
    taken = set(candidates.names)
    for content, name in {result.model_fingerprint: result.model_name for result in results}.items():
        if content not in names:
            own = f"{name} ({content[:_SHORT]})" if name in taken else name
            taken.add(own)
            names[content] = (own,)
    return names


@cache
def _kind(method: str, fidelity: str) -> str:
    return kind_of(method, json.loads(fidelity))


@cache
def _version(written: str) -> tuple[int, ...]:
    """A version of a method as it is compared: by the numbers in it."""
    return tuple(map(int, re.findall(r"\d+", written)))


def _add_epochs(table: _Table, column: str, model: str, curve: str, seconds: float | None) -> None:
    """What a full fine-tune showed after each epoch before the last, as runs that ended there; `curve` is JSON.

    A run shows the best so far: its weights are those of the best epoch.
    """
    accuracies = list(accumulate(orjson.loads(curve), max))
    for epochs, accuracy in enumerate(accuracies[:-1], start=1):
        share = None if seconds is None else seconds * epochs / len(accuracies)
        table.column(_after(epochs), column)[model] = accuracy, share


@cache
def _after(epochs: int) -> str:
    return kind_of(FULL, {"epochs": epochs})


# --- published results ------------------------------------------------------------------------------------------------


def _add_published(table: _Table, session: Session, candidates: _Candidates) -> None:
    spelling = PublishedModelRecord.__table__.c  # type: ignore[attr-defined]
    result = PublishedRecord.__table__.c  # type: ignore[attr-defined]
    names: dict[str, dict[str, None]] = {}
    for written, model in session.connection().execute(select(spelling.spelling, spelling.model_name)):
        names.setdefault(model, {}).update(dict.fromkeys(candidates.by_spelling.get(written, ())))
    if not any(names.values()):
        return
    origins = [each.name for each in TABLES if each.modality in candidates.modalities]
    rows = session.connection().execute(
        select(result.origin, result.dataset_name, result.model_name, result.value, result.cost_seconds, result.curve)
        .where(result.method == FULL, result.origin.in_(origins))
        .order_by(result.origin, result.dataset_name, result.model_name)
    )
    exact: set[str] = set()
    for origin, dataset, model, value, seconds, curve in rows.all():
        if origin == _EXACT:
            exact.add(dataset)
        if origin == _ROUNDED and dataset in exact:
            continue
        column = f"{origin}/{dataset}"
        cells = table.column(FULL, column)
        for name in names[model] or (model,):
            cells[name] = value, seconds
            if curve != "[]":
                _add_epochs(table, column, name, curve, seconds)
