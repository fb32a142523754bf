"""What Auto promises beyond the laws of every strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import shiftql
from shiftql.history import kind_of
from shiftql.recorded import Records, load_records
from shiftql.replaying import replay
from shiftql.strategies.auto import Auto
from shiftql.strategies.auto_confidence import Confidence
from shiftql.strategies.auto_inputs import Table, completed, name_overlap
from shiftql.strategies.auto_model import AutoModel, Kind
from shiftql.strategies.base import Arm, History, Offer, Problem, no_history
from storage.evaluations import Evaluation, Measurement, Subject

RECORDS = Path(shiftql.__file__).parent / "records"
RANDOM = np.random.default_rng(0)
NAMES = [f"owner/model-{number}" for number in range(30)]
SKILLS = np.linspace(0.4, 0.9, 30)
# Accuracies that a model's skill and chance make.
REACHED = np.clip(SKILLS[:, None] + RANDOM.normal(0, 0.02, (30, 6)), 0, 1)
DATASETS = [f"d{number}" for number in range(6)]


def model(reached: np.ndarray = REACHED, target: str = "target", names: Sequence[str] = NAMES) -> AutoModel:
    datasets = DATASETS[: reached.shape[1]]
    return AutoModel(names, target, reached, datasets, [Kind(reached, np.ones(len(names)), full=True)])


def everything(found: AutoModel) -> list[tuple[int, int]]:
    return [(number, 0) for number in range(len(found.models)) if number not in found.evaluated()]


def run(found: AutoModel, truth: Callable[[int], float], steps: int) -> list[int]:
    for _ in range(steps):
        place = found.next(everything(found), np.inf, 0.0)
        assert place is not None
        found.tell(*place, truth(place[0]))
    return found.evaluated()


def test_who_did_well_elsewhere_is_tried_first() -> None:
    assert min(run(model(), lambda number: float(SKILLS[number]), 3)) >= 25


def test_a_target_that_turns_the_order_round_is_found_out() -> None:
    tried = run(model(), lambda number: float(SKILLS[-1 - number]), 20)
    assert min(tried) < 5


def test_without_history_it_spreads_and_still_finds_a_good_one() -> None:
    tried = run(model(np.empty((30, 0))), lambda number: float(SKILLS[number]), 10)
    assert len(set(tried)) == 10
    assert max(tried) >= 20


def test_a_name_that_contains_the_datasets_is_a_reason_to_try() -> None:
    names = list(NAMES)
    names[3] = "owner/vit-finetuned-eurosat"
    assert name_overlap(names, ["torch/eurosat"])[3, 0] == 1.0
    plain, told = model(), model(target="eurosat", names=names)
    means = [each.predict()[0][3] for each in (plain, told)]
    assert means[1] > means[0] + 1.0


def test_a_price_is_a_reason_against() -> None:
    prices = np.ones(30)
    prices[29] = 100.0
    costly = AutoModel(NAMES, "target", REACHED, DATASETS, [Kind(REACHED, prices, full=True)])
    assert run(costly, lambda number: float(SKILLS[number]), 1) != [29]
    assert costly.next([(29, 0)], 50.0, 0.0) is None


def test_what_is_evaluated_is_known_better_than_what_is_not() -> None:
    found = model()
    tried = run(found, lambda number: float(SKILLS[number]), 5)
    _, deviation = found.predict()
    rest = [number for number in range(30) if number not in tried]
    assert deviation[tried].max() < deviation[rest].min()


def test_units_of_accuracy_do_not_matter() -> None:
    percent = AutoModel(NAMES, "target", 100 * REACHED, DATASETS, [Kind(100 * REACHED, np.ones(30), full=True)])
    shares, hundreds = model(), percent
    for factor, found in ((1.0, shares), (100.0, hundreds)):
        run(found, lambda number, factor=factor: factor * float(SKILLS[number]), 6)  # type: ignore[misc]
    assert shares.evaluated() == hundreds.evaluated()


def test_a_collapsed_run_says_no_more_than_that_it_is_bad() -> None:
    table = Table.of(np.array([[0.9, 0.8, 0.7, 0.0]]).T)
    assert table.z[-1, 0] == -1.0


def test_a_missing_cell_is_expected_by_what_its_model_did_on_alike_datasets() -> None:
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 60, 1))
    # Three datasets where one skill counts, and three where another does.
    true = np.hstack([one, one, one, other, other, other]) + random.normal(0, 0.3, (60, 6))
    lost = random.random(true.shape) < 0.2
    known = np.where(lost, np.nan, true)
    known[0] = np.nan
    filled = completed(known)
    seen = np.isfinite(known)
    assert np.array_equal(filled[seen], known[seen])
    assert np.isnan(filled[0]).all()
    missing = ~seen & np.isfinite(filled)
    averages = np.broadcast_to(np.nanmean(known[1:], axis=1, keepdims=True), (59, 6))
    errors = [((values - true[1:])[missing[1:]] ** 2).mean() for values in (filled[1:], averages)]
    assert errors[0] < 0.75 * errors[1]


@pytest.mark.parametrize("datasets", [0, 1])
def test_what_no_other_dataset_tells_of_stays_missing(datasets: int) -> None:
    lonely = np.where(np.arange(5) < 3, 1.0, np.nan)[:, None].repeat(datasets, axis=1)
    assert np.array_equal(completed(lonely), lonely, equal_nan=True)


def test_cheap_runs_that_hardly_differed_elsewhere_do_no_harm() -> None:
    reached, cheap = REACHED[:, :2], REACHED[:, :2].copy()
    cheap[:, 0] = 1e-6
    kinds = [Kind(reached, np.ones(30), full=True), Kind(cheap, np.full(30, 0.1), full=False)]
    found = AutoModel(NAMES, "target", reached, DATASETS[:2], kinds)
    for number in (29, 28, 27, 26):
        found.tell(number, 1, float(SKILLS[number]))
    found.tell(29, 0, float(SKILLS[29]))
    mean, deviation = found.predict()
    assert np.isfinite(mean).all()
    assert (deviation > 0).all()


def problem(records: Records, target: str) -> Problem:
    given: list[Problem] = []

    def make(each: Problem) -> Auto:
        given.append(each)
        return Auto(each, share=0.01)

    replay(records, target, make)
    return given[0]


@pytest.fixture(scope="module")
def text() -> Records:
    return load_records(RECORDS / "text_full.csv")


def test_it_spends_no_more_than_its_share(text: Records) -> None:
    each = problem(text, "ag_news")
    total = sum(offer.seconds for arm in each.arms for offer in arm.rungs)
    for share in (0.05, 0.2):
        running = Auto(each, share=share, gain=0.0)
        spent = 0.0
        while wanted := running.ask(3):
            for evaluation in wanted:
                spent += next(arm.rungs[0].seconds for arm in each.arms if arm.final == evaluation)
            told = {
                evaluation.fingerprint: Measurement("completed", 1.0, value=len(evaluation.model.name) / 100)
                for evaluation in wanted
            }
            running.tell(told)
        assert 0.5 * share * total < spent <= share * total


def test_it_ends_when_nothing_is_worth_its_price(text: Records) -> None:
    each = problem(text, "ag_news")
    assert len(_asked(Auto(each, share=1.0, gain=1.0))) < len(_asked(Auto(each, share=1.0, gain=0.001)))


def _asked(running: Auto) -> list[str]:
    asked: list[str] = []
    while wanted := running.ask(1):
        asked += [evaluation.model.name for evaluation in wanted]
        running.tell({wanted[0].fingerprint: Measurement("completed", 1.0, value=0.8)})
    return asked


def test_history_of_models_that_are_not_offered_does_no_harm(text: Records) -> None:
    each = problem(text, "ag_news")
    few = replace(each, arms=each.arms[:5])
    assert set(_asked(Auto(few, share=1.1, gain=0.0))) == {arm.model.name for arm in few.arms}


def test_a_model_that_cannot_be_trained_is_not_ranked_and_not_tried_again(text: Records) -> None:
    running = Auto(problem(text, "ag_news"), share=0.3, gain=0.0)
    (first,) = running.ask(1)
    running.tell({first.fingerprint: Measurement("failed", 0.0, reason="truncated")})
    asked = running.ask(5)
    running.tell({evaluation.fingerprint: Measurement("completed", 1.0, value=0.8) for evaluation in asked})
    assert first.model not in {evaluation.model for evaluation in asked}
    assert first.model not in {ranked.model for ranked in running.answer().ranking}


def test_a_cheap_run_that_fails_says_nothing_against_the_model(text: Records) -> None:
    given: list[Problem] = []

    def make(each: Problem) -> Auto:
        given.append(each)
        return Auto(each, share=0.01)

    replay(text, "ag_news", make, low_fidelity=load_records(RECORDS / "text_1k.csv"))
    running = Auto(given[0], share=0.2)
    cheap = {offer.evaluation.fingerprint for arm in given[0].arms for offer in arm.hints}
    running.tell({each: Measurement("failed", 0.0, reason="undefined") for each in cheap})
    asked = running.ask(5)
    assert len(asked) == 5
    assert not cheap & {evaluation.fingerprint for evaluation in asked}


def test_cheap_runs_are_bought_and_tell_of_the_full_ones(text: Records) -> None:
    outcome = replay(text, "rotten_tomatoes", Auto, low_fidelity=load_records(RECORDS / "text_1k.csv"))
    assert len(outcome.path) > outcome.fine_tunes
    assert outcome.cost_fraction < 0.15
    assert outcome.search_regret < 0.03
    assert outcome.chance is not None
    assert 0 < outcome.chance < 1


def test_the_most_promising_is_trained_to_its_last_epoch() -> None:
    outcome = replay(load_records(RECORDS / "curves_nlp.csv"), "sst2", Auto)
    assert outcome.fine_tunes >= 1
    assert outcome.cost_fraction < 0.08


def test_equal_values_do_not_close_the_intervals() -> None:
    """What Auto evaluates on qqp is so alike that it takes all models to be."""
    outcome = replay(load_records(RECORDS / "curves_nlp.csv"), "qqp", Auto)
    assert outcome.coverage is not None
    assert outcome.coverage > 0.2
    widths = [each.high - each.low for each in outcome.estimates if each.high is not None and each.low is not None]
    assert min(widths) > 0.1


def test_what_was_evaluated_has_the_narrower_interval() -> None:
    found = model()
    tried = run(found, lambda number: float(REACHED[number, 0]), 8)
    low, high = Confidence.of(found).interval(found)
    rest = [number for number in range(30) if number not in tried]
    assert (high - low)[tried].max() < (high - low)[rest].min()


@pytest.mark.parametrize("table", ["text_full", "curves_nlp"])
def test_who_is_told_the_same_goes_on_alike(table: str) -> None:
    """Whoever bought it, and in whatever order it is told: the planner makes a strategy anew after every result."""
    each = problem(load_records(RECORDS / f"{table}.csv"), "ag_news")
    running, asked = Auto(each), list[Evaluation]()
    results: dict[str, Measurement] = {}
    while wanted := running.ask(1):
        afresh = Auto(each)
        afresh.tell(dict(reversed(results.items())))
        assert afresh.ask(1) == wanted
        asked += wanted
        results |= {
            evaluation.fingerprint: Measurement(
                "completed", 1.0 + len(evaluation.model.name), value=int(evaluation.fingerprint, 16) / 16**32
            )
            for evaluation in wanted
        }
        running.tell({wanted[0].fingerprint: results[wanted[0].fingerprint]})
    afresh = Auto(each)
    afresh.tell(dict(reversed(results.items())))
    assert len(asked) > 2
    assert list(afresh.ask(1)) == []


def test_what_is_under_way_is_believed_so_that_a_batch_spreads(text: Records) -> None:
    each = problem(text, "ag_news")
    together = Auto(each, share=0.3, gain=0.0).ask(4)
    assert len({evaluation.model for evaluation in together}) == 4
    found = model()
    found.tell(29, 0, 0.9)
    believing = found.believing([(28, 0)])
    assert believing.predict()[1][28] < found.predict()[1][28]
    assert believing.predict()[0][28] == pytest.approx(found.predict()[0][28], abs=0.02)
    assert found.evaluated() == [29]


@pytest.mark.parametrize("table", [None, "text_1k"])
def test_however_small_the_share_a_look_and_one_full_run_are_in_it(text: Records, table: str | None) -> None:
    given: list[Problem] = []

    def make(each: Problem) -> Auto:
        given.append(each)
        return Auto(each, share=1e-9)

    cheap = None if table is None else load_records(RECORDS / f"{table}.csv")
    assert replay(text, "ag_news", make, low_fidelity=cheap).fine_tunes >= 1
    prices = [arm.rungs[0].seconds for arm in given[0].arms]
    price = {offer.evaluation.fingerprint: offer.seconds for arm in given[0].arms for offer in (*arm.rungs, *arm.hints)}
    predicted = sum(price[each.fingerprint] for each in Auto(given[0], share=1e-9).ask(len(price)))
    assert 0 < predicted <= 2 * sum(prices) / len(prices)


def test_what_it_recommends_is_trained_where_that_is_paid_for() -> None:
    """Without a history full runs show what counts, and a dear model may look best by its proxy."""
    dataset = Subject("digits", "digits")

    def offer(name: str, method: str, seconds: float) -> Offer:
        return Offer(method, Evaluation(Subject(name, name), dataset, dataset, method, "1"), seconds)

    prices = {"dear": 8.0, "cheap": 1.0, "cheap-too": 1.0, "cheapest": 0.5}
    proxies = {"dear": 0.95, "cheap": 0.65, "cheap-too": 0.5, "cheapest": 0.45}
    arms = [
        Arm(Subject(name, name), (offer(name, "finetune", price),), (offer(name, "linear", 0.05),))
        for name, price in prices.items()
    ]
    asked, running = [], Auto(Problem("digits", arms, no_history()), budget=9.0)
    while wanted := running.ask(1):
        (each,) = wanted
        asked.append((each.method, each.model.name))
        running.tell({each.fingerprint: Measurement("completed", 0.0, value=proxies[each.model.name])})
    assert running.answer().ranking[0].model.name == "dear"
    assert ("finetune", "dear") in asked


def _look(number: int, method: str, price: float, **fidelity: int) -> Offer:
    dataset, name = Subject("digits", "digits"), f"m{number:02}"
    evaluation = Evaluation(Subject(name, name), dataset, dataset, method, "1", fidelity=fidelity)
    return Offer(kind_of(method, fidelity), evaluation, price)


def _looked_at(models: int = 20, price: float = 0.02, rungs: int = 2, eta: int = 4) -> Problem:
    """Models that a proxy tells apart on 10, 20 or all rows, without any history."""
    arms = [
        Arm(
            Subject(f"m{number:02}", f"m{number:02}"),
            (_look(number, "finetune", 0.25, epochs=5), _look(number, "finetune", 0.75))[-rungs:],
            (_look(number, "linear", 3 * price),),
            glances=(_look(number, "linear", price, rows=10), _look(number, "linear", price, rows=20)),
        )
        for number in range(models)
    ]
    return Problem("digits", arms, no_history(), eta)


def _skill(evaluation: Evaluation) -> Measurement:
    """Training turns the order of the three that proxies have best round."""
    number = int(evaluation.model.name[1:])
    if evaluation.method == "finetune":
        number = {17: 19, 19: 17}.get(number, number)
    return Measurement("completed", 0.0, value=number / 40 + 0.4)


def _in_turn(running: Auto, count: int = 100) -> list[set[tuple[str, str, str]]]:
    """What is asked for at a time: methods, fidelities and models."""
    asked = []
    while wanted := running.ask(count):
        asked.append({(each.method, str(dict(each.fidelity)), each.model.name) for each in wanted})
        running.tell({each.fingerprint: _skill(each) for each in wanted})
    return asked


def _all(method: str, fidelity: dict[str, int], models: Sequence[int]) -> set[tuple[str, str, str]]:
    return {(method, str(fidelity), f"m{number:02}") for number in models}


def test_who_knows_nothing_looks_at_all_on_few_rows_at_the_better_on_more_and_tries_the_best() -> None:
    running = Auto(_looked_at())
    first, second, third, fourth, *_ = _in_turn(running)
    assert first == _all("linear", {"rows": 10}, range(20))
    assert second == _all("linear", {"rows": 20}, range(15, 20))
    assert third == _all("finetune", {"epochs": 5}, (17, 18, 19))
    assert fourth == _all("finetune", {}, (17,))
    winner, *others = running.answer().ranking
    assert winner.model.name == "m17"
    assert [each.utility for each in others] == sorted((each.utility for each in others), reverse=True)


def test_as_many_go_on_from_look_to_look_as_the_rows_of_these_are_for() -> None:
    for eta, going_on in ((2, 10), (3, 7), (4, 5)):
        _, second, *_ = _in_turn(Auto(_looked_at(eta=eta)))
        assert second == _all("linear", {"rows": 20}, range(20 - going_on, 20))


def _with_history(problem: Problem, models: int) -> Problem:
    """What so many of the models did on other datasets is known."""
    names = tuple(arm.model.name for arm in problem.arms)
    datasets = tuple(f"d{number}" for number in range(6))
    reached = np.full((len(names), len(datasets)), np.nan)
    reached[:models] = REACHED[:models]
    return replace(problem, history=History(names, datasets, reached, reached, {"finetune": reached}, {}))


@pytest.mark.parametrize(("known", "is_enough"), [(1, False), (6, False), (7, True)])
def test_who_knows_what_few_models_did_elsewhere_looks_at_all_too(known: int, is_enough: bool) -> None:
    """As after questions of its own, which train one model each."""
    wanted = Auto(_with_history(_looked_at(price=0.08), known)).ask(100)
    assert ({each.method for each in wanted} == {"linear"} and len(wanted) == 20) is not is_enough


def test_who_knows_other_datasets_races_where_that_takes_no_more_than_twice_the_share() -> None:
    """A race takes 2.0 of 20, or 3.5, of which 0.5 are for two that are tried beside one."""
    for price, share, races in ((0.02, 0.06, True), (0.08, 0.06, False), (0.02, 0.03, False), (0.08, 0.18, True)):
        first, *later = _in_turn(Auto(_with_history(_looked_at(price=price), 20), share=share))
        assert (first == _all("linear", {"rows": 10}, range(20))) is races
        if races:
            assert later[1:3] == [_all("finetune", {"epochs": 5}, (17, 18, 19)), _all("finetune", {}, (17,))]


def test_where_training_has_no_rungs_the_best_by_the_proxy_is_trained() -> None:
    _, second, third, *_ = _in_turn(Auto(_looked_at(rungs=1)))
    assert second == _all("linear", {"rows": 20}, range(15, 20))
    assert third == _all("finetune", {}, (19,))


def test_who_begins_anew_goes_on_with_the_race() -> None:
    problem = _looked_at()
    running, asked = Auto(problem), list[Evaluation]()
    while wanted := running.ask(3):
        asked += wanted
        running.tell({each.fingerprint: _skill(each) for each in wanted})
        afresh = Auto(problem)
        afresh.tell({each.fingerprint: _skill(each) for each in reversed(asked)})
        assert afresh.answer().ranking[0] == running.answer().ranking[0]
    assert [each.method for each in asked].count("linear") == 20 + 5
    assert list(afresh.ask(3)) == []


def test_the_fewer_are_tried_the_less_may_be_spent() -> None:
    """A race takes 0.4 + 0.1, 0.25 for each that is tried and 0.75 for the rest of one."""
    for budget, tried in ((2.1, 3), (1.8, 2), (1.55, 1)):
        _, _, third, *_ = _in_turn(Auto(_looked_at(), budget=budget))
        assert third == _all("finetune", {"epochs": 5}, range(20 - tried, 20))


def test_where_all_proxies_are_known_the_best_by_them_are_tried() -> None:
    problem = _looked_at()
    running = Auto(problem)
    running.tell({arm.hints[0].evaluation.fingerprint: _skill(arm.hints[0].evaluation) for arm in problem.arms})
    first, second, *_ = _in_turn(running)
    assert first == _all("finetune", {"epochs": 5}, (17, 18, 19))
    assert second == _all("finetune", {}, (17,))


def test_nobody_races_where_that_costs_as_much_as_training() -> None:
    dear = [each for some in _in_turn(Auto(_looked_at(price=0.5))) for each in some]
    assert not [each for each in dear if "rows" in each[1]]


def test_a_model_that_cannot_be_looked_at_is_out_of_the_race_alone() -> None:
    running = Auto(_looked_at())
    wanted = running.ask(100)
    failed = Measurement("failed", 0.0, reason="truncated")
    running.tell({each.fingerprint: failed if each.model.name == "m19" else _skill(each) for each in wanted})
    assert {each.model.name for each in running.ask(100)} == {"m14", "m15", "m16", "m17", "m18"}
