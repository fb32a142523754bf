"""`shiftql predict`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import shiftql.engine
from shiftql.answers import RowsAnswer
from shiftql.cli import main
from storage.errors import StoreError

ROWS = (
    {"row": 0, "input": "a rose", "prediction": "plants", "probability": 0.75},
    {"row": 1, "input": "", "prediction": None, "probability": None},
)


class FakeSession:
    def predict(self, name: str, data: str) -> RowsAnswer:
        if name != "reader":
            raise StoreError(f"there is no model named {name!r}", subject=name, fix="did you mean reader?")
        columns = ("row", "input", "prediction", "probability")
        return RowsAnswer(statement=f"predict {name} {data}", seconds=0.5, columns=columns, rows=ROWS)


@pytest.fixture(autouse=True)
def _session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shiftql.engine, "Session", FakeSession)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["predict", *arguments])


def test_predictions_are_printed_in_every_format() -> None:
    table = run("reader", "lines.txt")
    assert table.exit_code == 0
    assert "  0  a rose  plants             0.75" in table.stdout
    told = json.loads(run("reader", "lines.txt", "--format", "json").stdout)
    assert (told["kind"], told["statement"], told["rows"]) == ("rows", "predict reader lines.txt", list(ROWS))
    assert run("reader", "lines.txt", "--format", "csv").stdout.splitlines()[1] == "0,a rose,plants,0.75"


def test_predictions_are_written_as_csv(tmp_path: Path) -> None:
    out = tmp_path / "predictions.csv"
    result = run("reader", "lines.txt", "--out", str(out))
    assert result.stdout == f"2 predictions by reader are in {out}\n"
    assert out.read_text() == "row,input,prediction,probability\n0,a rose,plants,0.75\n1,,,\n"


def test_what_goes_wrong_is_told_with_the_fix(tmp_path: Path) -> None:
    unknown = run("raeder", "lines.txt")
    assert unknown.exit_code == 1
    assert unknown.stderr == "error: there is no model named 'raeder'\nfix: did you mean reader?\n"
    nowhere = run("reader", "lines.txt", "--out", str(tmp_path / "none" / "predictions.csv"))
    assert nowhere.exit_code == 1
    assert "cannot be written" in nowhere.stderr
