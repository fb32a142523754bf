"""Replays: held against what can be worked out by hand on a small table, and against published figures."""

from __future__ import annotations

from pathlib import Path

import pytest

import shiftql
from shiftql.recorded import Records, load_records
from shiftql.replaying import Outcome, replay
from shiftql.strategies.base import Problem
from shiftql.strategies.specs import read_strategy
from storage.errors import BindingError, StoreError

RECORDS = Path(shiftql.__file__).parent / "records"
# By model: validation, test and seconds on each dataset.
TABLE = {
    "d1": {"a": (0.9, 0.8, 10), "b": (0.8, 0.9, 30), "c": (0.5, 0.4, 60)},
    "d2": {"a": (0.6, 0.6, 1), "b": (0.7, 0.7, 1), "c": (0.9, 0.9, 2)},
    "d3": {"a": (0.9, 0.9, 1), "b": (0.2, 0.2, 1)},
}


def write(path: Path, rows: list[str], header: str = "dataset,model,val_accuracy,test_accuracy,elapsed_s") -> Records:
    path.write_text("\n".join([header, *rows]) + "\n")
    return load_records(path)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return write(
        tmp_path / "full.csv",
        [f"{d},{m},{v},{t},{s}" for d, models in TABLE.items() for m, (v, t, s) in models.items()],
    )


@pytest.fixture
def curves(tmp_path: Path) -> Records:
    """Three models over two epochs; the slow one is the best in the end."""
    rows = [
        f"{dataset},{model},{epoch},{value},{end}"
        for dataset in ("d1", "d2")
        for model, values, end in (("fast", (0.8, 0.8), 0.7), ("slow", (0.7, 0.9), 0.9), ("bad", (0.1, 0.1), 0.1))
        for epoch, value in enumerate(values, start=1)
    ]
    return write(tmp_path / "curves.csv", rows, "dataset,model,epoch,val_accuracy,test_accuracy")


def run(records: Records, target: str, strategy: str, **options: object) -> Outcome:
    return replay(records, target, read_strategy(strategy).make, **options)  # type: ignore[arg-type]


def test_enumeration_picks_by_validation_and_finds_the_best_by_test(records: Records) -> None:
    outcome = run(records, "d1", "Enumerate")
    assert (outcome.picked, outcome.fine_tunes, outcome.epochs) == ("a", 3, 0)
    assert outcome.final_regret == pytest.approx((0.9 - 0.8) / 0.9)
    assert (outcome.search_regret, outcome.cost_fraction) == (0.0, 1.0)
    assert outcome.top_k_mean == pytest.approx((0.8 + 0.9 + 0.4) / 3)


def test_costs_are_shares_of_fine_tuning_every_model_that_is_recorded(records: Records) -> None:
    outcome = run(records, "d1", "BestAverage(1)", top=1)
    # On d2 and d3 a has ranks 3 of 3 and 1 of 2, b 2 of 3 and 2 of 2, c 1 of 3.
    assert (outcome.picked, outcome.cost_fraction) == ("c", 0.6)
    assert outcome.final_regret == outcome.search_regret == pytest.approx((0.9 - 0.4) / 0.9)
    assert outcome.top_k_mean == 0.4
    assert {arm.model.name for arm in problem(records, "d3").arms} == {"a", "b"}


def problem(records: Records, target: str, **options: object) -> Problem:
    """What a strategy is given."""
    given: list[Problem] = []

    def make(each: Problem) -> object:
        given.append(each)
        return read_strategy("Enumerate").make(each)

    replay(records, target, make, **options)  # type: ignore[arg-type]
    return given[0]


def test_nothing_of_the_target_is_in_the_history(records: Records) -> None:
    history = problem(records, "d1").history
    assert history.datasets == ("d2", "d3")
    assert history.reached.shape == history.tested.shape == (3, 2)
    assert {values.shape for values in (*history.seen.values(), *history.seconds.values())} == {(3, 2)}


def test_a_family_is_no_history_of_its_members(records: Records) -> None:
    assert problem(records, "d1", families=["d[12]"]).history.datasets == ("d3",)
    assert problem(records, "d3", families=["d[12]"]).history.datasets == ("d1", "d2")


def test_predicted_seconds_never_look_at_the_target(tmp_path: Path, records: Records) -> None:
    seconds = [arm.rungs[-1].seconds for arm in problem(records, "d1").arms]
    assert seconds[2] > seconds[1] == seconds[0]
    rows = [f"{d},{m},{v},{t},{s * (99 if d == 'd1' else 1)}" for d, ms in TABLE.items() for m, (v, t, s) in ms.items()]
    slower = write(tmp_path / "slower.csv", rows)
    assert [arm.rungs[-1].seconds for arm in problem(slower, "d1").arms] == seconds


