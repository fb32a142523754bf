from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.names import fold, near

CANDIDATES = ["Euclidean NN", "Cosine NN", "Linear", "FineTune", "num_params", "image_size"]


@pytest.mark.parametrize("spelling", ["Cosine NN", "CosineNN", "cosine_nn", "COSINE-NN", "cosinenn"])
def test_spellings_of_one_name_fold_to_one_key(spelling: str) -> None:
    assert fold(spelling) == "cosinenn"


@given(st.text())
def test_folding_twice_changes_nothing_more(name: str) -> None:
    assert fold(fold(name)) == fold(name)


@given(st.sampled_from(CANDIDATES), st.data())
def test_a_name_with_a_letter_missing_is_found_first(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name) - 1))
    assert near(name[:place] + name[place + 1 :], CANDIDATES)[0] == name


def test_a_candidate_is_proposed_as_it_is_written_and_once() -> None:
    assert near("Fine Tunes", ["FineTune", "fine_tune", "Linear"]) == ["FineTune"]


def test_nothing_is_proposed_for_a_name_unlike_all() -> None:
    assert near("xyzzy", CANDIDATES) == []
    assert near("", CANDIDATES) == []


def test_no_more_is_proposed_than_asked_for() -> None:
    assert len(near("name", ["name1", "name2", "name3", "name4"], limit=2)) == 2


def test_names_in_any_script_differ_where_their_letters_do() -> None:
    assert len({fold(name) for name in ("宽", "高", "größe", "grobe", "+", "-")}) == 6
    assert fold("Größe_1") == fold("größe 1")
