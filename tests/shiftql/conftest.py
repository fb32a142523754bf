"""Answers, a session and a catalog of known content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

from shiftql.answers import Answer, ErrorAnswer, ExplainAnswer, RankingAnswer, RowsAnswer
from shiftql.binder import bind
from shiftql.bound import BoundDataset
from shiftql.plan import PlanNode, Split
from shiftql.planner import plan as make_plan
from shiftql.planning import Stores
from shiftql.script import read_script
from shiftql.strategies.base import no_history
from storage.catalog import Catalog
from storage.database import Database
from storage.derivation import parts_with
from storage.errors import BindingError, StoreError
from storage.evaluations import Subject
from storage.parts import Part, whole
from storage.settings import Settings


def _row(model: str, rank: int | None, score: float, tied: bool, **columns: object) -> dict[str, object]:
    figures = {"metric": "accuracy", "higher_is_better": True, "low": score - 0.05, "high": score + 0.05}
    return {
        "rank": rank,
        "model": model,
        "score": score,
        **figures,
        "tied": tied,
        "n_test": 600,
        "layer": None,
        **columns,
    }


LETTERS = _row("resnet-letters", 1, 0.8766, False, num_params=84512)
NOISE = _row("vit-noise", 2, 0.125, False, num_params=300123)
MAJORITY = _row("majority", None, 0.1, False, baseline=True)
FAILED = {"model": "broken", "reason": "its weights are truncated"}


@pytest.fixture
def ranking() -> RankingAnswer:
    return RankingAnswer(
        statement="SELECT num_params …",
        seconds=3.21,
        rankings={"Linear": (LETTERS, NOISE, MAJORITY)},
        failed=(FAILED,),
        evaluated=8,
        reused=4,
    )


@pytest.fixture
def two_rankings() -> RankingAnswer:
    return RankingAnswer(
        statement="…",
        seconds=0.5,
        rankings={"Linear": (LETTERS, MAJORITY), "Cosine NN": (NOISE,)},
        evaluated=2,
    )


@pytest.fixture
def all_failed() -> RankingAnswer:
    return RankingAnswer(statement="…", seconds=1.0, rankings={"Linear": (MAJORITY,)}, failed=(FAILED,))


@pytest.fixture
def out_of_time(no_model: RankingAnswer) -> RankingAnswer:
    return replace(no_model, partial=True)


@pytest.fixture
def begun(out_of_time: RankingAnswer) -> RankingAnswer:
    figures = {"lr": 0.001, "of": 10, "metric": "validation_accuracy"}
    far, near = ({"model": "vit", "epochs": 7, "score": 0.75}, {"model": "bert", "epochs": 1, "score": 0.5})
    return replace(out_of_time, begun=({**far, **figures}, {**near, **figures}))


@pytest.fixture
def interrupted(out_of_time: RankingAnswer) -> RankingAnswer:
    return replace(out_of_time, interrupted=True)


@pytest.fixture
def no_model() -> RankingAnswer:
    return RankingAnswer(statement="…", seconds=0.1, rankings={"Linear": (MAJORITY,)})


@pytest.fixture
def rows() -> RowsAnswer:
    return RowsAnswer(
        statement="SELECT name, num_params FROM models",
        seconds=0.012,
        columns=("name", "num_params"),
        rows=({"name": "a|b", "num_params": 1234567}, {"name": "c", "num_params": None}),
    )


@pytest.fixture
def no_rows() -> RowsAnswer:
    return RowsAnswer(statement="SELECT name FROM models", seconds=0.012, columns=("name",), rows=())


@pytest.fixture
def plan() -> ExplainAnswer:
    return ExplainAnswer(statement="EXPLAIN …", seconds=0.0, text="Rank\n└─ Scan", plan={"step": "Rank"})


@pytest.fixture
def misnamed() -> ErrorAnswer:
    text = "SELECT nam FROM models"
    error = BindingError("models has no column 'nam'", text=text, line=1, column=8, length=3, fix="did you mean name?")
    return ErrorAnswer(statement=text, seconds=0.0, error=error)


@pytest.fixture
def unreadable() -> ErrorAnswer:
    return ErrorAnswer(statement="…", seconds=0.0, error=StoreError("the database cannot be opened"))


@dataclass
class FakeSession:
    """Gives the answers it was made with, whatever it is asked, and remembers what that was."""

    answers: Sequence[Answer] = ()
    models: Sequence[str] = ("resnet-letters",)
    datasets: Sequence[str] = ("digits-test", "digits-train")
    interrupted: bool = False
    server: str | None = None
    declared: Mapping[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def catalog(self) -> SimpleNamespace:
        named = {kind: [SimpleNamespace(name=name) for name in getattr(self, kind)] for kind in ("models", "datasets")}
        return SimpleNamespace(
            models=lambda: named["models"],
            datasets=lambda: named["datasets"],
            has_models=lambda: bool(named["models"]),
        )

    def run(self, text: str) -> Iterator[Answer]:
        self.asked.append(text)
        yield from self.answers
        if self.interrupted:
            raise KeyboardInterrupt


@pytest.fixture
def fake_session() -> type[FakeSession]:
    return FakeSession


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A small catalog to ask and to plan for; nothing in it can be opened, and nothing may be changed."""
    home = tmp_path_factory.mktemp("catalog")
    return _with_small_catalog(Settings(home, f"sqlite:///{home / 'shift.db'}", ""))


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The small catalog in every kind of database."""
    if request.param == "sqlite":
        yield request.getfixturevalue("database")
        return
    with request.getfixturevalue("postgresql").database() as url:
        yield _with_small_catalog(Settings(tmp_path_factory.mktemp("catalog"), url, ""))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def own_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The small catalog in every kind of database, for tests of one module that add to it."""
    home = tmp_path_factory.mktemp("catalog")
    if request.param == "sqlite":
        yield _with_small_catalog(Settings(home, f"sqlite:///{home / 'shift.db'}", ""))
        return
    with request.getfixturevalue("postgresql").database() as url:
        yield _with_small_catalog(Settings(home, url, ""))


