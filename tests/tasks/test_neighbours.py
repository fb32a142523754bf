from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.neighbours import SearchStore
from tasks import neighbours
from tasks.neighbours import find_neighbours
from tasks.rankers.nearest_neighbour import nearest_lists, nearest_rows

HASHES = np.random.default_rng(0).integers(0, 256, (400, 16), dtype=np.uint8)
VECTORS = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)
# Few distances for many rows, and different rows with equal features.
COARSE = np.random.default_rng(2).integers(-2, 3, (400, 2)).astype(np.float32)


class Asked:
    """The same question again and again, of rows that have numbers here, and what was read to answer it."""

    def __init__(self, root: Path, vectors: np.ndarray = VECTORS, *, cosine: bool = False) -> None:
        self.store, self.vectors, self.cosine = SearchStore(root), vectors, cosine
        self.read: list[set[int]] = []

    def neighbours(self, train: list[int], test: list[int], k: int = 1) -> np.ndarray | None:
        numbers = {row.tobytes(): number for number, row in enumerate(HASHES)}
        self.read = []

        def features(hashes: np.ndarray) -> np.ndarray:
            rows = [numbers[row.tobytes()] for row in hashes]
            self.read.append(set(rows))
            return self.vectors[rows]

        return find_neighbours(self.store, "key", HASHES[train], HASHES[test], k, cosine=self.cosine, features=features)

    def from_scratch(self, train: list[int], test: list[int], k: int = 1) -> np.ndarray:
        return nearest_rows(self.vectors[train], self.vectors[test], k, cosine=self.cosine)


_ROWS = st.integers(0, 59)
_PLACES = st.integers(0, 1000)
_CHANGES = st.one_of(
    st.tuples(st.sampled_from(["replace", "insert", "test"]), _PLACES, _ROWS),
    st.tuples(st.sampled_from(["delete", "repeat", "rotate", "forget test"]), _PLACES, st.just(0)),
    st.tuples(st.just("append"), st.integers(1, 30), _ROWS),
    st.tuples(st.just("k"), st.integers(1, 12), st.just(0)),
)


def _change(
    kind: str, at: int, row: int, train: list[int], test: list[int], k: int
) -> tuple[list[int], list[int], int]:
    place, tested = at % len(train), at % len(test)
    match kind:
        case "replace":
            train = [*train[:place], row, *train[place + 1 :]]
        case "insert":
            train = [*train[:place], row, *train[place:]]
        case "append":
            train = [*train, *((row + more) % 60 for more in range(at))]
        case "delete" if len(train) > 1:
            train = train[:place] + train[place + 1 :]
        case "repeat":
            train = [*train, train[place]]
        case "rotate":
            train = train[place:] + train[:place]
        case "test":
            test = [*test[:tested], row, *test[tested:]]
        case "forget test" if len(test) > 1:
            test = test[:tested] + test[tested + 1 :]
        case "k":
            k = at
    return train, test, k


@settings(deadline=None, max_examples=60)
@given(
    start=st.tuples(st.lists(_ROWS, min_size=1, max_size=40), st.lists(_ROWS, min_size=1, max_size=6)),
    steps=st.lists(st.lists(_CHANGES, min_size=1, max_size=4), max_size=8),
    coarse=st.booleans(),
    cosine=st.booleans(),
)
def test_after_any_changes_the_neighbours_are_those_of_a_search_from_scratch(
    start: tuple[list[int], list[int]], steps: list[list[tuple[str, int, int]]], coarse: bool, cosine: bool
) -> None:
    (train, test), k = start, 1
    with TemporaryDirectory() as root:
        asked = Asked(Path(root), COARSE if coarse else VECTORS, cosine=cosine)
        for step in [[], *steps]:
            for kind, at, row in step:
                train, test, k = _change(kind, at, row, train, test, k)
            found = asked.neighbours(train, test, k)
            if k > len(train):
                assert found is None
            else:
                np.testing.assert_array_equal(found, asked.from_scratch(train, test, k))


TRAIN, TEST = list(range(200)), list(range(300, 320))


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """A question about TRAIN and TEST that was answered before."""
    asked = Asked(tmp_path)
    np.testing.assert_array_equal(asked.neighbours(TRAIN, TEST), asked.from_scratch(TRAIN, TEST))
    assert asked.read == [set(TRAIN), set(TEST)]
    return asked


def test_the_same_rows_are_not_searched_again(asked: Asked) -> None:
    asked.neighbours(TRAIN, TEST)
    assert asked.read == []


def test_rows_in_another_order_are_not_searched_again(asked: Asked) -> None:
    train, test = TRAIN[::-1], TEST[::-1]
    np.testing.assert_array_equal(asked.neighbours(train, test), asked.from_scratch(train, test))
    assert asked.read == []


