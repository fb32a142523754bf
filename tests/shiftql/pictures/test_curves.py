"""Regret against cost: the regret of what would be picked for so much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shiftql.pictures.curves import costs_of, last_picks, mean_curve
from shiftql.pictures.looks import FLOOR, band, cost_scale, look, regret_scale, worded_end

EARLY = ((0.1, 0.4), (0.2, 0.2))
LATE = ((0.2, 0.6), (0.4, 0.0))
COSTS = np.array([0.05, 0.1, 0.2, 0.3, 0.4])


def test_the_last_pick_that_can_be_had_counts() -> None:
    assert last_picks(EARLY, COSTS).tolist() == [-1, 0, 1, 1, 1]
    assert last_picks((), COSTS).tolist() == [-1] * 5


def test_a_later_pick_counts_though_it_costs_less_to_finish() -> None:
    assert last_picks(((0.1, 0.5), (0.4, 0.1), (0.3, 0.2)), COSTS).tolist() == [-1, 0, 0, 2, 2]


def test_the_mean_at_a_cost_is_the_mean_of_the_picks_regrets_there(outcome: Any) -> None:
    curve = mean_curve("Some", [[outcome(EARLY)], [outcome(LATE)]], COSTS)
    assert curve.costs.tolist() == [0.1, 0.2, 0.3, 0.4]
    assert curve.regrets.tolist() == pytest.approx([(0.4 + 1) / 2, (0.2 + 0.6) / 2, (0.2 + 0.6) / 2, (0.2 + 0.0) / 2])
    assert curve.certain_from == 0.2
    assert (curve.cost, curve.regret) == pytest.approx((0.3, 0.1))


def test_a_band_is_the_standard_error_over_targets(outcome: Any) -> None:
    curve = mean_curve("Some", [[outcome(EARLY)], [outcome(LATE)]], COSTS)
    expected = np.std([[0.4, 0.2, 0.2, 0.2], [1, 0.6, 0.6, 0.0]], axis=0, ddof=1) / np.sqrt(2)
    assert curve.errors.tolist() == pytest.approx(expected.tolist())
    costs, low, high = band(curve)
    assert costs.tolist() == pytest.approx([10, 20, 30, 40])
    assert high.tolist() == pytest.approx((100 * (curve.regrets + expected)).tolist())
    assert low[-1] == FLOOR
    assert worded_end(curve) == "10.0 ± 10.0 % at 30.0 %"


def test_seeds_of_a_target_count_as_one_target(outcome: Any) -> None:
    twice = mean_curve("Some", [[outcome(EARLY), outcome(EARLY)], [outcome(LATE)]], COSTS)
    once = mean_curve("Some", [[outcome(EARLY)], [outcome(LATE)]], COSTS)
    assert twice.regrets.tolist() == pytest.approx(once.regrets.tolist())
    assert twice.errors.tolist() == pytest.approx(once.errors.tolist())
    assert mean_curve("Some", [[outcome(EARLY), outcome(LATE)]], COSTS).picks is None


def test_a_single_target_has_no_band_but_picks(outcome: Any) -> None:
    curve = mean_curve("Some", [[outcome(EARLY)]], COSTS)
    assert np.isnan(curve.errors).all()
    assert curve.picks == ("m0", "m1")
    assert len(band(curve)[0]) == 0


def test_a_strategy_that_picks_nothing_has_an_empty_curve(outcome: Any) -> None:
    curve = mean_curve("Some", [[outcome(())]], COSTS)
    assert (len(curve.costs), curve.regret, curve.cost) == (0, 1, 0)
    assert len(costs_of([outcome(())])) == 0


def test_curves_are_drawn_from_the_cheapest_pick_to_the_dearest(outcome: Any) -> None:
    costs = costs_of([outcome(EARLY), outcome(LATE)])
    assert costs[0] == pytest.approx(0.1)
    assert costs[-1] == pytest.approx(0.4)


def test_scales_hold_what_is_drawn_with_few_round_ticks(outcome: Any) -> None:
    curves = [mean_curve("Some", [[outcome(EARLY)], [outcome(LATE)]], costs_of([outcome(EARLY), outcome(LATE)]))]
    regrets = regret_scale(curves, 6)
    costs = cost_scale(curves, regrets, 6)
    assert regrets.low < 10 < 40 < regrets.high < 100
    assert costs.low < 20 < 40 < costs.high
    assert 2 <= len(regrets.ticks) <= 6


def test_what_is_next_to_nothing_lies_on_the_floor(outcome: Any) -> None:
    curves = [mean_curve("Some", [[outcome(LATE)]], COSTS)]
    assert regret_scale(curves, 4).ticks[FLOOR] == "≤ 0.1"


def test_what_is_drawn_together_looks_different() -> None:
    looks = [look(number) for number in range(20)]
    assert len(set(looks)) == 20
    assert len({each.colour for each in looks[:8]}) == len({each.marker for each in looks[:8]}) == 8
