"""Which datasets and models a matrix is of."""

from __future__ import annotations

import pytest

from shiftql.benchmark import benchmarks_in, choose_benchmarks, chosen
from storage.catalog import DatasetRecord
from storage.errors import BindingError


def records(*names: str) -> list[DatasetRecord]:
    return [DatasetRecord(name=name) for name in names]


SPLITS = records(
    "digits-test", "digits-train", "mine", "topics-test", "topics-train", "/data/x", "/data/x#test", "a-test"
)


def names(written: str) -> list[str]:
    return [benchmark.name for benchmark in choose_benchmarks(written, SPLITS)]


def test_splits_that_go_together_are_one_dataset() -> None:
    found = [(each.name, each.train.name, each.test and each.test.name) for each in benchmarks_in(SPLITS)]
    assert found == [
        ("/data/x", "/data/x", "/data/x#test"),
        ("a-test", "a-test", None),
        ("digits", "digits-train", "digits-test"),
        ("mine", "mine", None),
        ("topics", "topics-train", "topics-test"),
    ]


def test_a_dataset_goes_by_its_common_name_a_splits_a_pattern_or_a_path() -> None:
    assert names("digits") == names("digits-train") == names("digits-test") == names("dig*") == ["digits"]
    assert names("*-test") == ["a-test"]
    assert names("topics, mine,/data/x") == ["/data/x", "mine", "topics"]
    assert names("*") == ["/data/x", "a-test", "digits", "mine", "topics"]


def test_a_name_with_the_letters_of_a_pattern_is_a_name() -> None:
    assert chosen("vit[1]", ["vit1", "vit[1]"], "model") == ["vit[1]"]


def test_what_is_nothing_is_told_with_what_may_be_meant() -> None:
    with pytest.raises(BindingError, match="no dataset 'digit'") as error:
        names("digit")
    assert error.value.fix == "did you mean digits?"
    with pytest.raises(BindingError, match="there are no models yet"):
        chosen("*", [], "model")
