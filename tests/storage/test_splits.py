from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.derivation import rows_in
from storage.errors import StoreError
from storage.manifests import Manifest
from storage.splits import count_shared, held_out

COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=5).filter(lambda counts: max(counts) > 1)


def _manifest(counts: Sequence[int], start: int = 0) -> Manifest:
    """Distinct rows, so many of each class, the classes mixed."""
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(len(counts)), counts))
    hashes = np.zeros((len(labels), 16), dtype=np.uint8)
    hashes[:, :8] = np.arange(start, start + len(labels), dtype="<u8").view(np.uint8).reshape(-1, 8)
    return Manifest(hashes, labels, tuple(f"class {number}" for number in range(len(counts))))


def _content(manifest: Manifest, rows: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in manifest.row_hashes[rows]}


@given(COUNTS, st.integers(-3, 3))
def test_a_held_out_split_is_disjoint_complete_stratified_and_in_order(counts: list[int], seed: int) -> None:
    manifest = _manifest(counts)
    train, test = (rows_in(spans) for spans in held_out(manifest, seed=seed))
    assert sorted([*train, *test]) == list(range(sum(counts)))
    assert (train == np.sort(train)).all()
    assert (test == np.sort(test)).all()
    for label, count in enumerate(counts):
        held = int((manifest.labels[test] == label).sum())
        assert abs(held - 0.2 * count) <= 0.5 or held == 1
        assert (1 <= held < count) or held == count - 1 == 0


@given(COUNTS)
def test_the_same_seed_draws_the_same_rows(counts: list[int]) -> None:
    assert held_out(_manifest(counts), seed=3) == held_out(_manifest(counts), seed=3)


def test_the_rows_drawn_are_the_same_everywhere() -> None:
    assert held_out(_manifest([6, 4]))[1] == ((2, 3), (6, 7))


def test_another_seed_draws_other_rows() -> None:
    tests = {held_out(_manifest([50, 50]), seed=seed)[1] for seed in range(10)}
    assert len(tests) == 10


def test_the_share_is_of_each_class() -> None:
    manifest = _manifest([40, 20])
    test = rows_in(held_out(manifest, share=0.25)[1])
    assert np.bincount(manifest.labels[test]).tolist() == [10, 5]


def test_what_is_drawn_does_not_depend_on_the_order_of_rows() -> None:
    manifest = _manifest([30, 20])
    order = np.random.RandomState(1).permutation(50)
    shuffled = Manifest(manifest.row_hashes[order], manifest.labels[order], manifest.classes)
    drawn = [_content(each, rows_in(held_out(each)[1])) for each in (manifest, shuffled)]
    assert drawn[0] == drawn[1]


def test_most_rows_stay_where_they_were_when_rows_are_added() -> None:
    manifest, more = _manifest([200]), _manifest([20], start=200)
    grown = Manifest(
        np.concatenate([manifest.row_hashes, more.row_hashes]), np.zeros(220, dtype=np.int64), manifest.classes
    )
    before, after = (_content(each, rows_in(held_out(each)[1])) for each in (manifest, grown))
    assert len(before & after) >= 0.8 * len(before)


@pytest.mark.parametrize("task", ["regression", "multilabel_classification", "token_classification"])
def test_where_a_row_has_not_one_class_a_share_of_all_rows_is_held_out(task: str) -> None:
    plain = _manifest([50])
    labels = {
        "regression": np.linspace(0, 1, 50),
        "multilabel_classification": np.ones((50, 2), dtype=bool),
        "token_classification": np.zeros(100, dtype=np.int64),
    }[task]
    lengths = np.full(50, 2) if task == "token_classification" else None
    manifest = Manifest(plain.row_hashes, labels, ("A", "B"), task, lengths)
    train, test = (rows_in(spans) for spans in held_out(manifest))
    assert len(test) == 10
    assert sorted([*train, *test]) == list(range(50))
    assert held_out(manifest) == held_out(plain)


@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 9), min_size=1))
def test_shared_rows_are_counted_on_the_side_of_the_test(train: list[int], test: list[int]) -> None:
    rows = _manifest([10])
    shared = count_shared(rows.take(np.array(train)), rows.take(np.array(test)))
    assert shared == sum(row in train for row in test)


def test_rows_that_differ_in_their_last_byte_are_not_shared() -> None:
    zero, one = (
        Manifest(np.full((1, 16), end, np.uint8) * (np.arange(16) == 15), np.array([0]), ("a",)) for end in (0, 1)
    )
    assert count_shared(zero, one) == 0
    assert count_shared(zero, zero) == 1


def test_classes_of_a_single_row_leave_nothing_to_test_on() -> None:
    with pytest.raises(StoreError, match="no test rows can be held out") as caught:
        held_out(_manifest([1, 1, 1]))
    assert "TESTED ON" in (caught.value.fix or "")