@pytest.mark.parametrize("at", [0, 77, 200])
def test_of_more_training_rows_only_the_new_ones_are_searched(asked: Asked, at: int) -> None:
    train = [*TRAIN[:at], 250, 251, 252, *TRAIN[at:]]
    np.testing.assert_array_equal(asked.neighbours(train, TEST), asked.from_scratch(train, TEST))
    assert asked.read == [{250, 251, 252}, set(TEST)]


def test_of_replaced_training_rows_only_the_new_ones_are_searched(asked: Asked) -> None:
    nearest = np.unique(asked.from_scratch(TRAIN, TEST))[:5].tolist()
    train = [250 + row if row in nearest else row for row in TRAIN]
    np.testing.assert_array_equal(asked.neighbours(train, TEST), asked.from_scratch(train, TEST))
    assert asked.read == [{250 + row for row in nearest} & set(train), set(TEST)]


def test_fewer_training_rows_and_more_of_the_same_are_not_searched(asked: Asked) -> None:
    nearest = asked.from_scratch(TRAIN, TEST)[:3, 0].tolist()
    train = [row for row in TRAIN if row not in nearest] + TRAIN[100:150]
    np.testing.assert_array_equal(asked.neighbours(train, TEST, 4), asked.from_scratch(train, TEST, 4))
    assert asked.read == []


def test_a_test_row_whose_neighbours_are_gone_is_searched_again_alone(asked: Asked) -> None:
    nearest = nearest_lists(VECTORS[TRAIN], VECTORS[TEST[:1]], 1, cosine=False)[0]
    train = [row for row in TRAIN if row not in nearest]
    np.testing.assert_array_equal(asked.neighbours(train, TEST), asked.from_scratch(train, TEST))
    assert asked.read == [set(train), {TEST[0]}]


def test_of_changed_test_rows_only_the_new_ones_are_searched(asked: Asked) -> None:
    test = [330, *TEST[1:], 331]
    np.testing.assert_array_equal(asked.neighbours(TRAIN, test), asked.from_scratch(TRAIN, test))
    assert asked.read == [set(TRAIN), {330, 331}]


def test_a_few_more_neighbours_are_known_and_many_more_are_searched(asked: Asked) -> None:
    np.testing.assert_array_equal(asked.neighbours(TRAIN, TEST, 6), asked.from_scratch(TRAIN, TEST, 6))
    assert asked.read == []
    np.testing.assert_array_equal(asked.neighbours(TRAIN, TEST, 30), asked.from_scratch(TRAIN, TEST, 30))
    assert asked.read == [set(TRAIN), set(TEST)]


def test_the_search_that_shares_most_is_gone_on_with(asked: Asked) -> None:
    asked.neighbours(TRAIN[:20], TEST)
    asked.neighbours([*TRAIN, 250], TEST)
    assert asked.read == [{250}, set(TEST)]


@pytest.mark.parametrize("kept", [0, 1, 20, 100, 190])
def test_never_more_pairs_are_compared_than_from_scratch(
    asked: Asked, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def counted(train: np.ndarray, test: np.ndarray, k: int, *, cosine: bool) -> tuple[np.ndarray, np.ndarray]:
        compared.append(len(train) * len(test))
        return nearest_lists(train, test, k, cosine=cosine)

    monkeypatch.setattr(neighbours, "nearest_lists", counted)
    train = TRAIN[:kept] + list(range(200, 400 - kept))
    np.testing.assert_array_equal(asked.neighbours(train, TEST), asked.from_scratch(train, TEST))
    assert 0 < sum(compared) <= len(train) * len(TEST)


def test_what_cannot_be_kept_is_searched_again(asked: Asked, tmp_path: Path) -> None:
    (kept,) = (tmp_path / "key").glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:-1])
    np.testing.assert_array_equal(asked.neighbours(TRAIN, TEST), asked.from_scratch(TRAIN, TEST))
    assert asked.read == [set(TRAIN), set(TEST)]


@pytest.mark.parametrize("wrong", [5, 300])
def test_features_that_are_not_finite_are_left_to_the_ranker(tmp_path: Path, wrong: int) -> None:
    vectors = VECTORS.copy()
    vectors[wrong, 0] = np.nan
    assert Asked(tmp_path, vectors).neighbours(TRAIN, TEST) is None


@pytest.fixture
def few_positions(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr(neighbours, "_BLOCK_POSITIONS", count)


def test_rows_that_occur_often_are_counted_as_often(asked: Asked, few_positions: Callable[[int], None]) -> None:
    few_positions(1)
    train = TRAIN[:50] * 7
    np.testing.assert_array_equal(asked.neighbours(train, TEST, 10), asked.from_scratch(train, TEST, 10))
