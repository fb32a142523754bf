"""Simulated executions: what all, halved and fine-tuned pools take on some devices."""

from __future__ import annotations

import math

import pytest

from shiftql.simulation import (
    OURS,
    PUBLISHED,
    ModelCosts,
    Setting,
    break_even,
    expected_halving,
    pool_of,
    simulate_finetuning,
    simulate_halved,
    simulate_plain,
)
from shiftql.strategies.successive_halving import schedule
from storage.errors import PlanError

# Seconds of the published cost model: load, inference a row, nothing to fit, linear proxy a test row.
LINEAR = ModelCosts(3.0, 0.0175, 0.0, 0.005, 0.06)
SLOW, QUICK = ModelCosts(10.0, 0.1, 0.0, 0.005, 0.4), ModelCosts(0.5, 0.002, 0.0, 0.005, 0.01)
MIXED = [SLOW, *[QUICK] * 6, LINEAR, LINEAR]


def published_plain(models: list[ModelCosts], train: int, test: int, devices: int) -> float:
    """M·(800 + 700 + 2·load + inference·(train+test) + proxy·test)/devices, in seconds."""
    each = (1.5 + 2 * m.load + m.inference * (train + test) + m.proxy * test for m in models)
    return sum(each) / devices


def published_halved(models: list[ModelCosts], train: int, test: int, devices: int) -> float:
    """M·(inference·test + load)/devices + Σ |S_k|·(load + inference·rows_k + proxy·test + 800)/min(devices, |S_k|)."""
    rounds = schedule(len(models), train, None, None)
    total, seen = sum(m.inference * test + m.load for m in models) / devices, 0
    for size, rows in zip(rounds.arms, rounds.rows, strict=True):
        each = (m.load + m.inference * (rows - seen) + m.proxy * test + 0.8 for m in models[:size])
        total += sum(each) / min(devices, size)
        seen = rows
    return total


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("train", [100, 5000])
def test_equal_models_that_fill_the_devices_take_what_the_published_formula_says(devices: int, train: int) -> None:
    pool = [LINEAR] * 64
    setting = Setting(train, 700, devices, PUBLISHED)
    rounds = schedule(64, train, None, None)
    assert simulate_plain(pool, setting).seconds == pytest.approx(published_plain(pool, train, 700, devices))
    assert simulate_halved(pool, rounds, setting).seconds == pytest.approx(published_halved(pool, train, 700, devices))


@pytest.mark.parametrize("devices", [1, 2, 3, 5, 16])
def test_others_take_longer_than_the_formula_says_by_less_than_a_model_a_phase(devices: int) -> None:
    rounds = schedule(len(MIXED), 2000, None, None)
    setting = Setting(2000, 300, devices, PUBLISHED)
    for found, formula in (
        (simulate_plain(MIXED, setting), published_plain(MIXED, 2000, 300, min(devices, len(MIXED)))),
        (simulate_halved(MIXED, rounds, setting), published_halved(MIXED, 2000, 300, min(devices, len(MIXED)))),
    ):
        longest = max(phase.seconds for phase in simulate_plain(MIXED, setting).phases)
        assert formula - 1e-9 <= found.seconds < formula + len(found.phases) * longest


def test_a_device_takes_the_next_model_as_soon_as_it_is_free() -> None:
    costs = [ModelCosts(load, 0.0, 0.0, 0.0, 0.0) for load in (4.0, 1.0, 1.0, 1.0, 5.0)]
    found = simulate_plain(costs, Setting(10, 10, 2))
    # The second device takes 1, 1, 1 and then 5, the first waits from 4 on.
    assert found.seconds == 8.0
    assert found.idle == pytest.approx(4 / 16)


def test_rounds_wait_for_the_slowest() -> None:
    costs = [ModelCosts(load, 0.0, 0.0, 0.0, 0.0) for load in (1.0, 2.0, 3.0, 4.0)]
    found = simulate_halved(costs, schedule(4, 100, None, None), Setting(100, 10, 4))
    assert [phase.seconds for phase in found.phases] == [4.0, 2.0]
    assert [phase.busy for phase in found.phases] == [10.0, 3.0]


