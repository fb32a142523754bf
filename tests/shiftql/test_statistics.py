from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from shiftql.statistics import mcnemar_p_value, wilson_interval

ROWS = st.integers(1, 5000)


@given(st.data(), ROWS)
def test_the_interval_is_wilsons(data: st.DataObject, rows: int) -> None:
    right = data.draw(st.integers(0, rows))
    expected = binomtest(right, rows).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(right / rows, rows) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.data(), ROWS)
def test_the_interval_holds_the_share_and_stays_within_bounds(data: st.DataObject, rows: int) -> None:
    share = data.draw(st.integers(0, rows)) / rows
    low, high = wilson_interval(share, rows)
    assert 0 <= low <= share <= high <= 1
    assert wilson_interval(1 - share, rows) == pytest.approx((1 - high, 1 - low))


@given(st.floats(0, 1), ROWS)
def test_more_rows_narrow_the_interval(share: float, rows: int) -> None:
    low, high = wilson_interval(share, rows)
    narrow_low, narrow_high = wilson_interval(share, 4 * rows)
    assert narrow_high - narrow_low < high - low


def _packed(*correct: bool) -> bytes:
    return np.packbits(np.array(correct, dtype=bool)).tobytes()


def _pair(only_first: int, only_second: int, both: int = 3, neither: int = 2) -> tuple[bytes, bytes]:
    first = [True] * only_first + [False] * only_second + [True] * both + [False] * neither
    second = [False] * only_first + [True] * only_second + [True] * both + [False] * neither
    return _packed(*first), _packed(*second)


COUNTS = st.integers(0, 60)


@given(COUNTS, COUNTS)
def test_up_to_a_thousand_differences_the_test_is_exact(only_first: int, only_second: int) -> None:
    assume(only_first + only_second > 0)
    expected = binomtest(only_first, only_first + only_second, 0.5).pvalue
    assert mcnemar_p_value(*_pair(only_first, only_second)) == pytest.approx(expected)


@pytest.mark.parametrize(("only_first", "only_second"), [(600, 450), (900, 880), (1500, 1500), (3000, 10)])
def test_beyond_it_is_close_to_exact(only_first: int, only_second: int) -> None:
    z = max(0, abs(only_first - only_second) - 1) / (only_first + only_second) ** 0.5
    p_value = mcnemar_p_value(*_pair(only_first, only_second))
    assert p_value == pytest.approx(2 * norm.sf(z))
    assert p_value == pytest.approx(binomtest(only_first, only_first + only_second, 0.5).pvalue, abs=1e-3)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_who_is_first_and_where_both_agree_does_not_matter(a: int, b: int, both: int, neither: int) -> None:
    first, second = _pair(a, b, both, neither)
    assert mcnemar_p_value(first, second) == mcnemar_p_value(second, first)
    assert mcnemar_p_value(first, second) == mcnemar_p_value(*_pair(a, b))


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_a_model_is_as_good_as_itself(correct: list[bool]) -> None:
    assert mcnemar_p_value(_packed(*correct), _packed(*correct)) == 1.0
