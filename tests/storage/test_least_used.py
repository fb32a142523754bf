from __future__ import annotations

from typing import Any

import pytest

from storage.least_used import Kept, least_used

OLD, MIDDLE, NEW = (Kept((name, "1"), 10, float(time)) for time, name in enumerate(("old", "middle", "new")))


@pytest.mark.parametrize(
    ("limit", "in_use", "evicted"),
    [
        (30, set(), []),
        (29, set(), [OLD]),
        (20, set(), [OLD]),
        (19, set(), [OLD, MIDDLE]),
        (0, set(), [OLD, MIDDLE, NEW]),
        (-5, set(), [OLD, MIDDLE, NEW]),
        (20, {("old", "1")}, [MIDDLE]),
        (20, {("old", "2")}, [OLD]),
        (0, {("old", "1"), ("middle", "1"), ("new", "1")}, []),
    ],
)
def test_the_least_used_go_first_and_those_in_use_never(limit: int, in_use: Any, evicted: list[Kept[Any]]) -> None:
    found = least_used([NEW, OLD, MIDDLE], limit, lambda kept: kept.name in in_use)
    assert found == [kept.name for kept in evicted]
