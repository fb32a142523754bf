from __future__ import annotations

import math

import pytest

from storage.database import Database
from storage.learned_costs import LearnedCosts, Observation, this_machine

STAGE, MODEL = ("embedding", ""), ("embedding", "model")


def test_nothing_is_known_of_what_was_never_seen(database: Database) -> None:
    assert LearnedCosts(database).of(["", "model"]) == {}


def test_an_observation_tells_of_all_its_levels(database: Database) -> None:
    costs = LearnedCosts(database)
    costs.learn([Observation(2.0, [STAGE, MODEL])])
    assert costs.of([""]) == {STAGE: pytest.approx((1.0, math.log(2)))}
    assert costs.of(["", "model"]).keys() == {STAGE, MODEL}


def test_it_is_the_same_whether_it_is_learned_at_once_or_bit_by_bit(database: Database) -> None:
    ratios = [0.5, 3.0, 1.0, 8.0]
    at_once, bit_by_bit = LearnedCosts(database, "one"), LearnedCosts(database, "another")
    at_once.learn(Observation(ratio, [STAGE]) for ratio in ratios)
    for ratio in ratios:
        bit_by_bit.learn([Observation(ratio, [STAGE])])
    assert at_once.of([""])[STAGE] == pytest.approx(bit_by_bit.of([""])[STAGE])


def test_what_was_is_outweighed_by_what_is(database: Database) -> None:
    costs = LearnedCosts(database)
    costs.learn(Observation(0.1, [STAGE]) for _ in range(1000))
    costs.learn(Observation(4.0, [STAGE]) for _ in range(100))
    count, log_sum = costs.of([""])[STAGE]
    assert math.exp(log_sum / count) == pytest.approx(4.0, rel=0.1)


def test_one_that_is_far_off_does_not_count_for_more_than_one_that_is_far(database: Database) -> None:
    costs = LearnedCosts(database)
    costs.learn([Observation(1e9, [STAGE])])
    assert math.exp(costs.of([""])[STAGE].log_sum) < 100


def test_machines_that_differ_do_not_learn_from_each_other(database: Database) -> None:
    LearnedCosts(database, "slow").learn([Observation(10.0, [STAGE])])
    assert LearnedCosts(database).of([""]) == {}


def test_learning_nothing_changes_nothing(database: Database) -> None:
    LearnedCosts(database).learn([])
    assert LearnedCosts(database).of([""]) == {}


def test_a_machine_is_told_by_its_processor_and_cores() -> None:
    assert " x " in this_machine()
