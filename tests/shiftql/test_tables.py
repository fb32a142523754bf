"""Tables word values for people."""

import pytest

from shiftql.tables import abbreviate, tabulate_ranking, tabulate_rows


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (845, "845"),
        (1000, "1K"),
        (84_512, "84.5K"),
        (999_999, "1M"),
        (22_700_000, "22.7M"),
        (7e9, "7B"),
    ],
)
def test_parameters_are_abbreviated_to_three_digits(number, text):
    assert abbreviate(int(number)) == text


def test_only_sizes_are_abbreviated():
    table = tabulate_rows(["num_params", "num_rows"], [{"num_params": 12345, "num_rows": 12345}])
    assert table.rows == (("12.3K", "12345"),)


def test_line_breaks_do_not_break_a_row():
    assert tabulate_rows(["reason"], [{"reason": "a\n  b"}]).rows == (("a b",),)


def test_numbers_are_aligned_and_truth_values_are_words():
    table = tabulate_rows(
        ["n", "yes", "text"], [{"n": 1, "yes": True, "text": "1"}, {"n": None, "yes": None, "text": ""}]
    )
    assert table.numeric == {"n"}
    assert table.rows == (("1", "true", "1"), ("", "", ""))


def _ranked(rank, model, tied, **columns):
    figures = {"score": 0.5, "metric": "accuracy", "higher_is_better": True, "low": None, "high": None}
    return {"rank": rank, "model": model, **figures, "tied": tied, "n_test": 10, "layer": None, **columns}


def test_ties_with_the_best_are_marked():
    table = tabulate_ranking([_ranked(1, "a", False), _ranked(2, "b", True), _ranked(3, "c", False)])
    assert ["≈" in row for row in table.rows] == [False, True, False]


@pytest.mark.parametrize(("score", "text"), [(-1.26e-5, "-1.3e-05"), (0.0, "0.000"), (-0.0014, "-0.001"), (7, "7.000")])
def test_tiny_scores_are_told_apart_from_none(score: float, text: str) -> None:
    assert text in tabulate_ranking([{**_ranked(1, "a", False), "score": score}]).rows[0]


def test_the_selected_name_is_not_shown_beside_the_same_model():
    assert "name" not in tabulate_ranking([_ranked(1, "a", True, name="a")]).header
    assert "name" in tabulate_ranking([_ranked(1, "a", True, name="b")]).header


def test_the_layer_is_shown_where_one_was_chosen():
    plain = tabulate_ranking([_ranked(1, "a", False, layer="last"), _ranked(2, "b", False, layer="probabilities")])
    assert "layer" not in plain.header
    chosen = tabulate_ranking([_ranked(1, "a", False, layer="3"), _ranked(2, "b", False, layer="last")])
    place = chosen.header.index("layer")
    assert [row[place] for row in chosen.rows] == ["3", "last"]


def test_baselines_stand_beneath():
    table = tabulate_ranking([_ranked(1, "a", True), _ranked(None, "majority", False, baseline=True)])
    assert [row[1] for row in table.rows] == ["a"]
    assert [row[1] for row in table.beneath] == ["majority"]