def test_no_row_is_inferred_twice() -> None:
    per_row = ModelCosts(0.0, 1.0, 0.0, 0.0, 0.0)
    rounds = schedule(8, 1000, None, None)
    found = simulate_halved([per_row] * 8, rounds, Setting(1000, 100, 8))
    # One that goes all the way has seen each training and test row once.
    assert found.seconds == pytest.approx(1100)


def test_the_proxy_is_fitted_on_all_rows_seen_and_scored_in_every_round() -> None:
    rounds = schedule(8, 1000, None, None)
    setting = Setting(1000, 100, 8)
    fitting = simulate_halved([ModelCosts(0.0, 0.0, 1.0, 0.0, 0.0)] * 8, rounds, setting)
    scoring = simulate_halved([ModelCosts(0.0, 0.0, 0.0, 1.0, 0.0)] * 8, rounds, setting)
    assert fitting.seconds == sum(rounds.rows)
    assert scoring.seconds == 100 * len(rounds.rows)


def test_one_pass_opens_a_model_once_and_passes_apart_twice() -> None:
    opening = [ModelCosts(1.0, 0.0, 0.0, 0.0, 0.0)]
    assert simulate_plain(opening, Setting(10, 10)).seconds == 1.0
    assert simulate_plain(opening, Setting(10, 10, 1, OURS)).seconds == 1.0 + OURS.overhead
    assert simulate_plain(opening, Setting(10, 10, 1, PUBLISHED)).seconds == 2.0 + 1.5


def test_fine_tuning_trains_every_epoch_and_tests_once() -> None:
    costs = [ModelCosts(1.0, 0.01, 5.0, 5.0, 0.1)] * 3
    assert simulate_finetuning(costs, Setting(100, 50), 4).seconds == pytest.approx(3 * (1 + 4 * 100 * 0.1 + 50 * 0.01))


def test_more_devices_are_never_slower_for_equal_models() -> None:
    pool = [LINEAR] * 37
    for simulate in (simulate_plain, expected_halving):
        seconds = [simulate(pool, Setting(3000, 500, devices)).seconds for devices in (1, 2, 3, 7, 40, 400)]
        assert seconds == sorted(seconds, reverse=True)
        assert seconds[-1] == seconds[-2]


def test_halving_is_expected_between_its_cheapest_and_dearest_survivors() -> None:
    found = expected_halving(MIXED, Setting(5000, 100, 2))
    assert found.low < found.seconds < found.high
    rounds = found.schedule
    cheapest = simulate_halved(sorted(MIXED, key=lambda each: each.inference), rounds, Setting(5000, 100, 1))
    assert cheapest.seconds <= expected_halving(MIXED, Setting(5000, 100, 1)).low


def test_whichever_of_equal_models_go_on_it_takes_the_same() -> None:
    found = expected_halving([LINEAR] * 9, Setting(5000, 100, 2))
    assert found.low == found.seconds == found.high
    assert found.seconds == sum(phase.seconds for phase in found.phases)


def test_a_simulation_comes_out_the_same_again() -> None:
    assert expected_halving(MIXED, Setting(5000, 100, 2)) == expected_halving(MIXED, Setting(5000, 100, 2))


def test_a_budget_below_one_pull_a_round_is_refused_with_the_least_that_does() -> None:
    with pytest.raises(PlanError, match="9 models cannot be halved with 8 pulls") as raised:
        expected_halving(MIXED, Setting(5000, 100), budget=8)
    assert "36" in str(raised.value.fix)


def test_halving_is_faster_from_the_break_even_on() -> None:
    pool = [LINEAR] * 64
    least = break_even(pool, 500, 8)
    assert least is not None

    def gain(rows: float) -> float:
        setting = Setting(math.ceil(rows), 500, 8)
        return simulate_plain(pool, setting).seconds - expected_halving(pool, setting).seconds

    assert gain(least) > 0
    assert gain(10 * least) > 0
    assert gain(least * 0.8) <= 0


def test_the_published_break_even_of_a_large_pool_is_about_where_it_was_published() -> None:
    found = break_even([LINEAR] * 300, 500, 8, PUBLISHED)
    assert found is not None
    assert 300 <= found <= 700


def test_two_models_are_never_halved_to_advantage() -> None:
    assert break_even([LINEAR] * 2, 500, 1) is None


def test_a_pool_of_another_size_has_the_same_models_in_turn() -> None:
    assert pool_of([SLOW, QUICK], 5) == [SLOW, QUICK, SLOW, QUICK, SLOW]
