"""The commands `shiftql models …` and `shiftql datasets …`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from shiftql.options import format_option

if TYPE_CHECKING:
    from storage.catalog import DatasetRecord, ModelRecord

STARTERS = ("text", "image")
MODEL_COLUMNS = (
    "name",
    "modality",
    "architecture",
    "num_params",
    "upstream_dataset",
    "upstream_accuracy",
    "source",
    "handle",
    "is_local",
)
DATASET_COLUMNS = ("name", "modality", "task", "num_rows", "num_classes", "type", "path")
NO_DATASETS = "there are no datasets yet: 'shiftql datasets add NAME PATH' registers one"


@click.group()
def models() -> None:
    """The pool: list, show, add and remove models."""


@models.command("list")
@format_option
def list_models(format: str) -> None:
    """All models, by name."""
    from shiftql.asking import NO_MODELS, surface
    from shiftql.engine import Session
    from shiftql.render import render_records

    records = [_model_row(model) for model in Session().catalog.models()]
    click.echo(render_records(records, MODEL_COLUMNS, format, **surface()))
    if not records:
        click.echo(NO_MODELS, err=True)


@models.command("show")
@click.argument("name")
@format_option
def show_model(name: str, format: str) -> None:
    """All that is known of a model."""
    from shiftql.asking import surface
    from shiftql.engine import Session
    from shiftql.render import render_record

    click.echo(render_record(_model_row(Session().catalog.model(name)), format, **surface()))


@models.command("add")
@click.argument("name", required=False)
@click.argument("location", required=False)
@click.option("--starter", type=click.Choice(STARTERS), help="Well-known hub models for such inputs, in place of one.")
@click.option("--source", help="huggingface, tfhub, torch or keras (default: told by the files).")
@click.option("--trust", is_flag=True, help="The model may run code of its own.")
@click.option("--upstream-dataset", metavar="DATASET", help="What the model was trained on.")
@click.option("--upstream-accuracy", metavar="ACCURACY", type=click.FloatRange(0, 1), help="How well it did there.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="May be given several times.")
@click.option("--licence", help="For example apache-2.0.")
def add_model(
    name: str | None,
    location: str | None,
    starter: str | None,
    source: str | None,
    trust: bool,
    tags: tuple[str, ...],
    **told: Any,
) -> None:
    """Register the model in a directory or file, or of a hub id, handle or entry point, under a name; or update it.

    A hub id is written owner/name or owner/name@revision; its weights are downloaded when they are first needed.
    REGISTER MODELS FROM '…' registers many.
    """
    from shiftql.engine import Session
    from shiftql.tables import abbreviate
    from shiftql.terminal import shown_progress

    columns = {column: value for column, value in told.items() if value is not None}
    if starter is not None:
        if name or source or trust or tags or columns:
            raise click.UsageError("--starter stands alone")
        _add_starters(starter)
        return
    if not name or not location:
        raise click.UsageError("write a name and a location, or --starter text or --starter image")
    if trust:
        columns["trusted"] = True
    if tags:
        columns["tags"] = ",".join(tags)
    session = Session()
    is_new = all(model.name != name for model in session.catalog.models())
    with shown_progress():
        model = session.add_model(name, location, source=source, columns=columns)
    size = "" if model.num_params is None else f", {abbreviate(model.num_params)} parameters"
    architecture = "" if model.architecture is None else f", {model.architecture}"
    click.echo(
        f"{'added' if is_new else 'updated'} {name}: {model.modality} model{architecture}{size}, source {model.source}"
    )


def _add_starters(modality: str) -> None:
    from shiftql.engine import Session

    rows = Session().add_starters(modality).rows
    added = sum(row["status"] == "added" for row in rows)
    click.echo(
        f"{added} {modality} models are added and {len(rows) - added} updated; "
        "their weights are downloaded when a question first needs them"
    )


@models.command("remove")
@click.argument("name")
def remove_model(name: str) -> None:
    """Forget a model; its files and measured results stay."""
    from shiftql.engine import Session

    Session().catalog.remove_model(name)
    click.echo(f"removed {name}; its files and measured results stay")


@click.group()
def datasets() -> None:
    """Dataset splits: list, show, add and remove them."""


@datasets.command("list")
@format_option
def list_datasets(format: str) -> None:
    """All dataset splits, by name."""
    from shiftql.asking import surface
    from shiftql.engine import Session
    from shiftql.render import render_records

    records = [_dataset_row(dataset) for dataset in Session().catalog.datasets()]
    click.echo(render_records(records, DATASET_COLUMNS, format, **surface()))
    if not records:
        click.echo(NO_DATASETS, err=True)


@datasets.command("show")
@click.argument("name")
@format_option
def show_dataset(name: str, format: str) -> None:
    """All that is known of a dataset split."""
    from shiftql.asking import surface
    from shiftql.engine import Session
    from shiftql.render import render_record

    click.echo(render_record(_dataset_row(Session().catalog.dataset(name)), format, **surface()))


@datasets.command("add")
@click.argument("name")
@click.argument("path")
@click.option("--reader", help="csv, parquet, image_folder, … (default: told by the files).")
@click.option("--text-column", metavar="COLUMN", help="The column of sentences (default: told by names and values).")
@click.option("--label-column", metavar="COLUMN", help="The column of labels (default: told by names and values).")
@click.option("--task", help="What is to be predicted, for example regression (default: told by the labels).")
@click.option("--split", help="Which split, and which of its rows: test, or train[:80%] (default: train).")
@click.option("--option", "pairs", metavar="KEY=VALUE", multiple=True, help="Any option of docs/datasets.md.")
def add_dataset(name: str, path: str, reader: str | None, pairs: tuple[str, ...], **columns: str | None) -> None:
    """Register a dataset split under a name, or update it: in a file or folder, hf://OWNER/NAME, or sklearn:NAME."""
    from shiftql.engine import Session
    from shiftql.terminal import shown_progress

    options = {column: value for column, value in columns.items() if value is not None}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{pair!r} is not of the form key=value", param_hint="'--option'")
        options[key] = value
    session = Session()
    is_new = all(dataset.name != name for dataset in session.catalog.datasets())
    with shown_progress():
        dataset = session.add_dataset(name, path, reader=reader, options=options)
    click.echo(
        f"{'added' if is_new else 'updated'} {name}: {dataset.num_rows} {dataset.modality} rows for {dataset.task}"
        f"{_classes(json.loads(dataset.classes))}, reader {dataset.type}"
    )


@datasets.command("remove")
@click.argument("name")
def remove_dataset(name: str) -> None:
    """Forget a dataset split; its files and measured results stay."""
    from shiftql.engine import Session

    Session().catalog.remove_dataset(name)
    click.echo(f"removed {name}; its files and measured results stay")


def _dataset_row(dataset: DatasetRecord) -> dict[str, Any]:
    return {**_columns(dataset), "options": dataset.reader_options, "classes": json.loads(dataset.classes)}


def _columns(record: ModelRecord | DatasetRecord) -> dict[str, Any]:
    """What the catalog holds of a record, in the order it declares; the signature is its own business."""
    return {column: getattr(record, column) for column in type(record).model_fields if column != "signature"}


def _model_row(model: ModelRecord) -> dict[str, Any]:
    lineage = json.loads(model.lineage) if model.lineage else None
    return {**_columns(model), "is_local": model.is_local, "lineage": lineage}


def _classes(classes: list[str], limit: int = 5) -> str:
    some = ", ".join(classes[:limit]) + (", …" if len(classes) > limit else "")
    return f", {len(classes)} classes ({some})" if classes else ""
