from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.derivation import change_parts, derive, rows_in, rows_of, spans_of
from storage.errors import StoreError
from storage.evaluations import Subject
from storage.manifests import Manifest, ordered_classes, save_manifest
from storage.parts import Part, whole

# A row is a byte, its label a word.
Rows = list[tuple[int, str]]
FIRST: Rows = [(1, "ant"), (2, "bee"), (3, "ant"), (4, "bee"), (5, "ant")]
SECOND: Rows = [(6, "cat"), (2, "bee"), (7, "bee"), (3, "cat")]
ROWS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["ant", "bee", "9", "10"])), min_size=1, max_size=8)


def manifest_of(rows: Rows) -> Manifest:
    """The manifest that a file with these rows has."""
    hashes = np.array([[byte] * 16 for byte, _ in rows], dtype=np.uint8)
    classes = ordered_classes(label for _, label in rows)
    return Manifest(hashes, np.array([classes.index(label) for _, label in rows], dtype=np.int64), classes)


def registered(root: Path, name: str, rows: Rows) -> Part:
    manifest = manifest_of(rows)
    save_manifest(root, manifest)
    return whole(Subject(name, manifest.fingerprint), len(rows))


def _rows(manifest: Manifest) -> Rows:
    return list(zip(manifest.row_hashes[:, 0].tolist(), manifest.targets.tolist(), strict=True))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifests")


@pytest.fixture
def first(root: Path) -> Part:
    return registered(root, "first", FIRST)


@pytest.fixture
def second(root: Path) -> Part:
    return registered(root, "second", SECOND)


def test_a_single_whole_part_is_the_dataset_itself(root: Path, first: Part) -> None:
    assert derive(root, [first]).fingerprint == first.dataset.fingerprint


def test_concatenation_keeps_rows_in_order_and_labels_by_name(root: Path, first: Part, second: Part) -> None:
    together = derive(root, [first, second])
    assert together.classes == ("ant", "bee", "cat")
    assert _rows(together) == FIRST + SECOND
    assert derive(root, [second, first]).fingerprint != together.fingerprint


def test_changed_rows_stand_in_the_places_of_those_they_replace(root: Path, first: Part, second: Part) -> None:
    changes = [([4, 1], second.dataset, [0, 3]), ([0], first.dataset, [4])]
    parts = change_parts(first.dataset, first.num_rows, changes)
    assert _rows(derive(root, parts)) == [FIRST[4], SECOND[3], FIRST[2], FIRST[3], SECOND[0]]
    assert sum(part.num_rows for part in parts) == len(FIRST)


def test_replacing_a_row_by_an_equal_one_changes_nothing(root: Path, first: Part, second: Part) -> None:
    by_its_like = change_parts(first.dataset, first.num_rows, [([1], second.dataset, [1])])
    assert derive(root, by_its_like).fingerprint == first.dataset.fingerprint
    assert change_parts(first.dataset, first.num_rows, [([1, 2], first.dataset, [1, 2])]) == (first,)


def test_a_class_whose_last_row_was_replaced_is_gone(root: Path, first: Part, second: Part) -> None:
    parts = change_parts(second.dataset, second.num_rows, [([0, 3], first.dataset, [1, 1])])
    assert derive(root, parts).classes == ("bee",)


@given(ROWS, ROWS, st.data())
def test_equal_content_has_one_fingerprint_whatever_way_it_was_made(
    root: Path, ours: Rows, theirs: Rows, data: st.DataObject
) -> None:
    d, e = registered(root, "d", ours), registered(root, "e", theirs)
    rows = data.draw(st.lists(st.sampled_from(range(len(ours))), min_size=1, unique=True))
    by_rows = data.draw(st.lists(st.sampled_from(range(len(theirs))), min_size=len(rows), max_size=len(rows)))
    changed = change_parts(d.dataset, d.num_rows, [(rows, e.dataset, by_rows)])
    written = list(ours)
    for row, by_row in zip(rows, by_rows, strict=True):
        written[row] = theirs[by_row]
    assert derive(root, changed).fingerprint == manifest_of(written).fingerprint
    assert derive(root, [*changed, e]).fingerprint == manifest_of(written + theirs).fingerprint


@given(ROWS, st.data())
def test_rows_are_taken_in_the_order_asked_for(root: Path, ours: Rows, data: st.DataObject) -> None:
    d = registered(root, "d", ours)
    rows = data.draw(st.lists(st.sampled_from(range(len(ours))), min_size=1))
    taken = derive(root, [Part(d.dataset, spans_of(np.array(rows)))])
    assert _rows(taken) == [ours[row] for row in rows]


@given(ROWS, st.integers(1, len(FIRST)))
def test_a_dataset_put_together_from_its_pieces_is_the_same(root: Path, ours: Rows, cut: int) -> None:
    d = registered(root, "d", [*ours, *FIRST])
    pieces = [Part(d.dataset, (span,)) for span in ((0, cut), (cut, d.num_rows))]
    assert derive(root, pieces).fingerprint == d.dataset.fingerprint


@given(st.lists(st.integers(0, 20), min_size=1))
def test_spans_stand_for_rows_in_their_order(rows: list[int]) -> None:
    spans = spans_of(np.array(rows))
    assert rows_in(spans).tolist() == rows
    assert all(stop != start for (_, stop), (start, _) in pairwise(spans))


def test_the_hashes_of_spans_are_those_of_their_rows() -> None:
    assert rows_of(((3, 5), (0, 1)), manifest_of(FIRST))[:, 0].tolist() == [4, 5, 1]


@pytest.mark.parametrize(("span", "row"), [((0, 6), 5), ((7, 9), 7), ((-1, 2), -1)])
def test_rows_that_a_dataset_lacks_are_named(root: Path, first: Part, span: tuple[int, int], row: int) -> None:
    with pytest.raises(StoreError, match=f"first has 5 rows and no row {row}") as caught:
        derive(root, [first, Part(first.dataset, (span,))])
    assert caught.value.fix == "rows count from 0 to 4"


def test_words_come_with_their_rows(root: Path) -> None:
    hashes = np.arange(48, dtype=np.uint8).reshape(3, 16)
    tagged = Manifest(hashes, np.array([0, 1, 1, 0]), ("A", "B"), "token_classification", np.array([1, 2, 1]))
    save_manifest(root, tagged)
    subject = Subject("tagged", tagged.fingerprint)
    changed = derive(root, change_parts(subject, 3, [([0], subject, [1])]))
    assert changed.targets.tolist() == ["B", "B", "B", "B", "A"]
    assert changed.lengths is not None
    assert changed.lengths.tolist() == [2, 2, 1]


def test_datasets_of_different_tasks_are_not_put_together(root: Path, first: Part) -> None:
    numbers = Manifest(np.zeros((2, 16), np.uint8), np.array([0.5, 1.5]), (), "regression")
    save_manifest(root, numbers)
    with pytest.raises(StoreError, match="classification and rows for regression are no dataset"):
        derive(root, [first, whole(Subject("numbers", numbers.fingerprint), 2)])


def test_a_change_of_rows_that_are_not_there_names_them(root: Path, first: Part, second: Part) -> None:
    with pytest.raises(StoreError, match="first has 5 rows and no row 5"):
        change_parts(first.dataset, first.num_rows, [([5], second.dataset, [0])])
    with pytest.raises(StoreError, match="second has 4 rows and no row 4"):
        derive(root, change_parts(first.dataset, first.num_rows, [([0], second.dataset, [4])]))