def test_cheap_runs_are_bought_at_their_own_cost(tmp_path: Path, records: Records) -> None:
    cheap = write(tmp_path / "cheap.csv", ["d1,a,0.1,0.1,2", "d1,b,0.9,0.9,3", "d2,a,0.5,0.5,1"])
    outcome = run(records, "d1", "Proxy('low_fidelity')", low_fidelity=cheap)
    assert (outcome.picked, outcome.fine_tunes) == ("b", 1)
    assert outcome.cost_fraction == pytest.approx((2 + 3 + 30) / 100)
    assert "low_fidelity" in problem(records, "d1", low_fidelity=cheap).history.seen


def test_epochs_are_paid_once_and_the_pick_to_its_last(curves: Records) -> None:
    outcome = run(curves, "d1", "SuccessiveHalving")
    assert (outcome.picked, outcome.epochs, outcome.fine_tunes) == ("slow", 3 + 2, 2)
    assert outcome.cost_fraction == pytest.approx(5 / 6)
    only = run(curves, "d1", "SuccessiveHalving(k=1)")
    assert (only.picked, only.epochs) == ("slow", 2)
    assert run(curves, "d1", "Enumerate").epochs == 6


def test_the_path_tells_cost_and_regret_of_a_pick_at_every_step(records: Records) -> None:
    outcome = run(records, "d1", "Enumerate")
    assert [cost for cost, _ in outcome.path] == pytest.approx([0.1, 0.4, 1.0])
    assert outcome.path[-1] == (outcome.cost_fraction, outcome.final_regret)


def test_of_several_runs_the_best_by_validation_stands_at_the_cost_of_all(tmp_path: Path) -> None:
    rows = ["d1,a,0.5,0.9,1,0.1", "d1,a,0.7,0.6,2,0.2", "d2,a,0.5,0.5,1,0.1"]
    table = write(tmp_path / "t.csv", rows, "dataset,model,val_accuracy,test_accuracy,elapsed_s,lr")
    outcome = run(table, "d1", "Enumerate", top=1)
    assert outcome.top_k_mean == 0.6
    assert table.seconds[0].tolist() == [[3.0, 1.0]]


def test_columns_that_are_the_same_in_every_row_of_a_model_are_its_metadata(tmp_path: Path) -> None:
    rows = ["d1,a,0.5,0.5,0.7,x", "d2,a,0.5,0.5,0.7,y", "d1,b,0.5,0.5,0.9,x", "d2,b,0.5,0.5,0.9,x"]
    table = write(tmp_path / "t.csv", rows, "dataset,model,val_accuracy,test_accuracy,upstream_accuracy,lr")
    assert [arm.metadata for arm in problem(table, "d1").arms] == [
        {"upstream_accuracy": 0.7},
        {"upstream_accuracy": 0.9},
    ]
    assert run(table, "d1", "Upstream").picked == "b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dataset,model,accuracy\nd,m,0.5\n", "has no column val_accuracy, test_accuracy"),
        ("dataset,model,val_accuracy,test_accuracy\nd,m,0.5,high\n", "line 2: test_accuracy is 'high'"),
        ("dataset,model,val_accuracy,test_accuracy\nd,m,,\n", "has no complete row"),
        ("", "cannot be read"),
    ],
)
def test_what_is_no_such_table_is_told(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises((BindingError, StoreError)) as caught:
        load_records(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("file", "strategy", "figures"),
    [
        ("vision_1k.csv", "Enumerate", (3.21, 0.0, 100.0)),
        ("vision_1k.csv", "BestAverage(1)", (23.47, 23.47, 0.42)),
        ("vision_1k.csv", "BestAverage(10)", (7.4, 6.39, 3.34)),
        ("vision_1k.csv", "BestPerBenchmark", (None, 2.77, 7.75)),
        ("text_full.csv", "Enumerate", (1.83, 0.0, 100.0)),
        ("text_full.csv", "BestAverage(10)", (5.68, 3.76, 19.46)),
        ("text_full.csv", "BestPerBenchmark", (4.55, 3.75, 16.23)),
        ("curves_nlp.csv", "Enumerate", (5.41, 0.0, 100.0)),
        ("curves_nlp.csv", "BestAverage(1)", (5.27, None, 2.07)),
    ],
)
def test_the_marks_of_plain_strategies_are_reproduced(
    file: str, strategy: str, figures: tuple[float | None, ...]
) -> None:
    """Of equal validation accuracies either model may be picked, hence the tolerance."""
    table = load_records(RECORDS / file)
    outcomes = [run(table, target, strategy) for target in table.datasets]
    for name, mark in zip(("final_regret", "search_regret", "cost_fraction"), figures, strict=True):
        mean = 100 * sum(getattr(outcome, name) for outcome in outcomes) / len(outcomes)
        assert mark is None or mean == pytest.approx(mark, abs=0.02)
