from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from sklearn.metrics import f1_score

from shiftql.statistics import bootstrap_interval, bootstrap_tied, mcnemar_p_value, wilson_interval
from tasks.rankers.metrics import score_predictions

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


def _replicates(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


SCORES = st.floats(0, 1, width=32)
SOME_REPLICATES = st.lists(SCORES, min_size=1, max_size=60)


@given(SOME_REPLICATES)
def test_the_bootstrap_interval_is_between_percentiles(values: list[float]) -> None:
    expected = np.percentile(values, [2.5, 97.5])
    middle = float(expected.mean())
    assert bootstrap_interval(middle, _replicates(*values)) == pytest.approx(tuple(expected))


@given(SCORES, SOME_REPLICATES)
def test_the_bootstrap_interval_holds_the_score(value: float, values: list[float]) -> None:
    low, high = bootstrap_interval(value, _replicates(*values))
    assert low <= value <= high


@given(SOME_REPLICATES, st.data())
def test_bootstrapped_scores_are_tied_when_the_percentiles_of_their_difference_enclose_nothing_but_zero(
    first: list[float], data: st.DataObject
) -> None:
    second = data.draw(st.lists(SCORES, min_size=len(first), max_size=len(first)))
    low, high = np.percentile(np.subtract(first, second), [2.5, 97.5])
    assume(abs(low) > 1e-9 and abs(high) > 1e-9)
    assert bootstrap_tied(_replicates(*first), _replicates(*second)) == (low <= 0 <= high)


@given(SOME_REPLICATES)
def test_a_bootstrapped_score_is_tied_with_itself_and_not_with_one_better_in_every_resample(
    values: list[float],
) -> None:
    better = [value + 0.25 for value in values]
    assert bootstrap_tied(_replicates(*values), _replicates(*values))
    assert not bootstrap_tied(_replicates(*values), _replicates(*better))
    assert not bootstrap_tied(_replicates(*better), _replicates(*values))


CLASSES = 3


def _draw(random: np.random.Generator, rows: int, right: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose class is told right with probability `right`, and else guessed."""
    true = random.choice(CLASSES, size=rows, p=[0.5, 0.3, 0.2])
    return true, _predict(random, true, right)


def _predict(random: np.random.Generator, true: np.ndarray, right: float) -> np.ndarray:
    return np.where(random.random(len(true)) < right, true, random.integers(CLASSES, size=len(true)))


def _score(true: np.ndarray, predicted: np.ndarray) -> tuple[float, bytes]:
    score = score_predictions("classification", "macro_f1", true, predicted)
    assert score.replicates is not None
    return score.value, score.replicates.tobytes()


def test_the_interval_of_a_macro_f1_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    truth = f1_score(*_draw(random, 400_000, 0.6), average="macro")
    intervals = [bootstrap_interval(*_score(*_draw(random, 150, 0.6))) for _ in range(100)]
    assert 0.90 <= np.mean([low <= truth <= high for low, high in intervals]) <= 0.99


def test_the_interval_of_an_accuracy_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    for truth in (0.5, 0.8, 0.97):
        shares = random.binomial(150, truth, size=4000) / 150
        intervals = [wilson_interval(share, 150) for share in shares]
        assert 0.90 <= np.mean([low <= truth <= high for low, high in intervals]) <= 0.99


def test_equally_good_models_are_tied_as_often_as_the_bootstrap_says_and_others_are_told_apart() -> None:
    random = np.random.default_rng(0)
    ties = {0.6: 0, 0.85: 0}
    for _ in range(30):
        true = random.choice(CLASSES, size=200, p=[0.5, 0.3, 0.2])
        _, first = _score(true, _predict(random, true, 0.6))
        for right in ties:
            _, second = _score(true, _predict(random, true, right))
            ties[right] += bootstrap_tied(first, second)
    assert ties[0.6] / 30 >= 0.9
    assert ties[0.85] / 30 <= 0.05
