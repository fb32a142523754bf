"""`shiftql simulate`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from plotly.offline import get_plotlyjs

import shiftql.engine
from shiftql.cli import main
from shiftql.simulated_pool import Pool
from shiftql.simulation import IDEAL, ModelCosts

COMMON = ("--rows", "2000", "--test-rows", "300")
POOL = ("--pool", "12", *COMMON)
REGISTERED = Pool(
    ("resnet", "vit"), (ModelCosts(1.0, 0.01, 0.0, 0.0, 0.1), ModelCosts(2.0, 0.02, 0.0, 0.0, 0.2)), IDEAL, 60, 40, 20
)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["simulate", *arguments])


def answer(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What a session is asked, which answers with two models and a dataset of 60 and 40 rows of 20 classes."""
    seen: list[tuple[Any, ...]] = []

    class Fake:
        def pool_costs(self, *arguments: Any) -> Pool:
            seen.append(arguments)
            return REGISTERED

    monkeypatch.setattr(shiftql.engine, "Session", Fake)
    return seen


def test_json_tells_of_every_execution_what_it_takes() -> None:
    found = answer(*POOL, "--devices", "4", "--epochs", "3")
    assert {name: found[name] for name in ("models", "train_rows", "test_rows", "devices")} == {
        "models": 12,
        "train_rows": 2000,
        "test_rows": 300,
        "devices": 4,
    }
    assert [phase["models"] for phase in found["halved"]["phases"]] == [12, 6, 3, 2]
    assert [phase["tested"] for phase in found["halved"]["phases"]] == [300] * 4
    assert [(phase["models"], phase["rows"], phase["tested"]) for phase in found["race"]["phases"]] == [
        (12, 64, 256),
        (3, 358, 256),
        (2, 2000, 300),
    ]
    assert found["race"]["eta"] == 4
    for name in ("halved", "race"):
        # What is not part of any round is half a second between two of them, and that of the run.
        rounds = found[name]["phases"]
        beside = found[name]["seconds"] - sum(phase["seconds"] for phase in rounds)
        assert beside == pytest.approx(0.7 + 0.5 * (len(rounds) - 1))
        assert isinstance(found[name]["break_even_rows"], int)
    assert found["finetuning"]["epochs"] == 3
    assert found["plain"]["seconds"] == pytest.approx(0.7 + 3 * (0.09 + 3 + 0.0175 * 2300 + 0.005 * 300))


def test_costs_are_of_each_model() -> None:
    costs = ("--load", "1", "--inference", "0.01", "--fit", "0.002", "--proxy", "0.003", "--training", "0.1")
    found = answer(*POOL, *costs, "--epochs", "2")
    assert found["plain"]["seconds"] == pytest.approx(0.7 + 12 * (0.09 + 1 + 0.01 * 2300 + 0.002 * 2000 + 0.003 * 300))
    assert found["finetuning"]["seconds"] == pytest.approx(0.7 + 12 * (1 + 0.1 * 2000 * 2 + 0.01 * 300))


def test_published_execution_opens_models_twice_and_pays_for_each_evaluation() -> None:
    ours, published = answer(*POOL), answer(*POOL, "--published")
    assert published["plain"]["seconds"] - ours["plain"]["seconds"] == pytest.approx(12 * (3 + 1.5 - 0.09) - 0.7)


def test_a_chunk_and_a_budget_make_the_rounds_of_a_question() -> None:
    found = answer(*POOL, "--chunk", "50", "--budget", "96")
    assert (found["halved"]["chunk"], found["halved"]["budget"]) == (50, 96)
    assert found["halved"]["phases"][0]["rows"] == 100


def test_text_has_executions_rounds_and_the_break_even() -> None:
    text = run(*POOL, "--devices", "2").stdout
    assert "12 models, 2000 training and 300 test rows, 2 devices" in text
    assert "plain" in text
    assert "fine-tuning all, 25 epochs" in text
    assert "the optimizer's race, eta 4" in text
    assert "Halving is faster from" in text
    assert "The race is faster from" in text


def test_where_rounds_never_pay_it_is_said() -> None:
    text = run("--pool", "2", *COMMON).stdout
    assert "Halving is never faster, up to a million training rows" in text
    assert "There is no race: no model would be spared anything." in text
    assert answer("--pool", "2", *COMMON)["race"] is None


def test_a_race_keeps_as_many_as_are_asked_for_and_begins_with_enough_of_each_class() -> None:
    rounds = answer(*POOL, "--limit", "4", "--classes", "50")["race"]["phases"]
    assert rounds[-1]["models"] == 4
    assert rounds[0]["rows"] == 250


def test_csv_is_the_table_of_executions() -> None:
    lines = run(*POOL, "--format", "csv").stdout.splitlines()
    assert lines[0] == "execution,seconds,at least,at most,devices idle"
    assert len(lines) == 5


def test_registered_models_cost_what_the_session_says_and_have_the_rows_of_the_dataset(
    asked: list[tuple[Any, ...]],
) -> None:
    found = answer("--models", "resnet,vit", "--trained-on", "digits", "--by", "LogME")
    assert asked == [("resnet,vit", "digits", "LogME")]
    assert (found["models"], found["train_rows"], found["test_rows"]) == (2, 60, 40)
    assert found["classes"] == 20
    assert found["plain"]["seconds"] == pytest.approx(1 + 2 + 0.03 * 100)


def test_rows_that_are_given_take_the_place_of_the_datasets(asked: list[tuple[Any, ...]]) -> None:
    found = answer("--trained-on", "digits", "--rows", "1000")
    assert asked == [("*", "digits", "Linear")]
    assert (found["train_rows"], found["test_rows"]) == (1000, 40)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (COMMON, "either --pool N, or registered models"),
        (("--models", "vit", *POOL), "either --pool N, or registered models"),
        (("--pool", "3", "--rows", "10"), "--test-rows N is missing"),
        (("--pool", "3", "--test-rows", "10"), "--rows N is missing"),
        (("--pool", "0", *COMMON), "--pool"),
    ],
)
def test_what_cannot_be_simulated_is_bad_usage(arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_a_budget_too_small_is_refused_with_the_least() -> None:
    result = run(*POOL, "--budget", "5")
    assert result.exit_code == 2
    assert "48" in result.output


def test_pictures_are_written_and_said(tmp_path: Path) -> None:
    result = run(*POOL, "--pictures", str(tmp_path / "new"))
    assert result.exit_code == 0, result.output
    page = tmp_path / "new" / "break-even.html"
    ours = page.read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert not re.search(r"https?:|\bsrc=|\bhref=", ours)
    assert (tmp_path / "new" / "break-even.png").read_bytes().startswith(b"\x89PNG")
    assert f"{page} is written" in result.output


def test_pictures_of_costless_models_can_be_drawn(tmp_path: Path) -> None:
    costs = ("--load", "0", "--inference", "0", "--proxy", "0")
    assert run(*POOL, *costs, "--pictures", str(tmp_path)).exit_code == 0


def test_pictures_that_cannot_be_written_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(*POOL, "--pictures", str(tmp_path / "file" / "below"))
    assert result.exit_code != 0
    assert "cannot be written" in result.output
