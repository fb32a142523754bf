"""Estimates beside what models reach, and how well they agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr, weightedtau

from shiftql.agreement import Agreement, agreement
from shiftql.pictures.estimates import of_answer, of_cheap_runs, of_first_epoch
from shiftql.pictures.looks import worded_agreement
from shiftql.recorded import Records, load_records

TESTED, ESTIMATED = [0.9, 0.7, 0.8, 0.2, 0.2], [0.8, 0.75, 0.6, 0.3, 0.1]


def test_agreement_is_that_of_scipy_weighted_by_what_models_reach() -> None:
    found = agreement(TESTED, ESTIMATED)
    assert found.weighted_tau == pytest.approx(weightedtau(TESTED, ESTIMATED, rank=None).statistic)
    assert found.pearson == pytest.approx(pearsonr(TESTED, ESTIMATED).statistic)
    assert found.spearman == pytest.approx(spearmanr(TESTED, ESTIMATED).statistic)


def test_the_best_models_weigh_most() -> None:
    swapped_above, swapped_below = [0.3, 0.4, 0.2, 0.1], [0.4, 0.3, 0.1, 0.2]
    truth = [0.4, 0.3, 0.2, 0.1]
    above, below = agreement(truth, swapped_above).weighted_tau, agreement(truth, swapped_below).weighted_tau
    assert above is not None
    assert below is not None
    assert above < below


@pytest.mark.parametrize(
    ("tested", "estimated"), [([0.1, 0.2], [0.1, 0.2]), ([0.1] * 4, [1, 2, 3, 4]), ([1, 2, 3], [0.5] * 3), ([], [])]
)
def test_where_agreement_says_nothing_it_is_none(tested: list[float], estimated: list[float]) -> None:
    assert agreement(tested, estimated) == Agreement(None, None, None)


def test_agreement_is_worded_as_in_a_table(outcome: Any) -> None:
    alike = of_answer("Some", outcome([(0.1, 0.1)], estimates=[(0.1, 0.1), (0.3, 0.3), (0.2, 0.2)]))
    assert worded_agreement(alike) == "τw 1.00  r 1.00  ρ 1.00  n 3"
    opposed = of_answer("Some", outcome([(0.1, 0.1)], estimates=[(0.1, 0.3), (0.3, 0.1), (0.2, 0.3), (0.2, 0.1)]))
    assert worded_agreement(opposed).endswith("r −.71  ρ −.71  n 4")
    few = of_answer("Some", outcome([(0.1, 0.1)], estimates=[(0.1, 0.1)]))
    assert worded_agreement(few) == "τw –  r –  ρ –  n 1"


def test_an_answer_is_held_against_what_models_reach(outcome: Any) -> None:
    said = of_answer("Some", outcome([(0.1, 0.1)], estimates=list(zip(ESTIMATED, TESTED, strict=True))))
    assert said.agreement == agreement(TESTED, ESTIMATED)
    assert [each.is_trained for each in said.models] == [True, False, False, False, False]


@pytest.fixture
def curves(tmp_path: Path) -> Records:
    path = tmp_path / "curves.csv"
    rows = ["dataset,model,epoch,val_accuracy,test_accuracy"]
    for model, first, last in (("a", 0.5, 0.9), ("b", 0.6, 0.8), ("c", 0.1, 0.2)):
        rows += [f"d,{model},1,{first},{last}", f"d,{model},2,{last},{last}"]
    path.write_text("\n".join([*rows, "d,unfinished,1,0.7,0.7"]) + "\n")
    return load_records(path)


def test_the_first_epoch_is_told_of_the_models_that_can_be_chosen(curves: Records) -> None:
    said = of_first_epoch(curves, "d")
    assert [(each.model, each.utility, each.tested) for each in said.models] == [
        ("a", 0.5, 0.9),
        ("b", 0.6, 0.8),
        ("c", 0.1, 0.2),
    ]


def test_cheap_runs_are_told_of_the_models_that_have_one(tmp_path: Path, curves: Records) -> None:
    path = tmp_path / "quick.csv"
    path.write_text("dataset,model,val_accuracy,test_accuracy\nd,c,0.3,0.3\nd,a,0.4,0.4\nd,other,0.1,0.1\ne,b,1,1\n")
    said = of_cheap_runs(curves, "d", load_records(path))
    assert [(each.model, each.utility) for each in said.models] == [("a", 0.4), ("c", 0.3)]
    assert said.source == "cheap runs of quick"
    assert np.isclose([each.tested for each in said.models], [0.9, 0.2]).all()