def _with_small_catalog(settings: Settings) -> Database:
    database = Database(settings)
    catalog = Catalog(database)
    for name, columns in _CATALOG_MODELS.items():
        catalog.save_model(name, {"path": "", "signature": "", "fingerprint": f"fingerprint of {name}", **columns})
    for name, (modality, task, rows, classes) in _CATALOG_DATASETS.items():
        columns = {"path": "", "type": "csv", "signature": "", "fingerprint": f"fingerprint of {name}"}
        catalog.save_dataset(
            name, {**columns, "modality": modality, "task": task, "num_rows": rows, "num_classes": classes}
        )
    return database


_CATALOG_MODELS: dict[str, dict[str, Any]] = {
    "bert-old": {
        "source": "huggingface",
        "modality": "text",
        "architecture": "BertModel",
        "num_params": 110_000_000,
        "size_bytes": 440_000_000,
        "embedding_dim": 768,
        "upstream_accuracy": 0.75,
        "date_added": datetime(2025, 6, 1, tzinfo=UTC),
        "finetuned": True,
    },
    "odd'; DROP": {
        "source": "huggingface",
        "modality": "text",
        "date_added": datetime(2026, 1, 1, tzinfo=UTC),
    },
    "hub-mobile": {
        "source": "tfhub",
        "modality": "image",
        "architecture": "SavedModel",
        "num_params": 500_000,
        "size_bytes": 2_000_000,
        "embedding_dim": 64,
        "image_size": 64,
        "upstream_accuracy": 1.0,
        "date_added": datetime(2026, 1, 1, tzinfo=UTC),
    },
    "resnet-noise": {
        "source": "huggingface",
        "modality": "image",
        "architecture": "ResNetModel",
        "num_params": 25_000_000,
        "size_bytes": 100_000_000,
        "embedding_dim": 2048,
        "image_size": 224,
        "date_added": datetime(2026, 3, 1, tzinfo=UTC),
    },
    "vit-letters": {
        "source": "huggingface",
        "modality": "image",
        "architecture": "ViTModel",
        "num_params": 300_000,
        "size_bytes": 1_200_000,
        "embedding_dim": 48,
        "image_size": 32,
        "upstream_accuracy": 0.5,
        "date_added": datetime(2026, 2, 1, 12, tzinfo=UTC),
        "trusted": True,
    },
}
_CATALOG_DATASETS = {
    "digits-train": ("image", "classification", 600, 10),
    "digits-test": ("image", "classification", 300, 10),
    "reviews-train": ("text", "classification", 400, 2),
    "reviews-test": ("text", "classification", 200, 2),
    "prices": ("text", "regression", 100, 0),
}


@pytest.fixture
def statements() -> Callable[[Database], AbstractContextManager[list[str]]]:
    """Every SQL text that a database is sent while the context is open."""

    @contextmanager
    def listen_to(database: Database) -> Iterator[list[str]]:
        sent: list[str] = []

        def listen(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            sent.append(statement)

        event.listen(database.engine, "before_cursor_execute", listen)
        yield sent
        event.remove(database.engine, "before_cursor_execute", listen)

    return listen_to


@pytest.fixture
def draft(database: Database) -> Callable[[str], PlanNode]:
    """The logical plan of a query over the small catalog, before the rules; declarations may stand before it."""

    def draft(text: str) -> PlanNode:
        question, declared = read_script(text)
        return make_plan(bind(question, database, text, declared), EMPTY_STORES)

    return draft


@pytest.fixture(scope="session")
def stores() -> Stores:
    """Stands in for what reads the rows of datasets; nothing is known."""
    return EMPTY_STORES


def together(datasets: Sequence[BoundDataset]) -> Split:
    """Datasets as one, by name alone: their rows are nowhere."""
    subjects = [Subject(dataset.label, dataset.record.fingerprint) for dataset in datasets]
    name = subjects[0].name if len(subjects) == 1 else f"[{', '.join(subject.name for subject in subjects)}]"
    whole_of_it = Subject(name, "+".join(subject.fingerprint for subject in subjects))
    parts = [whole(subject, dataset.record.num_rows) for subject, dataset in zip(subjects, datasets, strict=True)]
    return Split(whole_of_it, tuple(parts))


def first_as_they_stand(split: Split, rows: int) -> tuple[Part, ...]:
    return parts_with(split.parts, np.arange(rows))


EMPTY_STORES = Stores(together, first_as_they_stand, lambda _: {}, lambda models, target: no_history())
