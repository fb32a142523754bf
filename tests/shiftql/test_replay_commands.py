"""`shiftql replay`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import shiftql
from shiftql.cli import main

RECORDS = Path(shiftql.__file__).parent / "records"
TEXT = str(RECORDS / "text_full.csv")
FIGURES = {"final_regret", "search_regret", "cost_fraction", "fine_tunes", "epochs", "top_k_mean"}


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
    assert set(answer["targets"][0]) == {"dataset", "picked", "coverage", "chance", *FIGURES}
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
    table = str(RECORDS / "vision_1k.csv")
    common = ("--records", table, "--strategy", "BestPerBenchmark", "--target", "smallnorb_azimuth")
    (known,), (held_out,) = answers(*common), answers(*common, "--hold-out", "smallnorb*")
    assert known["targets"][0]["fine_tunes"] > held_out["targets"][0]["fine_tunes"]


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
        (("--records", "nowhere.csv", "--strategy", "Enumerate"), "does not exist"),
        (("--records", str(RECORDS / "two_phase_cv.csv"), "--strategy", "Enumerate"), "has no column val_accuracy"),
        (("--records", TEXT, "--strategy", "Proxy('linear')"), "no model has the proxy linear"),
    ],
)
def test_what_cannot_be_replayed_is_told(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
