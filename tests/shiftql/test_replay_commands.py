"""`shiftql replay`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import shiftql
from shiftql.cli import main

RECORDS = Path(shiftql.__file__).parent / "records"
TEXT = str(RECORDS / "text_full.csv")
VISION = str(RECORDS / "vision_1k.csv")
FIGURES = {"final_regret", "search_regret", "cost_fraction", "fine_tunes", "epochs", "top_k_mean"}
AGREEMENT = {"weighted_tau", "pearson", "spearman"}


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["replay", *arguments])


def answers(*arguments: str) -> list[dict[str, Any]]:
    result = run(*arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_json_has_every_target_their_mean_and_the_largest() -> None:
    (answer,) = answers("--records", TEXT, "--strategy", "best_average(2)", "--all")
    assert answer["strategy"] == "BestAverage(k=2)"
    assert len(answer["targets"]) == 11
    assert set(answer["targets"][0]) == {"dataset", "picked", "coverage", "chance", *AGREEMENT, *FIGURES}
    for part in ("mean", "standard_error", "max"):
        assert set(answer[part]) == FIGURES
    regrets = [target["final_regret"] for target in answer["targets"]]
    assert answer["mean"]["final_regret"] == pytest.approx(sum(regrets) / 11)
    assert answer["max"]["final_regret"] == max(regrets)


def test_one_target_and_several_strategies_are_a_line_each() -> None:
    found = answers("--records", TEXT, "--strategy", "Enumerate", "--strategy", "Random(2)", "--target", "ag_news")
    assert [answer["strategy"] for answer in found] == ["Enumerate", "Random(k=2)"]
    assert [[target["dataset"] for target in answer["targets"]] for answer in found] == [["ag_news"]] * 2
    assert found[0]["standard_error"]["final_regret"] is None


def test_seeds_are_replayed_where_they_matter() -> None:
    common = ("--records", TEXT, "--target", "ag_news", "--seeds", "3")
    random, average = answers(*common, "--strategy", "Random(2)", "--strategy", "BestAverage(2)")
    assert [target["seed"] for target in random["targets"]] == [0, 1, 2]
    assert len(average["targets"]) == 1


def test_several_tables_are_replayed_each_by_itself() -> None:
    curves = str(RECORDS / "curves_nlp.csv")
    (answer,) = answers("--records", TEXT, curves, "--strategy", "BestAverage(1)")
    assert {target["records"] for target in answer["targets"]} == {"text_full", "curves_nlp"}
    assert len(answer["targets"]) == 11 + 21


def test_cheap_runs_leave_the_targets_that_have_some() -> None:
    cheap = str(RECORDS / "text_1k.csv")
    (answer,) = answers("--records", TEXT, "--low-fidelity", cheap, "--strategy", "Proxy('low_fidelity', k=2)")
    assert len(answer["targets"]) == 9


def test_a_family_is_held_out() -> None:
    common = ("--records", VISION, "--strategy", "BestPerBenchmark", "--target", "smallnorb_azimuth")
    (known,), (held_out,) = answers(*common), answers(*common, "--hold-out", "smallnorb*")
    assert known["targets"][0]["fine_tunes"] > held_out["targets"][0]["fine_tunes"]


def test_agreement_is_told_where_enough_models_are_ranked() -> None:
    common = ("--records", TEXT, "--target", "ag_news")
    many, few = answers(*common, "--strategy", "Enumerate", "--strategy", "Random(2)")
    assert all(-1 <= many["targets"][0][name] <= 1 for name in AGREEMENT)
    assert [few["targets"][0][name] for name in AGREEMENT] == [None] * 3


def test_pictures_are_written_and_told_on_standard_error(tmp_path: Path) -> None:
    cheap = str(RECORDS / "text_1k.csv")
    pictures = tmp_path / "new" / "pictures"
    common = ("--records", TEXT, "--low-fidelity", cheap, "--strategy", "BestAverage(3)", "--target", "glue/sst2")
    plain, drawn = run(*common), run(*common, "--pictures", str(pictures))
    assert drawn.exit_code == 0
    assert drawn.stdout == plain.stdout
    names = [
        "text_full-regret.png",
        "text_full-truth-BestAverage-k-3.png",
        "text_full-truth-cheap-runs-of-text_1k.png",
        "replay.html",
    ]
    assert drawn.stderr.splitlines() == [f"{pictures / name} is written" for name in names]
    assert all((pictures / name).stat().st_size > 1000 for name in names)


def test_every_table_has_pictures_of_its_own(tmp_path: Path) -> None:
    curves = str(RECORDS / "curves_nlp.csv")
    result = run(
        "--records", TEXT, curves, "--strategy", "BestAverage(1)", "--target", "rte", "--pictures", str(tmp_path)
    )
    assert result.exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "curves_nlp-regret.png",
        "curves_nlp-truth-first-epoch.png",
        "replay.html",
    }


def test_pictures_that_cannot_be_written_are_told_before_anything_is_replayed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    arguments = ("--records", TEXT, "--strategy", "Enumerate", "--pictures", str(tmp_path / "file" / "below"))
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be written" in result.stderr
    assert "name a directory that can be written" in result.stderr


def test_a_strategy_that_cannot_be_made_is_told_before_others_are_replayed() -> None:
    result = run("--records", TEXT, "--strategy", "Enumerate", "--strategy", "Proxy('linear')")
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_target_is_taken_from_the_tables_that_have_it() -> None:
    (answer,) = answers("--records", TEXT, VISION, "--strategy", "BestAverage(1)", "--target", "dtd")
    assert [(target["records"], target["dataset"]) for target in answer["targets"]] == [("vision_1k", "dtd")]


HEADER = "dataset,model,epoch,val_accuracy,test_accuracy,elapsed_s\n"
WHOLE = "d1,a,1,.5,.5,1\nd1,a,2,.5,.5,1\nd1,b,1,.6,.6,1\nd1,b,2,.6,.6,1\n"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("d2,a,1,.3,.3,1\n", "no model has all its epochs recorded"),
        ("d2,a,1,0,0,1\nd2,a,2,0,0,1\n", "no model has a test accuracy above 0"),
        ("d2,a,1,.5,.5,0\nd2,a,2,.5,.5,0\n", "no model took any time"),
    ],
)
def test_a_dataset_for_which_nothing_can_be_chosen_is_left_out_and_told(tmp_path: Path, rows: str, reason: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(HEADER + WHOLE + rows)
    result = run("--records", str(table), "--strategy", "Enumerate", "--format", "json")
    assert result.exit_code == 0
    assert result.stderr == f"d2 of t is left out: {reason}\n"
    assert [target["dataset"] for target in json.loads(result.stdout)["targets"]] == ["d1"]
    asked_for = run("--records", str(table), "--strategy", "Enumerate", "--target", "d2")
    assert asked_for.exit_code == 2
    assert f"nothing can be chosen for d2 of t: {reason}" in asked_for.stderr


def test_seeds_of_a_dataset_are_no_datasets_of_their_own() -> None:
    common = ("--records", TEXT, "--strategy", "Random(2)", "--seeds", "3")
    (one,) = answers(*common, "--target", "ag_news")
    (two,) = answers(*common, "--target", "ag_news", "--target", "glue/sst2")
    assert one["standard_error"]["final_regret"] is None
    means = [sum(row["final_regret"] for row in two["targets"][part]) / 3 for part in (slice(3), slice(3, 6))]
    assert two["standard_error"]["final_regret"] == pytest.approx(abs(means[0] - means[1]) / 2)


def test_csv_of_several_strategies_has_one_header() -> None:
    common = ("--records", TEXT, "--target", "ag_news", "--seeds", "2", "--format", "csv")
    rows = list(csv.DictReader(run(*common, "--strategy", "Enumerate", "--strategy", "Random(2)").stdout.splitlines()))
    assert [row["strategy"] for row in rows] == ["Enumerate"] * 4 + ["Random(k=2)"] * 5
    assert [row["seed"] for row in rows if row["dataset"] == "ag_news"] == ["", "0", "1"]


@pytest.mark.parametrize("format", ["table", "markdown", "csv"])
def test_people_see_every_target_and_the_mean(format: str) -> None:
    result = run("--records", TEXT, "--strategy", "Enumerate", "--format", format)
    assert result.exit_code == 0
    assert "tweet_eval/irony" in result.stdout
    assert "mean" in result.stdout
    assert ("1.83 %" in result.stdout) == (format != "csv")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--records", TEXT, "--strategy", "Rndom"), "did you mean Random?"),
        (("--records", TEXT, "--strategy", "Enumerate", "--target", "agnew"), "did you mean ag_news?"),
        (("--records", TEXT, "--strategy", "Enumerate", "--target", "ag_news", "--all"), "exclude each other"),
        (("--records", TEXT, TEXT, "--strategy", "Enumerate"), "2 tables are called text_full"),
        (("--records", VISION, "--low-fidelity", TEXT, "--strategy", "Enumerate"), "no dataset to choose for that"),
        (("--records", "nowhere.csv", "--strategy", "Enumerate"), "does not exist"),
        (("--records", str(RECORDS / "two_phase_cv.csv"), "--strategy", "Enumerate"), "has no column val_accuracy"),
        (("--records", TEXT, "--strategy", "Proxy('linear')"), "no model has the proxy linear"),
        (("--records", TEXT, "--strategy", "SuccessiveHalving"), "these evaluations have one"),
        (("--records", TEXT, "--strategy", "Upstream"), "no model tells its upstream accuracy"),
        (("--records", TEXT, "--strategy", "Enumerate", "--hold-out", "zzz*"), "is no dataset's name"),
    ],
)
def test_what_cannot_be_replayed_is_told(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
