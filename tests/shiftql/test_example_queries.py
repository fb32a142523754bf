"""The published questions of examples/queries, planned exactly as recorded in fixtures/queries."""

from __future__ import annotations

from pathlib import Path

import pytest

from shiftql import ast
from shiftql.binder import bind
from shiftql.bound import Declaration
from shiftql.explain import plan_as_tree
from shiftql.parser import parse
from shiftql.planner import plan
from shiftql.planning import Stores
from shiftql.printer import to_text
from shiftql.rules import optimize
from shiftql.rules.knowledge import Knowledge
from shiftql.script import declare, question_of
from storage.catalog import Catalog
from storage.database import Database
from storage.evaluations import Evaluation, Measurement, Subject
from storage.results import ResultStore
from storage.settings import Settings

QUERIES = sorted((Path(__file__).parents[2] / "examples" / "queries").glob("*.shiftql"))
PLANS = Path(__file__).parent / "fixtures" / "queries"
IMAGE_MODELS = ("convnext-greek", "resnet-counting", "resnet-letters", "swin-orientation", "vit-location")
SPLITS = {"train": 600, "test": 400}
DATASETS = {"counting-shapes": "image", "drawn-digits": "image", "sentence-topics": "text"}


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A catalog with names of the playground's, and figures that do not depend on who built it."""
    home = tmp_path_factory.mktemp("playground")
    database = Database(Settings(home, f"sqlite:///{home / 'shift.db'}", ""))
    catalog = Catalog(database)
    for number, name in enumerate((*IMAGE_MODELS, "bert-packages")):
        columns = {"path": "", "source": "huggingface", "signature": "", "fingerprint": f"fingerprint of {name}"}
        size = 100_000 * (number + 1)
        modality = "image" if name in IMAGE_MODELS else "text"
        figures = {"num_params": size, "size_bytes": 4 * size, "embedding_dim": 64, "upstream_accuracy": 0.5}
        catalog.save_model(name, {**columns, **figures, "modality": modality})
    for name, modality in DATASETS.items():
        for split, rows in SPLITS.items():
            columns = {"path": "", "type": "numpy", "signature": "", "fingerprint": f"fingerprint of {name}-{split}"}
            kind = {"modality": modality, "task": "classification", "num_rows": rows, "num_classes": 10}
            catalog.save_dataset(f"{name}-{split}", {**columns, **kind})
    results = ResultStore(database)
    for rank, name in enumerate(IMAGE_MODELS):
        train, test = (
            Subject(f"counting-shapes-{split}", f"fingerprint of counting-shapes-{split}") for split in SPLITS
        )
        evaluation = Evaluation(Subject(name, f"fingerprint of {name}"), train, test, "finetune", "1")
        claim = results.claim(evaluation)
        assert claim is not None
        results.record(claim, Measurement("completed", 1.0, metric="accuracy", value=0.5 + rank / 10, n_test=400))
    return database


def plans(text: str, database: Database, stores: Stores) -> str:
    """The plan of every question of a file, below the question."""
    declared: dict[str, Declaration] = {}
    found = []
    for statement in parse(text):
        if isinstance(statement, ast.Declare):
            declared = declare(declared, statement, text)
        question = question_of(statement)
        if question is not None:
            planned = plan(bind(question, database, text, declared), stores)
            found.append(f"{to_text(statement)}\n\n{plan_as_tree(optimize(planned, Knowledge()))}")
    return "\n\n".join(found) + "\n"


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_a_published_question_has_the_recorded_plan(path: Path, playground: Database, stores: Stores) -> None:
    assert plans(path.read_text(encoding="utf-8"), playground, stores) == (PLANS / f"{path.stem}.txt").read_text(
        "utf-8"
    )
