"""The catalog: which models and dataset splits there are, and what is known of them without running them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, func
from sqlmodel import Field, SQLModel, col, select

from storage.database import Database
from storage.errors import StoreError
from storage.names import did_you_mean

# Columns of a model that its files do not tell.
TOLD: Mapping[str, type] = {
    "upstream_dataset": str,
    "upstream_accuracy": float,
    "licence": str,
    "tags": str,
    "finetuned": bool,
    "trusted": bool,
}

DATASET_MODALITIES = ("image", "tabular", "text")
DATASET_TASKS = (
    "classification",
    "pair_classification",
    "token_classification",
    "multilabel_classification",
    "regression",
)

# SQLite's integers are wide enough.
_SIZE = BigInteger().with_variant(Integer(), "sqlite")


class ModelRecord(SQLModel, table=True):
    """One version of a model in the pool. `fingerprint` is of its files' content, see storage.fingerprints.

    `num_layers` counts the hidden layers; `labels`, JSON, are the classes its head tells apart, if it has one.
    `handle` and `revision` (a commit) say where a hub has it. Until it is downloaded `path` is empty, and the
    fingerprint is of handle and revision. Of a model that FINETUNE made, `parent` is what was fine-tuned and `lineage`,
    JSON, how; see storage.lineage.
    """

    __tablename__ = "models"

    model_id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    source: str
    path: str
    fingerprint: str = Field(index=True)
    signature: str
    modality: str
    architecture: str | None = None
    dtype: str | None = None
    num_layers: int | None = None
    labels: str = "[]"
    handle: str | None = Field(default=None, index=True)
    revision: str | None = None
    num_params: int | None = Field(default=None, sa_type=_SIZE)  # type: ignore[call-overload]
    size_bytes: int | None = Field(default=None, sa_type=_SIZE)  # type: ignore[call-overload]
    embedding_dim: int | None = None
    image_size: int | None = None
    token_length: int | None = None
    upstream_dataset: str | None = None
    upstream_accuracy: float | None = None
    date_added: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    licence: str | None = None
    tags: str = ""
    finetuned: bool = False
    trusted: bool = False
    parent: str | None = None
    lineage: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether its files are on this machine; those of a model that a hub has come when they are first needed."""
        return is_local(self.handle, self.path)


def is_local(handle: str | None, path: str) -> bool:
    """Whether the files of a model with this handle and path are on this machine."""
    return handle is None or (bool(path) and Path(path).is_dir())


def _index_models() -> None:
    """The first models of an order are found without sorting, also among those of one modality, one source, …"""
    columns = ModelRecord.__table__.c  # type: ignore[attr-defined]
    keys = {
        "upstream_accuracy": [columns.upstream_accuracy.desc()],
        "num_params": [columns.num_params],
        "size_bytes": [columns.size_bytes],
        "date_added": [columns.date_added.desc()],
    }
    # What people filter by most is in every index, so that a rare match is found without reading rows.
    carried = ("architecture", "num_params", "upstream_accuracy")
    for key, ordered in {**keys, "name": []}.items():
        for equal in (None, "modality", "architecture", "source", "upstream_dataset"):
            if equal is None and key == "name":
                continue
            name = f"ix_models_{key}" if equal is None else f"ix_models_{equal}_{key}"
            first = [] if equal is None else [columns[equal]]
            rest = [columns[other] for other in carried if other not in (key, equal)]
            Index(name, *first, *ordered, columns.name, *rest)


_index_models()


class DatasetRecord(SQLModel, table=True):
    """One dataset split. `type` names its reader; `options` and `classes` are JSON.

    `num_skipped` rows could not be read and are no part of it.
    """

    __tablename__ = "datasets"

    dataset_id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    path: str
    type: str
    options: str = "{}"
    fingerprint: str = Field(index=True)
    signature: str
    modality: str
    task: str
    num_rows: int
    num_classes: int
    classes: str = "[]"
    num_skipped: int = 0
    date_added: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @property
    def class_names(self) -> list[str]:
        return json.loads(self.classes)

    @property
    def reader_options(self) -> dict[str, str]:
        return json.loads(self.options)


