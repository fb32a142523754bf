"""Published results are rows beside one's own, and are never mixed with them or with each other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import func, select

from shiftql.answering import answer_average, answer_rows
from shiftql.binder import bind
from shiftql.bound import BoundAverage, BoundQuery
from shiftql.engine import Session
from shiftql.published import ORIGINS, RECORDS_VERSION, TABLES, keep_published, read_published
from shiftql.script import read_script
from storage.catalog import Catalog
from storage.database import Database
from storage.evaluations import Evaluation, Measurement, Subject
from storage.fingerprints import fingerprint_of
from storage.published import PublishedRecord
from storage.results import ResultStore
from storage.settings import current_settings

# Registered models, and what their names and handles are.
REGISTERED = {
    "my-vit": "google/vit-base-patch16-224",
    "facebook--convnext-tiny-224": None,
    "google-bert/bert-base-uncased": "google-bert/bert-base-uncased",
}
OWN = {("my-vit", "caltech101"): 0.99, ("my-vit", "digits-train"): 0.2, ("vit-letters", "digits-train"): 0.1}


@pytest.fixture(scope="module")
def filled(own_database: Database) -> Database:
    """Some models and datasets go by published names, and some of them are measured here."""
    catalog = Catalog(own_database)
    for name, handle in REGISTERED.items():
        columns = {"path": "", "signature": "", "fingerprint": f"fingerprint of {name}", "source": "huggingface"}
        catalog.save_model(name, {**columns, "modality": "image", "handle": handle})
    columns = {"path": "", "type": "csv", "signature": "", "fingerprint": "fingerprint of caltech101"}
    told = {"modality": "image", "task": "classification", "num_rows": 9, "num_classes": 3}
    catalog.save_dataset("caltech101", {**columns, **told})
    results = ResultStore(own_database)
    for (model, dataset), accuracy in OWN.items():
        subjects = (Subject(name, f"fingerprint of {name}") for name in (model, dataset))
        claim = results.claim(Evaluation(*subjects, None, "finetune", "1"))
        assert claim is not None
        results.record(claim, Measurement("completed", 1.0, metric="accuracy", value=accuracy))
    keep_published(own_database)
    return own_database


def bound(text: str, database: Database) -> Any:
    question, declared = read_script(text)
    return bind(question, database, text, declared)


def rows(text: str, database: Database) -> list[tuple[Any, ...]]:
    question = bound(text, database)
    assert isinstance(question, BoundQuery)
    return [tuple(row.values()) for row in answer_rows(question, database).rows]


# --- what is shipped --------------------------------------------------------------------------------------------------


def test_changed_records_have_another_version() -> None:
    published = read_published()
    content = fingerprint_of([sorted(row.items()) for row in published.results], sorted(published.spellings.items()))
    assert (RECORDS_VERSION, content) == (1, "1976cb91bca9661382a9c81599d75b98"), (
        "raise RECORDS_VERSION and write the new hash here"
    )


def test_every_table_has_rows_and_a_result_is_there_once() -> None:
    results = list(read_published().results)
    assert {row["origin"] for row in results} == {table.name for table in TABLES} == set(ORIGINS[1:])
    keys = Counter((row["origin"], row["dataset_name"], row["model_name"], row["method"]) for row in results)
    assert max(keys.values()) == 1


def test_a_curve_is_by_epoch_and_the_value_is_of_the_test() -> None:
    (row,) = (
        row
        for row in read_published().results
        if (row["origin"], row["dataset_name"], row["model_name"])
        == ("curves_nlp", "ag_news", "18811449050/bert_finetuning_test")
    )
    assert row["value"] == 0.86645
    assert row["curve"].startswith("[0.8345, 0.8565, 0.847, ")


# --- a home -----------------------------------------------------------------------------------------------------------


def in_home() -> int:
    with Database(current_settings()).session() as session:
        return session.exec(select(func.count()).select_from(PublishedRecord)).one()


def test_a_fresh_home_shows_them_offline(home: Path) -> None:
    text = "SELECT * FROM benchmark_results WHERE dataset_name = 'caltech101' ORDER BY accuracy DESC LIMIT 5"
    (answer,) = Session().run(text)
    found = answer.to_json()["rows"]
    assert [row["model_name"] for row in found][:2] == [
        "ibombonato/vit-age-classifier",
        "facebook/convnext-base-224-22k",
    ]
    assert {row["origin"] for row in found} == {"vision_1k"}
    assert all("arXiv 2204.01457" in row["protocol"] for row in found)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT name FROM models WHERE model_id IN (SELECT model_id FROM benchmark_results)",
        "DECLARE best AS SELECT model_name FROM BenchmarkResults; PRINT best",
        "EXPLAIN SELECT model_name FROM models NATURAL JOIN benchmark_results",
    ],
)
def test_whoever_asks_for_results_brings_them(text: str, home: Path) -> None:
    assert [answer.kind for answer in Session().run(text)][-1] != "error"
    assert in_home() == len(list(read_published().results))


def test_nobody_else_pays_for_them(home: Path) -> None:
    assert [answer.kind for answer in Session().run("SELECT name FROM models; SHOW DATASETS")] == ["rows", "rows"]
    assert in_home() == 0


# --- beside one's own -------------------------------------------------------------------------------------------------


def test_what_was_measured_here_comes_first(filled: Database) -> None:
    found = rows("SELECT model_name, dataset_name, accuracy, origin FROM benchmark_results", filled)
    assert [row[3] for row in found[: len(OWN) + 1]] == ["measured"] * len(OWN) + ["vision_1k"]
    assert {(model, dataset): accuracy for model, dataset, accuracy, _ in found[: len(OWN)]} == OWN


def test_own_rows_have_no_protocol_and_published_ones_no_dataset_of_the_catalog(filled: Database) -> None:
    own = rows("SELECT dataset_id, protocol FROM benchmark_results WHERE origin = measured", filled)
    assert all(number is not None and protocol is None for number, protocol in own)
    published = rows("SELECT dataset_id, protocol FROM benchmark_results WHERE origin != measured", filled)
    assert all(number is None and protocol for number, protocol in published)


@pytest.mark.parametrize("name", REGISTERED)
def test_a_registered_model_is_the_published_one_of_its_name_or_handle(name: str, filled: Database) -> None:
    joined = "SELECT name, model_name FROM models NATURAL JOIN benchmark_results WHERE origin != measured"
    found = rows(f"{joined} AND name = '{name}'", filled)
    assert found
    assert set(found) == {(name, name)}


def test_a_published_result_is_there_once_however_a_model_is_called(filled: Database) -> None:
    name = "google-bert/bert-base-uncased"
    text = f"SELECT origin, dataset_name, method FROM benchmark_results WHERE model_name = '{name}'"
    found = Counter(rows(text, filled))
    assert found
    assert max(found.values()) == 1


def test_a_group_is_of_one_origin_and_ones_own_goes_before(filled: Database) -> None:
    text = "SELECT dataset_name, model_name, origin FROM benchmark_results WHERE method = finetune"
    found = rows(f"{text} RETRIEVE 2 GRP dataset_name ORD accuracy DESC", filled)
    groups: dict[str, list[tuple[str, str]]] = {}
    for dataset, model, origin in found:
        groups.setdefault(dataset, []).append((model, origin))
    assert groups["caltech101"] == [("my-vit", "measured")]
    assert groups["digits-train"] == [("my-vit", "measured"), ("vit-letters", "measured")]
    assert {origin for _, origin in groups["ag_news"]} == {"text_full"}
    assert all(len({origin for _, origin in group}) == 1 and len(group) <= 2 for group in groups.values())


def test_whoever_names_an_origin_gets_that(filled: Database) -> None:
    text = "SELECT dataset_name, model_name FROM benchmark_results WHERE origin = vision_1k"
    found = dict(rows(f"{text} RETRIEVE 1 GRP dataset_name ORD accuracy DESC", filled))
    assert found["caltech101"] == "ibombonato/vit-age-classifier"
    assert len(found) == 19


def test_what_is_not_registered_is_grouped_by_its_name(filled: Database) -> None:
    text = "SELECT dataset_name FROM benchmark_results WHERE origin = vision_1k"
    found = rows(f"{text} RETRIEVE 3 GRP dataset_id ORD accuracy DESC", filled)
    assert Counter(found) == dict.fromkeys(set(found), 3)
    assert len(set(found)) == 19


def test_origins_stay_apart_also_in_what_a_query_selects_from(filled: Database) -> None:
    inner = "SELECT dataset_name, model_name, accuracy FROM benchmark_results WHERE method = finetune"
    text = f"SELECT dataset_name, model_name FROM ({inner}) RETRIEVE 5 GRP dataset_name ORD accuracy DESC"
    assert [model for dataset, model in rows(text, filled) if dataset == "caltech101"] == ["my-vit"]


def test_a_statistic_over_a_set_of_datasets_is_of_what_was_measured_here(filled: Database) -> None:
    text = "SELECT name FROM models ORDER BY AVG(accuracy) TESTED ON BENCHMARK [caltech101]"
    question = bound(text, filled)
    assert isinstance(question, BoundAverage)
    (ranking,) = answer_average(question, filled).rankings.values()
    assert [(row["model"], row["score"]) for row in ranking] == [("my-vit", 0.99)]


def test_a_join_with_datasets_is_of_ones_own(filled: Database) -> None:
    text = (
        "SELECT models.name, datasets.name AS dataset FROM models NATURAL JOIN benchmark_results NATURAL JOIN datasets"
    )
    assert set(rows(text, filled)) == set(OWN)


def test_what_is_no_accuracy_is_not_shown_as_one(filled: Database) -> None:
    text = "SELECT metric, accuracy FROM benchmark_results WHERE dataset_name = 'cola' OR method = leep"
    assert set(rows(text, filled)) == {("matthews_correlation", None), ("leep", None)}
