from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftql.strategies.successive_halving import Halving, RowRace, row_race, schedule, sizes_of
from storage.evaluations import Evaluation, Measurement, Subject

# Scores of each arm, round by round.
RACE = {
    "early": (0.9, 0.5, 0.5),
    "late": (0.6, 0.8, 0.9),
    "middling": (0.7, 0.7, 0.7),
    "slow": (0.1, 0.9, 0.99),
    "even": (0.6, 0.6, 0.6),
}


def _arms(race: Mapping[str, tuple[float | None, ...]]) -> list[list[Evaluation]]:
    return [
        [
            Evaluation(Subject(name, name), Subject("train", "d"), None, "linear", "1", fidelity={"rows": number})
            for number in range(len(scores))
        ]
        for name, scores in race.items()
    ]


def _run(race: Mapping[str, tuple[float | None, ...]], *, higher_is_better: bool = True) -> list[list[str]]:
    """The names of the arms in every round."""
    arms = _arms(race)
    strategy = Halving(arms, sizes_of(len(arms), len(arms[0]), 2))
    while wanted := strategy.ask(2):
        results = {}
        for each in wanted:
            value = race[each.model.name][each.fidelity["rows"]]
            status = "failed" if value is None else "completed"
            results[each.fingerprint] = Measurement(status, 1.0, value=value, higher_is_better=higher_is_better)
        strategy.tell(results)
    return [[each.model.name for each in evaluations] for evaluations in strategy.rounds]


def test_the_better_half_goes_on_round_by_round() -> None:
    rounds = _run(RACE)
    assert [set(names) for names in rounds] == [set(RACE), {"early", "middling", "even"}, {"middling", "even"}]


def test_equal_scores_go_on_in_the_order_of_names() -> None:
    race: dict[str, tuple[float | None, ...]] = dict.fromkeys(("d", "b", "a", "c"), (0.5, 0.5))
    assert set(_run(race)[1]) == {"a", "b"}


def test_a_loss_is_better_when_it_is_lower() -> None:
    race: dict[str, tuple[float | None, ...]] = {"a": (3.0, 1.0), "b": (2.0, 1.0), "c": (1.0, 1.0)}
    assert set(_run(race, higher_is_better=False)[1]) == {"b", "c"}


def test_arms_that_fail_are_out_and_make_room_for_nobody() -> None:
    race: dict[str, tuple[float | None, ...]] = {"a": (None, 1.0), "b": (0.2, 1.0), "c": (0.1, 1.0), "d": (None, 1.0)}
    assert set(_run(race)[1]) == {"b", "c"}
    assert _run({"a": (None, 1.0), "b": (None, 1.0), "c": (None, 1.0)}) == [["a", "b", "c"], []]


def test_the_next_round_waits_for_all_results() -> None:
    strategy = Halving(_arms(RACE), (5, 3, 2))
    *wanted, last = strategy.ask(5)
    strategy.tell({each.fingerprint: Measurement("completed", 1.0, value=0.5) for each in wanted})
    assert strategy.ask(5) == []
    strategy.tell({last.fingerprint: Measurement("completed", 1.0, value=0.9)})
    assert last.model.name in {each.model.name for each in strategy.ask(5)}


def test_known_results_of_all_rounds_lead_to_the_same_end() -> None:
    arms = _arms(RACE)
    strategy = Halving(arms, (5, 3, 2))
    strategy.tell(
        {
            each.fingerprint: Measurement("completed", 1.0, value=RACE[each.model.name][each.fidelity["rows"]])
            for arm in arms
            for each in arm
        }
    )
    assert strategy.ask(5) == []
    assert [{each.model.name for each in evaluations} for evaluations in strategy.rounds] == list(map(set, _run(RACE)))


@pytest.mark.parametrize(
    ("arms", "budget", "sizes", "rows"),
    [
        # Rounds of floor(budget / (arms of the round x rounds)) pulls of 10 rows each.
        (8, 24, (8, 4, 2), (10, 30, 70)),
        (8, 60, (8, 4, 2), (20, 70, 170)),
        (5, 30, (5, 3, 2), (20, 50, 100)),
        (2, 7, (2,), (30,)),
        (1, 3, (1,), (30,)),
    ],
)
def test_the_rounds_are_those_published(arms: int, budget: int, sizes: tuple[int, ...], rows: tuple[int, ...]) -> None:
    found = schedule(arms, 1000, 10, budget)
    assert (found.arms, found.rows) == (sizes, rows)


def test_the_round_that_sees_all_rows_is_the_last() -> None:
    found = schedule(8, 25, 10, 24)
    assert (found.arms, found.rows) == ((8, 4), (10, 25))


@given(arms=st.integers(1, 60), train=st.integers(1, 5000), chunk=st.integers(1, 500), spare=st.integers(0, 1000))
def test_no_round_spends_more_than_its_share_and_the_last_arm_sees_all_rows_where_it_may(
    arms: int, train: int, chunk: int, spare: int
) -> None:
    free = schedule(arms, train, chunk, None)
    assert free.rows[-1] == train
    budget = free.budget + spare
    for found in (schedule(arms, train, chunk, budget), schedule(arms, train, None, budget)):
        seen = 0
        for size, rows in zip(found.arms, found.rows, strict=True):
            assert size * -(-(rows - seen) // found.chunk) <= budget / len(free.arms) or rows == train
            assert rows > seen
            seen = rows
        assert seen == train


@given(
    arms=st.integers(1, 3000),
    rows=st.integers(1, 1_000_000),
    test=st.integers(0, 20_000),
    classes=st.integers(0, 100),
    finalists=st.integers(2, 20),
)
def test_a_race_shows_few_arms_all_rows_and_no_round_too_few(
    arms: int, rows: int, test: int, classes: int, finalists: int
) -> None:
    found = row_race(arms, rows, test, classes, finalists)
    least = max(64, 5 * classes)
    if found is None:
        assert arms <= finalists or rows < 1.5 * least
        return
    assert (found.arms[0], found.rows[-1], found.tested[-1]) == (arms, rows, test)
    assert found.rows[0] >= least
    assert found.arms[-1] >= finalists
    assert list(found.arms) == sorted(set(found.arms), reverse=True)
    for (before, after), tested in zip(pairwise(found.rows), found.tested, strict=False):
        # To within the rounding of rows.
        assert 1.49 * before - 1 <= after <= 16.1 * before
        assert tested >= min(test, 256)
    for before, after in pairwise(found.arms):
        assert after == max(finalists, -(-before // found.eta))


def test_a_race_begins_on_more_rows_where_it_drops_most_of_the_arms_at_once() -> None:
    assert row_race(31, 600, 2000, 10) == RowRace((31, 8, 2), (64, 196, 600), (256, 654, 2000), 4)
    # Four arms make two rounds however they are dropped, and 64 rows say too little of what 20,000 will.
    assert row_race(4, 20_000, 300, 10) == RowRace((4, 2), (1250, 20_000), (256, 300))


def test_arms_that_are_asked_for_are_never_dropped() -> None:
    arms = _arms(dict.fromkeys("abcdef", (0.5, 0.5)))
    strategy = Halving(arms, sizes_of(6, 2, 3, 4))
    strategy.tell({each.fingerprint: Measurement("completed", 1.0, value=0.5) for arm in arms for each in arm[:1]})
    assert len(strategy.ask(6)) == 4
