"""Simulated executions: what all, halved and fine-tuned pools take on some devices."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from shiftql.simulation import (
    PUBLISHED,
    ModelCosts,
    Rounds,
    Setting,
    System,
    break_even,
    expected,
    gain,
    halved,
    ours,
    pool_of,
    published_rounds,
    raced,
    simulate_finetuning,
    simulate_plain,
    simulate_rounds,
)
from shiftql.strategies.successive_halving import RowRace, schedule
from storage.errors import PlanError

LIVE = Path(__file__).parent / "fixtures" / "simulation" / "live.json"
# Seconds of the published cost model: load, inference a row, nothing to fit, linear proxy a test row.
LINEAR = ModelCosts(3.0, 0.0175, 0.0, 0.005, 0.06)
SLOW, QUICK = ModelCosts(10.0, 0.1, 0.0, 0.005, 0.4), ModelCosts(0.5, 0.002, 0.0, 0.005, 0.01)
MIXED = [SLOW, *[QUICK] * 6, LINEAR, LINEAR]


def rounds_of(models: list[ModelCosts], setting: Setting) -> RowRace:
    """Of published halving."""
    rounds = halved()(len(models), setting)
    assert rounds is not None
    return rounds


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
    rounds = rounds_of(pool, setting)
    assert simulate_plain(pool, setting).seconds == pytest.approx(published_plain(pool, train, 700, devices))
    assert simulate_rounds(pool, rounds, setting).seconds == pytest.approx(published_halved(pool, train, 700, devices))


@pytest.mark.parametrize("devices", [1, 2, 3, 5, 16])
def test_others_take_longer_than_the_formula_says_by_less_than_a_model_a_phase(devices: int) -> None:
    setting = Setting(2000, 300, devices, PUBLISHED)
    rounds = rounds_of(MIXED, setting)
    for found, formula in (
        (simulate_plain(MIXED, setting), published_plain(MIXED, 2000, 300, min(devices, len(MIXED)))),
        (simulate_rounds(MIXED, rounds, setting), published_halved(MIXED, 2000, 300, min(devices, len(MIXED)))),
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
    found = simulate_rounds(costs, rounds_of(costs, Setting(100, 10)), Setting(100, 10, 4))
    assert [phase.seconds for phase in found.phases] == [4.0, 2.0]
    assert [phase.busy for phase in found.phases] == [10.0, 3.0]


def test_no_row_is_inferred_twice() -> None:
    per_row = ModelCosts(0.0, 1.0, 0.0, 0.0, 0.0)
    setting = Setting(1000, 100, 8)
    found = simulate_rounds([per_row] * 8, rounds_of([per_row] * 8, setting), setting)
    # One that goes all the way has seen each training and test row once.
    assert found.seconds == pytest.approx(1100)


def test_the_proxy_is_fitted_on_all_rows_seen_and_scored_in_every_round() -> None:
    setting = Setting(1000, 100, 8)
    rounds = rounds_of([LINEAR] * 8, setting)
    fitting = simulate_rounds([ModelCosts(0.0, 0.0, 1.0, 0.0, 0.0)] * 8, rounds, setting)
    scoring = simulate_rounds([ModelCosts(0.0, 0.0, 0.0, 1.0, 0.0)] * 8, rounds, setting)
    assert fitting.seconds == sum(rounds.rows)
    assert scoring.seconds == 100 * len(rounds.rows)


def test_one_pass_opens_a_model_once_and_passes_apart_twice() -> None:
    opening = [ModelCosts(1.0, 0.0, 0.0, 0.0, 0.0)]
    assert simulate_plain(opening, Setting(10, 10)).seconds == 1.0
    assert simulate_plain(opening, Setting(10, 10, 1, ours())).seconds == pytest.approx(
        ours().run + 1.0 + ours().overhead
    )
    assert simulate_plain(opening, Setting(10, 10, 1, PUBLISHED)).seconds == 2.0 + 1.5


def test_fine_tuning_trains_every_epoch_and_tests_once() -> None:
    costs = [ModelCosts(1.0, 0.01, 5.0, 5.0, 0.1)] * 3
    assert simulate_finetuning(costs, Setting(100, 50), 4).seconds == pytest.approx(3 * (1 + 4 * 100 * 0.1 + 50 * 0.01))


def test_more_devices_are_never_slower_for_equal_models() -> None:
    pool = [LINEAR] * 37
    settings = [Setting(3000, 500, devices) for devices in (1, 2, 3, 7, 40, 400)]
    rounds = rounds_of(pool, settings[0])
    for seconds in (
        [simulate_plain(pool, each).seconds for each in settings],
        [expected(pool, rounds, each).seconds for each in settings],
    ):
        assert seconds == sorted(seconds, reverse=True)
        assert seconds[-1] == seconds[-2]


def test_halving_is_expected_between_its_cheapest_and_dearest_survivors() -> None:
    rounds = rounds_of(MIXED, Setting(5000, 100))
    found = expected(MIXED, rounds, Setting(5000, 100, 2))
    assert found.low < found.seconds < found.high
    cheapest = simulate_rounds(sorted(MIXED, key=lambda each: each.inference), rounds, Setting(5000, 100, 1))
    assert cheapest.seconds <= expected(MIXED, rounds, Setting(5000, 100, 1)).low


def test_whichever_of_equal_models_go_on_it_takes_the_same() -> None:
    setting = Setting(5000, 100, 2)
    found = expected([LINEAR] * 9, rounds_of([LINEAR] * 9, setting), setting)
    assert found.low == found.seconds == found.high
    assert found.seconds == sum(phase.seconds for phase in found.phases)


def test_a_simulation_comes_out_the_same_again() -> None:
    setting = Setting(5000, 100, 2)
    rounds = rounds_of(MIXED, setting)
    assert expected(MIXED, rounds, setting) == expected(MIXED, rounds, setting)


def test_a_budget_below_one_pull_a_round_is_refused_with_the_least_that_does() -> None:
    with pytest.raises(PlanError, match="9 models cannot be halved with 8 pulls") as raised:
        published_rounds(len(MIXED), Setting(5000, 100), budget=8)
    assert "36" in str(raised.value.fix)


@pytest.mark.parametrize("rounds", [halved(), raced], ids=["halved", "raced"])
def test_rounds_are_faster_from_the_break_even_on(rounds: Rounds) -> None:
    pool = [LINEAR] * 64
    least = break_even(pool, Setting(1, 500, 8), rounds)
    assert least is not None
    assert gain(pool, Setting(least, 500, 8), rounds) > 1
    assert gain(pool, Setting(10 * least, 500, 8), rounds) > 1
    assert gain(pool, Setting(math.ceil(least * 0.8), 500, 8), rounds) <= 1


def test_the_published_break_even_of_a_large_pool_is_about_where_it_was_published() -> None:
    found = break_even([LINEAR] * 300, Setting(1, 500, 8, PUBLISHED), halved())
    assert found is not None
    assert 300 <= found <= 700


@pytest.mark.parametrize("rounds", [halved(), raced], ids=["halved", "raced"])
def test_two_models_are_never_shown_less_to_advantage(rounds: Rounds) -> None:
    assert break_even([LINEAR] * 2, Setting(1, 500), rounds) is None


def test_in_a_race_no_row_is_inferred_twice_and_scores_are_of_the_rows_of_the_round() -> None:
    setting = Setting(600, 2000, 31, classes=10)
    race = raced(31, setting)
    assert race == RowRace((31, 8, 2), (64, 196, 600), (256, 654, 2000), 4)
    inferring, scoring = ModelCosts(0.0, 1.0, 0.0, 0.0, 0.0), ModelCosts(0.0, 0.0, 0.0, 1.0, 0.0)
    phases = simulate_rounds([inferring] * 31, race, setting).phases
    assert [phase.seconds for phase in phases] == [64 + 256, 132 + 398, 404 + 1346]
    assert [phase.seconds for phase in simulate_rounds([scoring] * 31, race, setting).phases] == [256, 654, 2000]


def test_a_race_ends_with_as_many_models_as_are_asked_for() -> None:
    race = raced(31, Setting(600, 2000, classes=10, limit=5))
    assert race is not None
    assert race.arms[-1] == 5


def test_rounds_are_apart_by_what_is_done_between_them() -> None:
    setting = Setting(600, 2000, 2, System(run=1.0, between=10.0))
    rounds = rounds_of([LINEAR] * 8, setting)
    found = simulate_rounds([LINEAR] * 8, rounds, setting)
    assert found.seconds == 1.0 + 10.0 * (len(rounds.arms) - 1) + sum(phase.seconds for phase in found.phases)


def test_a_pool_of_another_size_has_the_same_models_in_turn() -> None:
    assert pool_of([SLOW, QUICK], 5) == [SLOW, QUICK, SLOW, QUICK, SLOW]


def test_queries_took_about_what_is_simulated_of_them_by_what_their_home_had_learned() -> None:
    """As benchmarks/simulation.py measured it on one core with nothing else to do: `--json` makes the fixture."""
    measured = json.loads(LIVE.read_text(encoding="utf-8"))
    models = [ModelCosts(**each) for each in measured["models"]]
    setting = Setting(**{**measured["setting"], "system": System(**measured["setting"]["system"])})
    took = {each["query"]: each["took"] for each in measured["queries"]}
    simulated = {"plain": simulate_plain(models, setting).seconds}
    for query, rounds in (("BUDGET 21", halved(budget=21)), ("CHUNK AUTO BUDGET AUTO", raced)):
        race = rounds(len(models), setting)
        assert race is not None
        simulated[query] = expected(models, race, setting).seconds
    assert simulated.keys() == took.keys()
    assert all(1 / 1.5 < simulated[query] / took[query] < 1.5 for query in took)
    assert sorted(simulated, key=simulated.__getitem__) == sorted(took, key=took.__getitem__)
