"""The relations a query may select from, and their columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Float, FromClause, case, func, literal_column, null
from sqlalchemy import select as sql_select

from storage.baselines import BASELINES
from storage.catalog import DATASET_MODALITIES, DATASET_TASKS, DatasetRecord, ModelRecord
from storage.names import fold
from storage.results import EvaluationRecord


@dataclass(frozen=True)
class Relation:
    """One row per `row`. `columns` are what `*` shows, in order, each with what it says.

    `aliases` are further names of columns, `entities` what a column tells apart: "model.name" is the same thing
    under whatever label it is selected. `modality` restricts a view to models of one kind. `computed` columns can be
    named, but take work that the database cannot do, and `*` does not show them.
    """

    name: str
    row: str
    table: FromClause
    columns: Mapping[str, str]
    aliases: Mapping[str, str]
    order: str
    entities: Mapping[str, str]
    modality: str | None = None
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
    "model_id": "number of the model, empty when it is no longer registered",
    "model_name": "name of the model when it was measured",
    "dataset_id": "number of the dataset trained on, empty when it is no longer registered",
    "dataset_name": "name of the dataset trained on",
    "method": "ranker that measured it, as linear or finetune",
    "metric": "what the value is",
    "value": "what was measured",
    "accuracy": "the value where it is an accuracy",
    "error": "1 - accuracy",
    "cost_seconds": "what measuring it took",
    "fidelity": "how much of a full evaluation it was, as JSON",
    "params": "arguments of the ranker, as JSON; of several the best result counts",
}


def _models(name: str, row: str, modality: str | None = None) -> Relation:
    return Relation(
        name=name,
        row=row,
        table=ModelRecord.__table__,  # type: ignore[attr-defined]
        columns=_MODEL_COLUMNS,
        aliases=_MODEL_ALIASES,
        order="name",
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
        order="name",
        entities={column: f"dataset.{column}" for column in _DATASET_COLUMNS},
        computed={
            "vec": "Task2Vec embedding of the dataset by the model that probe names",
            "probe": "model that embeds the datasets: WHERE probe = 'resnet-letters'",
        },
    )


def _benchmark_results() -> Relation:
    measured = EvaluationRecord.__table__  # type: ignore[attr-defined]
    model = ModelRecord.__table__  # type: ignore[attr-defined]
    dataset = DatasetRecord.__table__  # type: ignore[attr-defined]
    loss = case((measured.c.higher_is_better.is_(True), -measured.c.value), else_=measured.c.value)
    group = [measured.c[name] for name in ("model_fingerprint", "train_fingerprint", "method", "metric", "fidelity")]
    number = func.row_number().over(partition_by=group, order_by=[loss, measured.c.fingerprint])
    measured = (
        sql_select(measured, number.label("number"))
        .where(measured.c.status == "completed", measured.c.model_fingerprint.not_in(BASELINES))
        .subquery("measured")
    )
    accuracy = case((measured.c.metric == "accuracy", measured.c.value), else_=null())
    view = (
        sql_select(
            model.c.model_id,
            func.coalesce(model.c.name, measured.c.model_name).label("model_name"),
            dataset.c.dataset_id,
            func.coalesce(dataset.c.name, measured.c.train_name).label("dataset_name"),
            measured.c.method,
            measured.c.metric,
            measured.c.value,
            accuracy.label("accuracy"),
            (literal_column("1.0", Float) - accuracy).label("error"),
            measured.c.cost_seconds,
            measured.c.fidelity,
            measured.c.params,
        )
        .select_from(measured)
        .outerjoin(model, model.c.fingerprint == measured.c.model_fingerprint)
        .outerjoin(dataset, dataset.c.fingerprint == measured.c.train_fingerprint)
        .where(measured.c.number == 1)
        .subquery("benchmark_results")
    )
    return Relation(
        name="benchmark_results",
        row="measured (model, dataset, method)",
        table=view,
        columns=_RESULT_COLUMNS,
        aliases={"data_reader_id": "dataset_id", "err": "error", "acc": "accuracy", "model": "model_name"},
        order="model_name",
        entities={
            **{column: f"result.{column}" for column in _RESULT_COLUMNS},
            "model_id": "model.model_id",
            "model_name": "model.name",
            "dataset_id": "dataset.dataset_id",
            "dataset_name": "dataset.name",
        },
    )


_ALIASES = {
    "models": ("models",),
    "image_models": ("image_models",),
    "text_models": ("text_models",),
    "datasets": ("datasets", "readers", "data_readers"),
    "benchmark_results": ("benchmark_results",),
}

RELATIONS: Mapping[str, Relation] = {
    "models": _models("models", "model version in the pool"),
    "image_models": _models("image_models", "image model in the pool", "image"),
    "text_models": _models("text_models", "text model in the pool", "text"),
    "datasets": _datasets(),
    "benchmark_results": _benchmark_results(),
}

# Every name a relation goes by.
RELATION_NAMES: Mapping[str, str] = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}


def relation_named(name: str) -> Relation | None:
    """The relation that goes by a name in any spelling, None where there is none."""
    wanted = fold(name)
    return next((RELATIONS[relation] for alias, relation in RELATION_NAMES.items() if fold(alias) == wanted), None)
