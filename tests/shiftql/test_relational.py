"""Joins, sub-selects, set operations and RETRIEVE, on every database."""

from __future__ import annotations

from typing import Any

import pytest

from shiftql.answering import answer_rows
from shiftql.binder import bind
from shiftql.bound import BoundQuery, BoundRanking, Ranked
from shiftql.script import read_script
from storage.database import Database
from storage.errors import BindingError
from storage.evaluations import Evaluation, Measurement, Subject
from storage.results import ResultStore

ACCURACIES = {
    ("vit-letters", "digits-train"): 0.9,
    ("resnet-noise", "digits-train"): 0.5,
    ("hub-mobile", "digits-train"): 0.7,
    ("bert-old", "reviews-train"): 0.8,
    ("odd'; DROP", "reviews-train"): 0.6,
}
IMAGES = ["hub-mobile", "resnet-noise", "vit-letters"]
TEXTS = ["bert-old", "odd'; DROP"]
DIGITS = "TRAINED ON digits-train TESTED ON digits-test"


@pytest.fixture(scope="module")
def measured(own_database: Database) -> Database:
    """Results of fine-tuning, and a worse one of other arguments, of every model on one dataset."""
    results = ResultStore(own_database)
    for (model, dataset), accuracy in ACCURACIES.items():
        for worse in (0.0, 0.1):
            train = Subject(dataset, f"fingerprint of {dataset}")
            subject = Subject(model, f"fingerprint of {model}")
            evaluation = Evaluation(subject, train, None, "finetune", "1", {"lr": worse})
            claim = results.claim(evaluation)
            assert claim is not None
            results.record(claim, Measurement("completed", 1.0, metric="accuracy", value=accuracy - worse))
    return own_database


def ranked(question: BoundRanking) -> Ranked:
    """Every ranking as if its models were best in the reverse order of their names."""
    models = sorted(question.models, key=lambda model: model.name, reverse=True)
    rows = [(model.model_id or 0, rank, 1 / rank) for rank, model in enumerate(models, start=1)]
    return Ranked(tuple(rows[: question.limit]), is_known=True)


def rows(text: str, database: Database) -> list[tuple[Any, ...]]:
    question, declared = read_script(text)
    bound = bind(question, database, text, declared, ranked)
    assert isinstance(bound, BoundQuery)
    return [tuple(row.values()) for row in answer_rows(bound, database).rows]


def names(text: str, database: Database) -> list[str]:
    return [row[0] for row in rows(text, database)]


def test_a_natural_join_compares_columns_of_the_same_thing(measured: Database) -> None:
    found = rows("SELECT name, accuracy FROM models NATURAL JOIN benchmark_results ORDER BY accuracy DESC", measured)
    best = sorted(((model, accuracy) for (model, _), accuracy in ACCURACIES.items()), key=lambda row: -row[1])
    assert [(name, pytest.approx(accuracy)) for name, accuracy in found] == best


def test_three_relations_join(measured: Database) -> None:
    text = (
        "SELECT models.name, datasets.name AS dataset FROM models NATURAL JOIN benchmark_results NATURAL JOIN datasets"
        " WHERE datasets.modality = text"
    )
    assert rows(text, measured) == [(name, "reviews-train") for name in TEXTS]


def test_a_name_of_two_relations_must_say_whose(measured: Database) -> None:
    with pytest.raises(BindingError, match=r"either of 2 columns"):
        rows("SELECT name FROM models NATURAL JOIN benchmark_results NATURAL JOIN datasets", measured)


def test_retrieve_is_the_best_of_every_group(measured: Database) -> None:
    text = "SELECT dataset_name, model_name FROM BenchmarkResults RETRIEVE 2 GRP DataReaderId ORD Accuracy DESC"
    assert sorted(rows(text, measured)) == [
        ("digits-train", "hub-mobile"),
        ("digits-train", "vit-letters"),
        ("reviews-train", "bert-old"),
        ("reviews-train", "odd'; DROP"),
    ]
    lowest = text.replace("2 GRP", "1 GRP").replace("DESC", "ASC")
    assert sorted(rows(lowest, measured)) == [("digits-train", "resnet-noise"), ("reviews-train", "odd'; DROP")]


def test_a_result_of_several_arguments_counts_once_and_at_its_best(measured: Database) -> None:
    found = rows("SELECT model_name, accuracy FROM benchmark_results", measured)
    assert dict(found) == {model: pytest.approx(accuracy) for (model, _), accuracy in ACCURACIES.items()}
    assert len(found) == len(ACCURACIES)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("UNION", sorted([*IMAGES, *TEXTS])),
        ("UNION ALL", sorted([*IMAGES, *TEXTS, "vit-letters"])),
        ("INTERSECT", ["vit-letters"]),
        ("EXCEPT", ["hub-mobile", "resnet-noise"]),
    ],
)
def test_set_operations_are_those_of_sets(operation: str, expected: list[str], measured: Database) -> None:
    others = "SELECT name FROM models WHERE modality = text OR name = vit-letters"
    assert names(f"SELECT name FROM image_models {operation} {others}", measured) == expected


