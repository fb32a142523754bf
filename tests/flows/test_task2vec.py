"""Questions about Task2Vec on tiny real models, against one Prefect server; hosts run in this process."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from flows import run as run_module
from flows.registration import register_dataset
from shiftql.answers import Answer, RowsAnswer
from shiftql.engine import query
from shiftql.render import render
from storage.catalog import Catalog
from storage.database import Database
from storage.errors import EvaluationError
from storage.results import EvaluationRecord
from storage.settings import current_settings

pytestmark = pytest.mark.usefixtures("here")

VECTORS = "SELECT name, vec FROM datasets WHERE probe = 'resnet' AND modality = image"
NEAREST = "SELECT name, num_rows FROM datasets WHERE modality = image ORDER BY Task2Vec(probe='resnet')"
TO_COLOURS = f"{NEAREST} TRAINED ON 'colours-train'"


def _ask(text: str) -> RowsAnswer:
    answer = query(text)
    assert isinstance(answer, RowsAnswer)
    return answer


def _explained(text: str) -> str:
    return query(f"EXPLAIN {text}").to_json()["text"]


def _recorded() -> list[tuple[str, str]]:
    with Database(current_settings()).session() as session:
        rows = session.exec(select(EvaluationRecord).where(EvaluationRecord.method == "task2vec")).all()
    return sorted((row.model_name, row.train_name) for row in rows if row.status == "completed")


@pytest.fixture
def no_flow(monkeypatch: pytest.MonkeyPatch) -> Any:
    def refuse(*_: object) -> None:
        raise AssertionError("a flow was started")

    return lambda: monkeypatch.setattr(run_module, "run_search", refuse)


def test_a_vector_is_measured_once_whatever_asks_for_it(no_flow: Any) -> None:
    assert "4 new, 0 known" in _explained(VECTORS)
    vectors = {row["name"]: row["vec"] for row in _ask(VECTORS).rows}
    assert list(vectors) == ["colours-test", "colours-train", "photos-test", "photos-train"]
    assert len({len(vector) for vector in vectors.values()}) == 1
    assert _recorded() == [("resnet", name) for name in vectors]
    assert "0 new, 4 known" in _explained(TO_COLOURS)
    no_flow()
    assert {row["name"]: row["vec"] for row in _ask(VECTORS).rows} == vectors
    assert len(_ask(TO_COLOURS).rows) == 3


def test_datasets_are_ordered_by_their_distance() -> None:
    answer = _ask(TO_COLOURS)
    assert answer.columns == ("name", "num_rows", "distance", "probe")
    # Photos are the same colours, and the split that is asked about is not compared with itself.
    assert {row["name"] for row in answer.rows} == {"colours-test", "photos-test", "photos-train"}
    distances = [row["distance"] for row in answer.rows]
    assert distances == sorted(distances)
    assert all(0 < distance < 1 for distance in distances)
    assert [row["probe"] for row in answer.rows] == ["resnet"] * 3
    farthest = _ask(f"{NEAREST} DESC TRAINED ON 'colours-train' LIMIT 2")
    assert list(farthest.rows) == list(answer.rows[::-1][:2])


def test_the_same_rows_under_another_name_are_at_no_distance(catalog: Catalog) -> None:
    register_dataset(catalog, "copy", catalog.dataset("colours-train").path)
    answer = _ask(TO_COLOURS)
    assert answer.rows[0]["name"] == "copy"
    assert answer.rows[0]["distance"] == pytest.approx(0, abs=1e-9)
    assert len(_recorded()) == 4


def test_what_cannot_be_compared_is_left_out_with_the_reason() -> None:
    answer = _ask("SELECT name FROM datasets WHERE name LIKE '%-test' ORDER BY Task2Vec TRAINED ON 'nature-train'")
    assert [row["name"] for row in answer.rows] == ["nature-test"]
    assert [(each["dataset"], "image rows" in each["reason"]) for each in answer.failed] == [
        ("colours-test", True),
        ("photos-test", True),
    ]
    assert "- colours-test, photos-test: it is for classification of image rows" in render(answer, "table")


def test_without_a_name_the_largest_model_is_the_probe(catalog: Catalog) -> None:
    largest = max(
        (model for model in catalog.models() if model.modality == "text"), key=lambda model: model.num_params or 0
    )
    answer = _ask("SELECT name FROM datasets WHERE modality = text ORDER BY Task2Vec TRAINED ON 'nature-train'")
    assert {row["probe"] for row in answer.rows} == {largest.name}


def test_several_datasets_and_changed_rows_are_a_task_like_any() -> None:
    both = _ask(f"{NEAREST} TRAINED ON ['colours-train', 'photos-train']")
    assert len(both.rows) == 4
    changed = _ask(f"{NEAREST} TRAINED ON ('colours-train' CHANGE [0, 1] TO 'colours-test' [0, 1])")
    # One changed in two rows is nearer to what it was than anything else.
    assert changed.rows[0]["name"] == "colours-train"


def test_a_penalty_for_simple_sources_changes_the_distance(no_flow: Any) -> None:
    symmetric = {row["name"]: row["distance"] for row in _ask(TO_COLOURS).rows}
    no_flow()
    asymmetric = _ask(TO_COLOURS.replace("'resnet'", "'resnet', alpha=0.15")).rows
    assert all(row["distance"] < symmetric[row["name"]] for row in asymmetric)


def test_a_question_may_rest_on_the_nearest_datasets() -> None:
    nearest = _ask(f"{TO_COLOURS} LIMIT 1").rows[0]["name"]
    declared = f"DECLARE nearest AS {TO_COLOURS} LIMIT 1; SELECT name FROM datasets WHERE name IN nearest"
    assert [row["name"] for row in _ask(declared).rows] == [nearest]
    embedded = _ask(
        f"SELECT name, vec FROM datasets WHERE probe = 'vit' AND name IN (SELECT name FROM ({TO_COLOURS} LIMIT 1) AS n)"
    )
    assert [row["name"] for row in embedded.rows] == [nearest]
    assert [name for probe, name in _recorded() if probe == "vit"] == [nearest]


def test_vectors_can_be_selected_from() -> None:
    answer = _ask(f"SELECT name FROM ({VECTORS}) AS v WHERE vec IS NOT NULL ORDER BY name DESC LIMIT 1")
    assert [row["name"] for row in answer.rows] == ["photos-train"]
    both = _ask(f"{VECTORS} AND name = 'colours-train' UNION ALL {VECTORS} AND name = 'colours-test'")
    assert sorted(row["name"] for row in both.rows) == ["colours-test", "colours-train"]
    assert all(row["vec"] for row in both.rows)


def test_a_dataset_that_cannot_be_embedded_is_told_with_the_reason(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "cats.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), ("a cat", "animals"), ("a dog", "animals")])
    register_dataset(catalog, "cats", str(path))
    answer = _ask("SELECT name, vec FROM datasets WHERE probe = 'bert' AND name IN ('cats', 'nature-test')")
    assert {row["name"]: bool(row["vec"]) for row in answer.rows} == {"cats": False, "nature-test": True}
    assert [each["dataset"] for each in answer.failed] == ["cats"]
    assert "of one class" in answer.to_json()["failed"][0]["reason"]
    nearest = "SELECT name FROM datasets WHERE modality = text ORDER BY Task2Vec(probe='bert') TRAINED ON"
    assert [row["name"] for row in _ask(f"{nearest} 'nature-test'").rows] == ["nature-train"]
    with pytest.raises(EvaluationError, match="cats cannot be embedded by bert: all its rows are of one class"):
        query(f"{nearest} 'cats'")


def test_explain_analyze_says_what_was_done() -> None:
    answer: Answer = query(f"EXPLAIN ANALYZE {TO_COLOURS} LIMIT 2")
    text = answer.to_json()["text"]
    assert "actual 2 rows" in text
    assert "4 new and 0 reused" in text


def test_a_table_shows_the_beginning_of_a_vector() -> None:
    answer = _ask(f"{VECTORS} AND name = 'colours-train'")
    assert f"… ({len(answer.rows[0]['vec'])} numbers)" in render(answer, "table")
