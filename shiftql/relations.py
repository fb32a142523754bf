"""The relations a query may select from, and their columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    FromClause,
    Integer,
    Select,
    String,
    case,
    cast,
    func,
    literal_column,
    null,
    union,
    union_all,
)
from sqlalchemy import select as sql_select

from shiftql.published import MEASURED, ORIGINS, TABLES
from storage.baselines import BASELINES
from storage.catalog import DATASET_MODALITIES, DATASET_TASKS, DatasetRecord, ModelRecord
from storage.names import fold
from storage.published import PublishedModelRecord, PublishedRecord
from storage.results import EvaluationRecord
from storage.watches import WatchHistoryRecord, WatchPlaceRecord


@dataclass(frozen=True)
class Relation:
    """One row per `row`. `columns` are what `*` shows, in order, each with what it says.

    `aliases` are further names of columns, `entities` what a column tells apart: "model.name" is the same thing
    under whatever label it is selected. `modality` restricts a view to models of one kind. `computed` columns can be
    named, but take work that the database cannot do, and `*` does not show them. Rows come by `order`; where a column
    tells their `origin`, origin by origin, see `precedence`.
    """

    name: str
    row: str
    table: FromClause
    columns: Mapping[str, str]
    aliases: Mapping[str, str]
    order: tuple[str, ...]
    entities: Mapping[str, str]
    modality: str | None = None
    origin: str | None = None
    computed: Mapping[str, str] = field(default_factory=dict)


_MODEL_COLUMNS = {
    "model_id": "number of the model in the catalog",
    "name": "name it was registered under",
    "source": "where it comes from: huggingface, tfhub, …",
    "modality": "what it takes: image or text",
    "architecture": "class of the network, as BertModel",
    "dtype": "type of its weights, as float32",
    "num_layers": "number of hidden layers",
    "num_params": "number of parameters",
    "size_bytes": "size of its weights in bytes",
    "embedding_dim": "length of the features it gives",
    "image_size": "side of the images it takes, in pixels",
    "token_length": "tokens it takes at most",
    "upstream_dataset": "what it was pre-trained on",
    "upstream_accuracy": "accuracy on what it was pre-trained on",
    "date_added": "when it was registered",
    "licence": "licence of the weights",
    "tags": "free words, separated by commas",
    "handle": "what a hub knows it by, as google/vit-base-patch16-224",
    "revision": "commit of the hub's files",
    "finetuned": "whether FINETUNE made it",
    "parent": "model that FINETUNE made it of",
    "trusted": "whether code in its files may run",
    "fingerprint": "hash of its files' content",
}
_MODEL_ALIASES = {"input": "modality", "params": "num_params", "up_acc": "upstream_accuracy", "model": "name"}
_DATASET_COLUMNS = {
    "dataset_id": "number of the dataset in the catalog",
    "name": "name it was registered under",
    "modality": f"what its rows are: {', '.join(DATASET_MODALITIES)}",
    "task": ", ".join(DATASET_TASKS),
    "type": "format it is read from",
    "num_rows": "number of rows",
    "num_classes": "number of classes",
    "fingerprint": "hash of its rows and labels",
    "date_added": "when it was registered",
}
_RESULT_COLUMNS = {
    "model_id": "number of the model, empty when it is not registered",
    "model_name": "name of the model, or what it was called when it was measured or published",
    "dataset_id": "number of the dataset trained on, empty when it is not registered and of published results",
    "dataset_name": "name of the dataset trained on",
    "method": "ranker that measured it, as linear or finetune",
    "metric": "what the value is",
    "value": "what was measured",
    "accuracy": "the value where it is an accuracy",
    "error": "1 - accuracy",
    "cost_seconds": "what measuring it took",
    "fidelity": "how much of a full evaluation it was, as JSON",
    "params": "arguments of the ranker, as JSON; of several the best result counts",
    "origin": f"{MEASURED} here, or the published table it is from, as vision_1k",
    "protocol": "how a published result came about and who published it, empty for what was measured here",
}
_HISTORY_COLUMNS = {
    "watch": "name of the watch",
    "recorded": "when it was asked, in UTC",
    "rank": "place in the ranking of that time",
    "model_id": "number of who had that place, empty when it is no model that is registered",
    "model_name": "who had that place",
    "score": "by what it had it",
    "metric": "what the score is",
    "first": "who has the first place from then on; who only equals the first does not take it",
    "changed": "whether another had the first place before",
    "reason": "why it was asked: created, registered, schedule or refreshed",
    "evaluated": "number of evaluations computed for it",
    "reused": "number of evaluations known before",
    "seconds": "what asking took",
}


def _models(name: str, row: str, modality: str | None = None) -> Relation:
    return Relation(
        name=name,
        row=row,
        table=ModelRecord.__table__,  # type: ignore[attr-defined]
        columns=_MODEL_COLUMNS,
        aliases=_MODEL_ALIASES,
        order=("name",),
        entities={column: f"model.{column}" for column in _MODEL_COLUMNS},
        modality=modality,
    )


def _datasets() -> Relation:
    return Relation(
        name="datasets",
        row="registered dataset split",
        table=DatasetRecord.__table__,  # type: ignore[attr-defined]
        columns=_DATASET_COLUMNS,
        aliases={"data_reader_id": "dataset_id", "reader_id": "dataset_id", "input": "modality"},
        order=("name",),
        entities={column: f"dataset.{column}" for column in _DATASET_COLUMNS},
        computed={
            "vec": "Task2Vec embedding of the dataset by the model that probe names",
            "probe": "model that embeds the datasets: WHERE probe = 'resnet-letters'",
        },
    )


def _benchmark_results() -> Relation:
    view = union_all(_measured(), _published()).subquery("benchmark_results")
    return Relation(
        name="benchmark_results",
        row="measured or published (model, dataset, method)",
        table=view,
        columns=_RESULT_COLUMNS,
        aliases={"data_reader_id": "dataset_id", "err": "error", "acc": "accuracy", "model": "model_name"},
        order=("model_name",),
        origin="origin",
        entities={
            **{column: f"result.{column}" for column in _RESULT_COLUMNS},
            "model_id": "model.model_id",
            "model_name": "model.name",
            "dataset_id": "dataset.dataset_id",
            "dataset_name": "dataset.name",
        },
    )


def _watch_history() -> Relation:
    answers = WatchHistoryRecord.__table__  # type: ignore[attr-defined]
    places = WatchPlaceRecord.__table__  # type: ignore[attr-defined]
    models = ModelRecord.__table__  # type: ignore[attr-defined]
    homes = {"model_id": models, **dict.fromkeys(("rank", "model_name", "score", "metric"), places)}
    columns = [homes.get(name, answers).c[name] for name in _HISTORY_COLUMNS]
    view = (
        sql_select(answers.c.history_id, *columns)
        .select_from(answers)
        .outerjoin(places, places.c.history_id == answers.c.history_id)
        .outerjoin(models, models.c.name == places.c.model_name)
        .subquery("watch_history")
    )
    return Relation(
        name="watch_history",
        row="place in an answer to a watch",
        table=view,
        columns=_HISTORY_COLUMNS,
        aliases={"model": "model_name"},
        order=("recorded", "history_id", "rank"),
        entities={
            **{column: f"history.{column}" for column in _HISTORY_COLUMNS},
            "model_id": "model.model_id",
            "model_name": "model.name",
        },
    )


def precedence(origin: ColumnElement[Any]) -> ColumnElement[Any]:
    """Where results of an origin come among others that they do not compare with: what was measured here is first."""
    return case({name: number for number, name in enumerate(ORIGINS)}, value=origin, else_=len(ORIGINS))


def _measured() -> Select[Any]:
    """What was measured here: of a model, a dataset, a method, a metric and a fidelity the best."""
    measured = EvaluationRecord.__table__  # type: ignore[attr-defined]
    model = ModelRecord.__table__  # type: ignore[attr-defined]
    dataset = DatasetRecord.__table__  # type: ignore[attr-defined]
    loss = case((measured.c.higher_is_better.is_(True), -measured.c.value), else_=measured.c.value)
    group = [measured.c[name] for name in ("model_fingerprint", "train_fingerprint", "method", "metric", "fidelity")]
    number = func.row_number().over(partition_by=group, order_by=[loss, measured.c.fingerprint])
    best = (
        sql_select(measured, number.label("number"))
        .where(measured.c.status == "completed", measured.c.model_fingerprint.not_in(BASELINES))
        .subquery("measured")
    )
    return (
        sql_select(
            model.c.model_id,
            func.coalesce(model.c.name, best.c.model_name).label("model_name"),
            dataset.c.dataset_id,
            func.coalesce(dataset.c.name, best.c.train_name).label("dataset_name"),
            *_figures(best),
            literal_column(f"'{MEASURED}'", String).label("origin"),
            cast(null(), String).label("protocol"),
        )
        .select_from(best)
        .outerjoin(model, model.c.fingerprint == best.c.model_fingerprint)
        .outerjoin(dataset, dataset.c.fingerprint == best.c.train_fingerprint)
        .where(best.c.number == 1)
    )


def _published() -> Select[Any]:
    """What is published, with the model that is registered under a spelling of its name, or has that for a handle.

    Its datasets are nobody's: what is registered under such a name has other rows, or is split in another way.
    """
    published = PublishedRecord.__table__  # type: ignore[attr-defined]
    spelling = PublishedModelRecord.__table__  # type: ignore[attr-defined]
    model = ModelRecord.__table__  # type: ignore[attr-defined]
    registered = union(
        *(
            sql_select(spelling.c.model_name.label("published"), model.c.model_id, model.c.name).join(
                model, known_as == spelling.c.spelling
            )
            for known_as in (model.c.name, model.c.handle)
        )
    ).subquery("registered")
    protocol = case(*((published.c.origin == table.name, table.protocol) for table in TABLES), else_=null())
    return (
        sql_select(
            registered.c.model_id,
            func.coalesce(registered.c.name, published.c.model_name).label("model_name"),
            cast(null(), Integer).label("dataset_id"),
            published.c.dataset_name,
            *_figures(published),
            published.c.origin,
            protocol.label("protocol"),
        )
        .select_from(published)
        .outerjoin(registered, registered.c.published == published.c.model_name)
    )


def _figures(results: FromClause) -> list[ColumnElement[Any]]:
    """What came out, of either kind of results."""
    accuracy = case((results.c.metric == "accuracy", results.c.value), else_=null())
    return [
        results.c.method,
        results.c.metric,
        results.c.value,
        accuracy.label("accuracy"),
        (literal_column("1.0", Float) - accuracy).label("error"),
        results.c.cost_seconds,
        results.c.fidelity,
        results.c.params,
    ]


_ALIASES = {
    "models": ("models",),
    "image_models": ("image_models",),
    "text_models": ("text_models",),
    "datasets": ("datasets", "readers", "data_readers"),
    "benchmark_results": ("benchmark_results",),
    "watch_history": ("watch_history",),
}

RELATIONS: Mapping[str, Relation] = {
    "models": _models("models", "model version in the pool"),
    "image_models": _models("image_models", "image model in the pool", "image"),
    "text_models": _models("text_models", "text model in the pool", "text"),
    "datasets": _datasets(),
    "benchmark_results": _benchmark_results(),
    "watch_history": _watch_history(),
}

# Every name a relation goes by.
RELATION_NAMES: Mapping[str, str] = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}


def relation_named(name: str) -> Relation | None:
    """The relation that goes by a name in any spelling, None where there is none."""
    wanted = fold(name)
    return next((RELATIONS[relation] for alias, relation in RELATION_NAMES.items() if fold(alias) == wanted), None)
