"""A pool that rules have something to do on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from shiftql.answering import answer, look_up
from shiftql.answers import Answer, RankingAnswer, RowsAnswer
from shiftql.binder import bind
from shiftql.bound import steps_in
from shiftql.plan import PlanNode
from shiftql.planner import plan
from shiftql.planning import Stores
from shiftql.preparation import prepare
from shiftql.rules.knowledge import Knowledge
from shiftql.script import read_script
from storage.catalog import Catalog
from storage.database import Database
from storage.evaluations import Measurement
from storage.fingerprints import fingerprint_of
from storage.manifests import Manifest, save_manifest
from storage.results import ResultStore
from storage.settings import Settings, current_settings

# Names, so that they are in another order than what they cost; the side of images; parameters.
_MODELS = {
    "resnet-deep": (64, 3_000_000),
    "resnet-letters": (32, 80_000),
    "swin-location": (64, 200_000),
    "vit-greek": (32, 900_000),
    "vit-letters": (32, 300_000),
    "vit-letters-copy": (32, 300_000),
}
_TEXT_MODELS = {"bert-huge": 2_000_000_000, "bert-small": 400_000}
ROWS = {
    "digits-train": 600,
    "digits-test": 300,
    "shapes-train": 600,
    "shapes-test": 400,
    "many-train": 20_000,
    "many-test": 2_000,
    "topics-train": 600,
    "topics-test": 400,
}


@pytest.fixture(scope="session")
def fill_pool() -> Callable[..., Database]:
    """Puts the pool into a database: image models of several sizes, one of them twice, and three datasets."""
    return _fill


def _fill(database: Database, fingerprints: Mapping[str, str] = MappingProxyType({})) -> Database:
    """Datasets have the fingerprints that are given for their names."""
    catalog = Catalog(database)
    columns = {"path": "", "source": "huggingface", "signature": "", "embedding_dim": 64}
    for name, (side, parameters) in _MODELS.items():
        content = {"fingerprint": f"fingerprint of {name.removesuffix('-copy')}", "modality": "image"}
        figures = {"num_params": parameters, "size_bytes": 4 * parameters, "image_size": side}
        catalog.save_model(name, {**columns, **content, **figures, "upstream_accuracy": side / 100})
    for name, parameters in _TEXT_MODELS.items():
        content = {"fingerprint": f"fingerprint of {name}", "modality": "text"}
        catalog.save_model(name, {**columns, **content, "num_params": parameters, "size_bytes": 4 * parameters})
    for name, rows in ROWS.items():
        content = fingerprints.get(name, f"fingerprint of {name}")
        kind = {"modality": "text" if "topics" in name else "image", "task": "classification"}
        columns = {"path": "", "type": "numpy", "signature": "", "fingerprint": content}
        catalog.save_dataset(name, {**columns, **kind, "num_rows": rows, "num_classes": 10})
    return database


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory, fill_pool: Callable[..., Database]) -> Database:
    """A database with the pool in it, and nothing else."""
    home = tmp_path_factory.mktemp("pool")
    return fill_pool(Database(Settings(home, f"sqlite:///{home / 'shift.db'}", "")))


@pytest.fixture
def draft_of_pool(pool: Database, stores: Stores) -> Callable[[str], PlanNode]:
    """The logical plan of a query over the pool, before the rules, on a device with 8 GB."""

    def draft(text: str) -> PlanNode:
        question, declared = read_script(text)
        return plan(bind(question, pool, text, declared), replace(stores, memory=lambda: 8_000_000_000))

    return draft


@pytest.fixture
def knowledge_of() -> Callable[[str, Any], Knowledge]:
    """What a line such as `-- vit-greek, vit-letters are known` says of a draft."""

    def knowledge(line: str, drafted: PlanNode) -> Knowledge:
        evaluations, embeddings = drafted.new_evaluations, drafted.all_embeddings
        stored = {embedding.key: 0 for embedding in embeddings}
        named, _, said = line.removeprefix("-- ").rpartition(" ")
        names = named.removesuffix(" is").removesuffix(" are").split(", ")
        of_named = frozenset(e.fingerprint for e in evaluations if e.model.name in names)
        match said, named:
            case "known", "nothing is":
                return Knowledge()
            case "known", "everything is":
                return Knowledge(frozenset(e.fingerprint for e in evaluations))
            case "known", _:
                assert of_named
                return Knowledge(of_named)
            case "perfect", _:
                assert of_named
                return Knowledge(of_named, of_named)
            case "stored", "all features are":
                return Knowledge(missing_rows=stored)
        raise AssertionError(f"a fixture begins with {line!r}")

    return knowledge


@dataclass
class World:
    """A pool whose evaluations come out as their fingerprints have it, at once and without any model."""

    database: Database
    measured: dict[str, Measurement] = field(default_factory=dict)

    def ask(self, text: str, known: Iterable[str] = ()) -> tuple[Any, set[str]]:
        """What a question is answered when only so much is known before, and what was evaluated for it."""
        self.measured = {each: _outcome(each) for each in known}
        question, declared = read_script(text)
        attempted: set[str] = set()
        while True:
            bound = bind(question, self.database, text, declared, look_up(self.database, attempted))
            new = [prepare(step, self.database, attempted).new_evaluations for step in steps_in((bound,))]
            first = next((each for each in new if {e.fingerprint for e in each} - attempted), None)
            if first is None:
                break
            self.measured |= {each.fingerprint: _outcome(each.fingerprint) for each in first}
            attempted |= {each.fingerprint for each in first}
        bound = bind(question, self.database, text, declared, look_up(self.database, None))
        plan = prepare(bound, self.database, None)
        return _said(answer(bound, plan, self.database, {})), attempted


def _outcome(fingerprint: str) -> Measurement:
    """Often the best there can be, and now and then a failure."""
    number = int(fingerprint_of("outcome", fingerprint)[:8], 16) % 8
    if number == 0:
        return Measurement("failed", 1.0, reason="it is broken")
    return Measurement("completed", 1.0, metric="accuracy", value=(0.5, 0.75, 1.0)[number % 3], n_test=300)


def _said(found: Answer) -> Any:
    if isinstance(found, RankingAnswer):
        return found.rankings
    assert isinstance(found, RowsAnswer)
    return found.rows


@pytest.fixture
def world(home: object, fill_pool: Callable[..., Database], monkeypatch: pytest.MonkeyPatch) -> World:
    """A home with the pool, whose datasets' rows are known by their hashes alone."""
    rng = np.random.default_rng(0)
    fingerprints = {}
    for name, rows in ROWS.items():
        hashes = rng.integers(0, 256, (rows, 16), dtype=np.uint8)
        manifest = Manifest(hashes, rng.integers(0, 10, rows), tuple(map(str, range(10))))
        save_manifest(current_settings().manifests, manifest)
        fingerprints[name] = manifest.fingerprint
    world = World(fill_pool(Database(current_settings()), fingerprints))

    def outcomes(_: ResultStore, wanted: Iterable[str]) -> dict[str, Measurement]:
        return {each: world.measured[each] for each in wanted if each in world.measured}

    monkeypatch.setattr(ResultStore, "outcomes", outcomes)
    return world