class Catalog:
    """Models and datasets by name and by fingerprint. Records it returns are detached copies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def has_models(self) -> bool:
        """Whether any model is registered."""
        with self._database.session() as session:
            return session.exec(select(ModelRecord.model_id).limit(1)).first() is not None

    def newest(self) -> datetime | None:
        """When a model or dataset was last added, None where there is none."""
        with self._database.session() as session:
            added = [session.exec(select(func.max(table.date_added))).one() for table in (ModelRecord, DatasetRecord)]
        return max(filter(None, added), default=None)

    def models(self) -> list[ModelRecord]:
        with self._database.session() as session:
            return list(session.exec(select(ModelRecord).order_by(col(ModelRecord.name))))

    def datasets(self) -> list[DatasetRecord]:
        with self._database.session() as session:
            return list(session.exec(select(DatasetRecord).order_by(col(DatasetRecord.name))))

    def model(self, name: str) -> ModelRecord:
        """The model of that name. Raises StoreError naming near ones."""
        with self._database.session() as session:
            found = session.exec(select(ModelRecord).where(ModelRecord.name == name)).first()
        return found or _missing("model", name, [model.name for model in self.models()])

    def dataset(self, name: str) -> DatasetRecord:
        """The dataset of that name. Raises StoreError naming near ones."""
        with self._database.session() as session:
            found = session.exec(select(DatasetRecord).where(DatasetRecord.name == name)).first()
        return found or _missing("dataset", name, [dataset.name for dataset in self.datasets()])

    def find_models(self, names: Collection[str]) -> dict[str, ModelRecord]:
        """Those of the names that are a model's, with the model."""
        return self._find(ModelRecord, names)

    def find_datasets(self, names: Collection[str]) -> dict[str, DatasetRecord]:
        """Those of the names that are a dataset's, with the dataset."""
        return self._find(DatasetRecord, names)

    def save_model(self, name: str, columns: Mapping[str, Any]) -> ModelRecord:
        """Insert or update the model `name`; columns not given keep their value."""
        return self._save(ModelRecord, name, columns)

    def save_dataset(self, name: str, columns: Mapping[str, Any]) -> DatasetRecord:
        """Insert or update the dataset `name`; columns not given keep their value."""
        return self._save(DatasetRecord, name, columns)

    def remove_model(self, name: str) -> None:
        """Forget a model; its files and measured results stay. Raises StoreError when there is none."""
        self._remove(self.model(name))

    def remove_dataset(self, name: str) -> None:
        """Forget a dataset; its files and measured results stay. Raises StoreError when there is none."""
        self._remove(self.dataset(name))

    def _find(self, table: type[Any], names: Collection[str]) -> dict[str, Any]:
        with self._database.session() as session:
            return {record.name: record for record in session.exec(select(table).where(col(table.name).in_(names)))}

    def _save(self, table: type[Any], name: str, columns: Mapping[str, Any]) -> Any:
        with self._database.session() as session:
            record = session.exec(select(table).where(table.name == name)).first()
            if record is None:
                record = table(name=name, **columns)
            else:
                for column, value in columns.items():
                    setattr(record, column, value)
            session.add(record)
            session.commit()
            session.refresh(record)
            return record

    def _remove(self, record: SQLModel) -> None:
        with self._database.session() as session:
            session.delete(record)
            session.commit()


def _missing(kind: str, name: str, names: list[str]) -> Any:
    listed = f"'shiftql {kind}s list' shows all {len(names)}"
    made = f"register one with 'shiftql {kind}s add', or make some with 'shiftql playground'"
    fix = did_you_mean(name, names) or (listed if names else made)
    raise StoreError(f"there is no {kind} named {name!r}", subject=name, fix=fix)