def test_intersect_binds_more_tightly_than_union(measured: Database) -> None:
    text = (
        "SELECT name FROM text_models UNION SELECT name FROM image_models"
        " INTERSECT SELECT name FROM models WHERE trusted"
    )
    assert names(text, measured) == [*TEXTS, "vit-letters"]


def test_members_of_a_query_are_in_it_and_the_others_are_not(measured: Database) -> None:
    inner = "SELECT model_id FROM benchmark_results WHERE accuracy > 0.65"
    assert names(f"SELECT name FROM models WHERE model_id IN ({inner})", measured) == [
        "bert-old",
        "hub-mobile",
        "vit-letters",
    ]
    assert names(f"SELECT name FROM models WHERE model_id NOT IN ({inner})", measured) == ["odd'; DROP", "resnet-noise"]


def test_not_in_knows_nothing_of_rows_without_a_value(measured: Database) -> None:
    text = "SELECT name FROM models WHERE embedding_dim NOT IN (SELECT embedding_dim FROM text_models)"
    assert names(text, measured) == IMAGES


def test_a_scalar_query_is_compared_by_its_only_row(measured: Database) -> None:
    text = "SELECT name FROM models WHERE num_params > (SELECT num_params FROM models WHERE name = hub-mobile LIMIT 1)"
    assert names(text, measured) == ["bert-old", "resnet-noise"]


def test_a_declared_name_means_its_query_and_keeps_what_it_meant(measured: Database) -> None:
    text = (
        "DECLARE x AS SELECT name FROM models WHERE modality = image;"
        "DECLARE y AS SELECT name FROM x WHERE name LIKE 'R%';"
        "DECLARE x AS SELECT name FROM text_models;"
        "PRINT y UNION x"
    )
    assert names(text, measured) == ["bert-old", "odd'; DROP", "resnet-noise"]


def test_other_than_leaves_out_models_queries_and_names(measured: Database) -> None:
    assert names("SELECT name FROM image_models OTHER THAN vit-letters", measured) == ["hub-mobile", "resnet-noise"]
    declared = "DECLARE small AS SELECT * FROM models WHERE num_params < 1M;"
    assert names(f"{declared} SELECT name FROM image_models OTHER THAN small", measured) == ["resnet-noise"]
    declared += "DECLARE images AS SELECT name FROM image_models;"
    assert names(f"{declared} PRINT images OTHER THAN small", measured) == ["resnet-noise"]


def test_other_than_the_first_distinct_rows_is_what_is_in_none_of_them(measured: Database) -> None:
    # The first three pairs are of one dataset.
    pairs = "SELECT DISTINCT dataset_name, model_name FROM benchmark_results ORDER BY dataset_name LIMIT 3"
    assert rows(pairs, measured) == [("digits-train", name) for name in IMAGES]
    others = names(f"SELECT name FROM datasets OTHER THAN ({pairs})", measured)
    assert others == ["digits-test", "prices", "reviews-test", "reviews-train"]


def test_a_ranking_is_selected_from_in_its_order(measured: Database) -> None:
    ranking = f"SELECT name FROM models ORDER BY Linear {DIGITS} LIMIT 2"
    assert rows(f"SELECT rank, name FROM ({ranking})", measured) == [(1, "vit-letters"), (2, "resnet-noise")]
    assert names(f"SELECT name FROM ({ranking}) WHERE score < 1", measured) == ["resnet-noise"]
    assert names(f"SELECT name FROM models WHERE name IN ({ranking}) OTHER THAN ({ranking})", measured) == []


def test_a_ranking_of_no_models_is_empty(measured: Database) -> None:
    ranking = f"SELECT name FROM models WHERE num_params < 0 ORDER BY Linear {DIGITS}"
    assert rows(f"SELECT name FROM ({ranking})", measured) == []


def test_rows_can_be_ordered_by_what_they_are_selected_as(measured: Database) -> None:
    text = "SELECT name, num_params AS size FROM models ORDER BY size DESC LIMIT 2"
    assert rows(text, measured) == [("bert-old", 110_000_000), ("resnet-noise", 25_000_000)]


def test_distinct_rows_come_once_and_in_order(measured: Database) -> None:
    assert names("SELECT DISTINCT modality FROM models ORDER BY modality DESC", measured) == ["text", "image"]
