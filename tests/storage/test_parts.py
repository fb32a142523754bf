from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from storage.evaluations import Subject
from storage.parts import Part, one_per_dataset, whole

SUBJECTS = (Subject("d", "1"), Subject("e", "2"))


def parts_of(num_rows: int) -> st.SearchStrategy[list[Part]]:
    """Parts of either of two datasets of that many rows."""
    span = st.tuples(st.integers(0, num_rows - 1), st.integers(1, num_rows)).filter(lambda span: span[0] < span[1])
    part = st.builds(Part, st.sampled_from(SUBJECTS), st.lists(span, min_size=1, max_size=4).map(tuple))
    return st.lists(part, min_size=1, max_size=5)


def _rows(parts: list[Part]) -> list[tuple[Subject, int]]:
    return [(part.dataset, row) for part in parts for start, stop in part.spans for row in range(start, stop)]


@given(parts_of(12))
def test_the_same_rows_once_and_one_part_per_dataset(parts: list[Part]) -> None:
    gathered = list(one_per_dataset(parts))
    assert len({part.dataset for part in gathered}) == len(gathered)
    rows = _rows(gathered)
    assert sorted(rows, key=str) == sorted(set(_rows(parts)), key=str)
    for part in gathered:
        assert list(part.spans) == sorted(part.spans)
        assert all(stop < start for (_, stop), (start, _) in pairwise(part.spans))


def test_equal_content_is_read_once_under_the_name_that_came_first() -> None:
    copy = Subject("copy", SUBJECTS[0].fingerprint)
    parts = [Part(SUBJECTS[0], ((4, 6),)), Part(copy, ((0, 4),))]
    assert one_per_dataset(parts) == (whole(SUBJECTS[0], 6),)


@given(parts_of(12))
def test_a_part_comes_back_from_json(parts: list[Part]) -> None:
    assert [Part.from_json(json.loads(json.dumps(part.json))) for part in parts] == parts


@given(parts_of(12))
def test_rows_are_counted(parts: list[Part]) -> None:
    assert sum(part.num_rows for part in parts) == len(_rows(parts))
