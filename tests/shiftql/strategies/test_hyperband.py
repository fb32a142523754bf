"""Brackets of Hyperband."""

from __future__ import annotations

from pathlib import Path

import pytest

import shiftql
from shiftql.recorded import load_records
from shiftql.replaying import replay
from shiftql.strategies.hyperband import _brackets
from shiftql.strategies.specs import read_strategy


def test_brackets_are_the_published_ones() -> None:
    """Table 1 of the paper, R = 81 and eta = 3: how many configurations, by the resource each begins with."""
    assert [(size, rungs[0] + 1) for size, rungs in _brackets(81, 3)] == [(81, 1), (34, 3), (15, 9), (8, 27), (5, 81)]
    assert _brackets(81, 3)[0][1] == [0, 2, 8, 26, 80]


@pytest.mark.parametrize("rungs", [1, 2, 5, 9])
def test_every_bracket_ends_at_the_last_rung(rungs: int) -> None:
    assert all(levels[-1] == rungs - 1 for _, levels in _brackets(rungs, 2))


def test_more_repeats_try_more_models() -> None:
    curves = load_records(Path(shiftql.__file__).parent / "records" / "curves_nlp.csv")
    once, often = (replay(curves, "sst2", read_strategy(f"Hyperband(repeats={repeats})").make) for repeats in (1, 3))
    assert often.epochs > 2 * once.epochs
    assert often.cost_fraction < 1
