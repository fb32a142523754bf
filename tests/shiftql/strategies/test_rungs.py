"""Races fitted to budgets of epochs, and what longer runs show of shorter ones."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from shiftql.strategies.base import Arm, Offer, Problem, no_history
from shiftql.strategies.rungs import fit_race, least_epochs, rungs_of, went_through
from shiftql.strategies.successive_halving import SuccessiveHalving
from storage.evaluations import Evaluation, Measurement, Subject

DATASET = Subject("digits", "digits")


def _run(model: str, rungs: tuple[int, ...]) -> list[Evaluation]:
    whole = Evaluation(Subject(model, model), DATASET, DATASET, "finetune", "1", {"epochs": rungs[-1]})
    return [*(replace(whole, test=None, fidelity={"epochs": epochs}) for epochs in rungs[:-1]), whole]


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 20, 25])
def test_the_last_rung_is_all_epochs_and_none_is_more_than_twice_the_one_before(epochs: int) -> None:
    rungs = rungs_of(epochs)
    assert rungs[-1] == epochs
    assert rungs[0] == 1
    assert all(before < after <= 2 * before for before, after in itertools.pairwise(rungs))


@pytest.mark.parametrize("models", [1, 2, 7, 32])
@pytest.mark.parametrize("epochs", [2, 8, 20])
def test_a_race_is_run_for_the_epochs_it_says_and_within_its_budget(models: int, epochs: int) -> None:
    for budget in range(1, models * epochs + 1):
        race = fit_race(models, epochs, budget)
        if race is None:
            assert models == 1 or budget < least_epochs(models, epochs)
            continue
        assert race.epochs <= budget
        arms = [
            Arm(run[0].model, tuple(Offer("", evaluation, 1.0) for evaluation in run))
            for run in (_run(str(number), race.rungs) for number in range(models))
        ]
        strategy, trained = SuccessiveHalving(Problem("digits", arms, no_history()), eta=race.eta), dict[str, int]()
        while asked := strategy.ask(models):
            trained |= {each.model.name: each.fidelity.get("epochs", epochs) for each in asked}
            strategy.tell({each.fingerprint: Measurement("completed", 0.0, value=0.5) for each in asked})
        assert sum(trained.values()) == race.epochs
        assert max(trained.values()) == epochs


def test_a_larger_budget_never_means_a_shorter_race() -> None:
    lengths = [race.epochs for budget in range(1, 641) if (race := fit_race(32, 20, budget))]
    assert lengths == sorted(lengths)


def test_a_longer_run_shows_what_a_shorter_one_would_have() -> None:
    one, two, four = _run("resnet", (1, 2, 4))
    told = {four.fingerprint: Measurement("completed", 9.0, "accuracy", 0.7, curve=(0.3, 0.6, 0.5, 0.8))}
    shown = dict(went_through([one, two, four], told))
    assert {fingerprint: each.value for fingerprint, each in shown.items()} == {
        one.fingerprint: 0.3,
        two.fingerprint: 0.6,
    }
    # What was looked at is not made up, and nobody knows what a failed run would have shown.
    assert list(dict(went_through([one, two, four], told | {two.fingerprint: told[four.fingerprint]}))) == [
        one.fingerprint
    ]
    assert not dict(went_through([one, two, four], {four.fingerprint: Measurement("failed", 1.0)}))
    assert not dict(went_through([one, two, four], {}))


def test_of_an_error_the_lowest_so_far_is_shown() -> None:
    one, two, four = _run("resnet", (1, 2, 4))
    told = {four.fingerprint: Measurement("completed", 9.0, "rmse", 0.7, False, curve=(0.9, 0.6, 0.7, 0.5))}
    assert dict(went_through([one, two, four], told))[two.fingerprint].utility == -0.6
