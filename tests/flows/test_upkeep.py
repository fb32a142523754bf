"""Purging and examining stores that queries have filled."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from flows import run as run_module
from flows.registration import register_dataset, register_model
from shiftql.answers import ErrorAnswer, RankingAnswer, TextAnswer
from shiftql.engine import Session, query
from storage.catalog import Catalog
from storage.database import Database
from storage.errors import StoreError
from storage.results import EvaluationRecord
from storage.settings import current_settings

NATURE = "TRAINED ON 'nature-train' TESTED ON 'nature-test'"
LINEAR = f"SELECT * FROM text_models ORDER BY Linear {NATURE}"
F1 = f"SELECT * FROM text_models ORDER BY Linear(metric='macro_f1') {NATURE}"


def ask(text: str) -> RankingAnswer:
    answer = query(text)
    assert isinstance(answer, RankingAnswer)
    return answer


def say(text: str) -> str:
    answer = query(text)
    assert isinstance(answer, TextAnswer)
    return answer.text


def problems(**options: bool) -> dict[str, Sequence[str]]:
    return {finding["problem"]: finding["subjects"] for finding in Session().examine(**options)["findings"]}


def test_purged_results_are_computed_anew_from_the_features_that_are_kept(here: None) -> None:
    first = ask(LINEAR)
    assert say("PURGE results").startswith("deleted 4 results (")
    second = ask(LINEAR)
    assert (second.evaluated, second.reused, second.work["embedded_rows"]) == (2, 0, 0)
    assert second.ranking == first.ranking


def test_purged_features_are_embedded_anew_when_they_are_needed(here: None) -> None:
    first = ask(LINEAR)
    assert "features" in say("PURGE features")
    again = ask(LINEAR)
    assert (again.evaluated, again.ranking) == (0, first.ranking)
    assert ask(F1).work["embedded_rows"] == first.work["embedded_rows"]


@pytest.mark.parametrize("statement", ["PURGE", "PURGE all", "purge 'All'"])
def test_after_a_purge_everything_is_done_again_whatever_prefect_has_cached(here: None, statement: str) -> None:
    first = ask(LINEAR)
    assert "results" in say(statement)
    second = ask(LINEAR)
    assert (second.evaluated, second.reused) == (2, 0)
    assert second.work["embedded_rows"] == first.work["embedded_rows"]
    assert second.ranking == first.ranking
    assert say("PURGE; PURGE") == "deleted nothing"


def test_one_model_is_purged_alone(here: None) -> None:
    ask(LINEAR)
    purged = Session().purge("all", model="bert")
    assert (purged["results"], purged["segments"] > 0) == (1, True)
    again = ask(LINEAR)
    assert (again.evaluated, again.reused) == (1, 1)
    assert again.work["embedded_rows"] > 0


def test_an_unknown_model_is_told_with_near_names(here: None) -> None:
    with pytest.raises(StoreError, match="no model named 'bret'") as caught:
        Session().purge("results", model="bret")
    assert "bert" in str(caught.value)


def test_an_unknown_thing_to_purge_is_told_with_what_there_is(here: None) -> None:
    ask(LINEAR)
    (answer,) = Session().run("PURGE result")
    assert isinstance(answer, ErrorAnswer)
    assert "results, features, all" in str(answer.error)


def test_a_query_leaves_nothing_for_the_doctor(here: None) -> None:
    ask(LINEAR)
    ask(F1)
    assert Session().examine() == {"restored": 0, "findings": []}


def test_a_rebuilt_index_answers_as_before_and_evaluates_nothing(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = ask(LINEAR), ask(F1)
    with Database(current_settings()).session() as session:
        session.execute(delete(EvaluationRecord))
        session.commit()
    found = Session().examine(rebuild=True)
    assert found == {"restored": 8, "findings": []}

    def refuse(*_: object) -> None:
        raise AssertionError("a flow was started")

    monkeypatch.setattr(run_module, "run_search", refuse)
    assert ask(LINEAR).ranking == first.ranking
    assert ask(F1).ranking == other.ranking


def test_files_that_are_gone_are_told_and_those_that_changed_are_read_again(
    here: None, catalog: Catalog, pool: Any, tmp_path: Path
) -> None:
    for name in ("bert", "roberta"):
        register_model(catalog, f"my-{name}", str(shutil.copytree(pool.models[name], tmp_path / name)))
    for split in ("train", "test"):
        copy = shutil.copy(pool.datasets[f"nature-{split}"], tmp_path / f"{split}.csv")
        register_dataset(catalog, f"my-{split}", str(copy))
    assert problems() == {}
    shutil.rmtree(tmp_path / "bert")
    config = tmp_path / "roberta" / "config.json"
    config.write_text(config.read_text() + "\n")
    (tmp_path / "train.csv").unlink()
    with (tmp_path / "test.csv").open("a") as file:
        file.write("one more moss,plants\n")
    gone = {
        "models whose files are gone or unreadable": ["my-bert"],
        "datasets whose files are gone or unreadable": ["my-train"],
    }
    changed = {"models whose files changed": ["my-roberta"], "datasets whose files changed": ["my-test"]}
    assert problems() == gone | changed
    assert problems(fix=True) == gone | changed
    assert problems() == gone
    assert catalog.dataset("my-test").num_rows == 25


def test_a_dataset_whose_manifest_is_lost_is_read_again(here: None, catalog: Catalog) -> None:
    manifest = current_settings().manifests / f"{catalog.dataset('nature-train').fingerprint}.npz"
    before = manifest.read_bytes()
    manifest.write_bytes(before[:50])
    assert set(problems()) == {"datasets whose manifest is gone or damaged", "damaged manifests"}
    assert set(problems(fix=True)) == {"datasets whose manifest is gone or damaged"}
    assert manifest.is_file()
    assert problems() == {}
