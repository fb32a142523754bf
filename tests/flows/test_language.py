"""Statements that take more than one ranking, or more than a SELECT, on tiny real models."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shiftql.answers import Answer, ErrorAnswer, ExplainAnswer, RankingAnswer, RowsAnswer, TextAnswer
from shiftql.engine import Session
from shiftql.progress import Progress, progress

COLOURS = "TRAINED ON colours-train TESTED ON colours-test"
ROWS = 36 + 24


@pytest.fixture
def session(here: None) -> Session:
    return Session()


@pytest.fixture
def notes() -> Iterator[list[str]]:
    """What a person is told."""
    said: list[str] = []

    class Surface(Progress):
        def note(self, message: str) -> None:
            said.append(message)

    token = progress.set(Surface())
    yield said
    progress.reset(token)


def answers(session: Session, text: str) -> list[Answer]:
    found = list(session.run(text))
    assert not [str(answer.error) for answer in found if isinstance(answer, ErrorAnswer)]
    return found


def rows(session: Session, text: str) -> list[tuple[Any, ...]]:
    (answer,) = answers(session, text)
    assert isinstance(answer, RowsAnswer)
    return [tuple(row.values()) for row in answer.rows]


def ranking(session: Session, text: str) -> RankingAnswer:
    answer = answers(session, text)[-1]
    assert isinstance(answer, RankingAnswer)
    return answer


def best(answer: RankingAnswer) -> list[str]:
    return [row["model"] for row in answer.ranking if not row.get("baseline")]


def test_a_ranking_can_be_selected_from(session: Session) -> None:
    inner = f"SELECT * FROM models ORDER BY Linear {COLOURS}"
    found = rows(session, f"SELECT rank, name, score FROM ({inner})")
    ranked = ranking(session, inner)
    assert found == [(row["rank"], row["model"], row["score"]) for row in ranked.ranking if not row.get("baseline")]
    assert ranked.evaluated == 0


def test_a_ranking_of_a_ranking_holds_the_models_of_the_inner_one(session: Session) -> None:
    inner = f"SELECT name FROM models ORDER BY 'Cosine NN' {COLOURS} LIMIT 1"
    outer = ranking(session, f"SELECT name FROM models WHERE name IN ({inner}) ORDER BY Linear {COLOURS}")
    assert best(outer) == best(ranking(session, inner))


def test_other_than_a_declared_ranking_is_the_rest(session: Session) -> None:
    text = f"DECLARE first AS SELECT name FROM models ORDER BY Linear {COLOURS} LIMIT 1"
    answers(session, text)
    everything = best(ranking(session, f"SELECT name FROM models ORDER BY Linear {COLOURS}"))
    rest = best(ranking(session, f"SELECT name FROM models ORDER BY Linear {COLOURS} OTHER THAN first"))
    assert rest == everything[1:]


def test_a_set_operation_evaluates_equal_rankings_once(session: Session) -> None:
    one = f"(SELECT name FROM models ORDER BY Linear {COLOURS} LIMIT 2)"
    assert len(rows(session, f"{one} UNION {one}")) == 2
    assert rows(session, f"{one} EXCEPT {one}") == []
    assert rows(session, f"{one} INTERSECT {one}") == rows(session, f"{one} UNION {one}")
    counted = rows(session, "SELECT model_name FROM benchmark_results WHERE method = linear")
    assert sorted(counted) == [("resnet",), ("vit",)]


def test_a_changed_dataset_embeds_only_the_rows_that_came_in(session: Session) -> None:
    ranking(session, f"SELECT * FROM models ORDER BY 'Cosine NN' {COLOURS}")
    changed = "TRAINED ON (colours-train CHANGE [0, 5] TO photos-train [1, 2]) TESTED ON colours-test"
    answer = ranking(session, f"SELECT * FROM models ORDER BY 'Cosine NN' {changed}")
    # Two models and the raw baseline embed the two new rows each.
    assert answer.work["embedded_rows"] == 2 * 3
    assert answer.evaluated == 2


def test_a_path_is_a_dataset_and_a_part_of_it_is_held_out(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "sentences.csv"
    lines = [f"{word},{label}" for word, label in (("cat", "animals"), ("tree", "plants")) for _ in range(10)]
    path.write_text("\n".join(["text,label", *(f"{number} {line}" for number, line in enumerate(lines))]))
    answer = ranking(session, f"SELECT * FROM models ORDER BY Linear TRAINED ON '{path}'")
    assert len(best(answer)) == 2
    assert {row["n_test"] for row in answer.ranking} == {4}


def test_a_ranking_for_a_path_can_be_declared(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "pets.csv"
    rows = [f"{number} pet,{'cat' if number % 2 else 'dog'}" for number in range(20)]
    path.write_text("\n".join(["text,label", *rows]))
    answers(session, f"DECLARE mine AS SELECT * FROM models ORDER BY Linear TRAINED ON '{path}'")
    assert str(path) not in {dataset.name for dataset in session.catalog.datasets()}
    assert len(best(ranking(session, "PRINT mine"))) == 2


@pytest.mark.parametrize("test_split", ["test", "validation"])
def test_a_path_with_splits_is_tested_on_its_own_and_rows_on_both_sides_are_said(
    session: Session, notes: list[str], test_split: str, tmp_path: Path
) -> None:
    train = [f"{number} {line}" for number, line in enumerate(["cat,animals", "tree,plants"] * 8)]
    for split, lines in {"train": train, test_split: ["a fern,plants", "a dog,animals", *train[:1]]}.items():
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label", *lines]))
    question = f"SELECT * FROM models ORDER BY Linear TRAINED ON '{tmp_path}'"
    answer = ranking(session, question)
    assert {row["n_test"] for row in answer.ranking} == {3}
    shared = f"1 of 3 test rows of {tmp_path}#{test_split} are also in the training split {tmp_path}"
    assert notes.count(shared) == 1
    said = ranking(session, f"{question} TESTED ON '{tmp_path}#{test_split}[:2]'")
    assert {row["n_test"] for row in said.ranking} == {2}
    assert notes.count(shared) == 1


def test_a_folder_beside_which_one_stands_needs_no_slash_to_be_a_path(
    session: Session, notes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "moods").mkdir()
    for split in ("train", "test"):
        rows = [f"{number} {split} {word}" for number in range(6) for word in ("cat,animals", "tree,plants")]
        (tmp_path / "moods" / f"{split}.csv").write_text("\n".join(["text,label", *rows]))
    monkeypatch.chdir(tmp_path)
    answer = ranking(session, "SELECT * FROM models ORDER BY Linear TRAINED ON 'moods'")
    assert {row["n_test"] for row in answer.ranking} == {12}
    assert any("this is train; split='test' reads another" in note for note in notes)


def test_a_test_split_without_labels_is_not_tested_on(session: Session, notes: list[str], tmp_path: Path) -> None:
    lines = [f"{number} {line}" for number, line in enumerate(["cat,animals", "tree,plants"] * 8)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines]))
    (tmp_path / "test.csv").write_text("text,label\na fern,\na dog,\n")
    answer = ranking(session, f"SELECT * FROM models ORDER BY Linear TRAINED ON '{tmp_path}'")
    assert {row["n_test"] for row in answer.ranking} == {4}
    assert any(note.startswith(f"{tmp_path}#test is not tested on: ") for note in notes)


def test_rows_that_are_skipped_are_said_where_a_dataset_is_registered(
    session: Session, notes: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("text,score\ngood,0.5\nbad,none\nfine,1.5\n")
    first, second = answers(
        session,
        f"REGISTER DATASET scores FROM '{path}' WITH (text_column=text, label_column=score, task=regression);"
        "SELECT num_rows, task FROM datasets WHERE name = scores",
    )
    assert isinstance(first, TextAnswer)
    assert first.text == "dataset scores is registered: 2 rows for regression, 1 skipped"
    assert notes == [f"1 row of {path} skipped: first {path}, line 3: column 'score' is 'none', and no number"]
    assert isinstance(second, RowsAnswer)
    assert dict(second.rows[0]) == {"num_rows": 2, "task": "regression"}


def test_registering_and_asking_go_together(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "animals.csv"
    path.write_text("sentence,kind\na cat,animal\na rose,plant\na dog,animal\na fern,plant\n")
    first, second = answers(
        session,
        f"REGISTER DATASET mine FROM '{path}' WITH (text_column=sentence, label_column=kind);"
        "SELECT num_rows, num_classes FROM datasets WHERE name = mine",
    )
    assert isinstance(first, TextAnswer)
    assert isinstance(second, RowsAnswer)
    assert dict(second.rows[0]) == {"num_rows": 4, "num_classes": 2}


def test_an_analyzed_plan_says_what_was_computed_and_reused(session: Session) -> None:
    question = f"SELECT name FROM models ORDER BY Linear {COLOURS}"
    for new, reused in ((4, 0), (0, 4)):
        (answer,) = answers(session, f"EXPLAIN ANALYZE {question}")
        assert isinstance(answer, ExplainAnswer)
        evaluate = answer.plan["children"][0]
        assert (evaluate["new"], evaluate["reused"]) == (new, reused)


def test_auto_leaves_halving_to_the_optimizer(session: Session) -> None:
    answer = ranking(session, f"SELECT name FROM models ORDER BY Linear {COLOURS} CHUNK AUTO BUDGET AUTO")
    assert len(best(answer)) == 2


def test_a_statistic_ranks_by_what_was_measured_on_every_dataset(session: Session) -> None:
    for name in ("colours", "photos"):
        ranking(session, f"SELECT * FROM models ORDER BY Linear TRAINED ON {name}-train TESTED ON {name}-test")
    ranking(session, "SELECT * FROM models ORDER BY Linear TRAINED ON nature-train TESTED ON nature-test")
    answers(session, "DECLARE pictures AS SELECT name FROM datasets WHERE modality = image AND name LIKE '%-train'")
    ask = "SELECT name FROM models ORDER BY AVG(err) TESTED ON BENCHMARK pictures CLASSIFIED BY Linear"
    found = ranking(session, ask)
    errors = {model: [error for name, error in rows(session, RESULTS) if name == model] for model in ("resnet", "vit")}
    averages = {model: sum(values) / 2 for model, values in errors.items()}
    assert best(found) == sorted(averages, key=lambda model: (averages[model], model))
    assert [row["score"] for row in found.ranking] == pytest.approx(sorted(averages.values()))
    assert not found.failed


RESULTS = (
    "SELECT model_name, error FROM benchmark_results WHERE method = linear AND model_id IS NOT NULL"
    " AND dataset_name IN (colours-train, photos-train)"
)


def test_models_are_registered_many_at_once_below_a_prefix(session: Session, pool: Any, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    for name in ("bert", "vit"):
        shutil.copytree(pool.models[name], tmp_path / "tree" / name)
    (tmp_path / "broken").rename(tmp_path / "tree" / "broken")
    text = f"REGISTER MODELS lab FROM '{tmp_path / 'tree'}' WITH (licence=mit, tags='a,b')"
    (answer,) = session.run(text)
    assert isinstance(answer, RowsAnswer)
    assert [(row["name"], row["status"]) for row in answer.rows] == [
        ("lab/bert", "added"),
        ("lab/broken", "failed"),
        ("lab/vit", "added"),
    ]
    assert "config.json" in answer.rows[1]["reason"]
    assert session.catalog.model("lab/vit").licence == "mit"
    (again,) = session.run(text)
    assert [row["status"] for row in again.rows] == ["updated", "failed", "updated"]  # type: ignore[attr-defined]
    shown = next(session.run("SHOW MODELS"))
    assert isinstance(shown, RowsAnswer)
    assert all(row["is_local"] for row in shown.rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("REGISTER MODELS FROM './nowhere'", "there is nothing at"),
        ("REGISTER MODELS FROM 'hf://models?size=1'", "no filter 'size'"),
        ("REGISTER MODELS FROM './x' WITH (trusted=TRUE)", "trust is given model by model"),
        ("REGISTER MODELS FROM './x' WITH (colour=red)", "no setting 'colour'"),
    ],
)
def test_many_models_are_refused_with_a_reason(session: Session, text: str, message: str) -> None:
    (answer,) = session.run(text)
    assert isinstance(answer, ErrorAnswer)
    assert message in answer.error.message


def test_a_label_that_is_another_in_nearly_every_row_is_doubted(
    session: Session, notes: list[str], tmp_path: Path
) -> None:
    lines = ["text,label", *(f"sentence {number},name {number}" for number in range(20))]
    (tmp_path / "names.csv").write_text("\n".join(lines))
    answers(session, f"REGISTER DATASET names FROM '{tmp_path / 'names.csv'}'")
    assert notes == ["names has 20 classes in 20 rows: is that the label? label_column names another"]
