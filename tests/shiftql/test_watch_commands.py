"""`shiftql watches`: what it asks of the session, what it prints and draws, and its exit statuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import shiftql.engine
from shiftql.answers import RowsAnswer
from shiftql.cli import main
from shiftql.pictures.standing import draw_history
from storage.database import Database
from storage.errors import StoreError
from storage.settings import current_settings
from storage.watches import Asked, Place, Recorded, WatchHistoryRecord, WatchStore

COLUMNS = ("watch", "first", "before", "evaluated", "reused", "failure")
SCRIPT = "SELECT name FROM models"


def row(watch: str, failure: str | None = None) -> dict[str, Any]:
    return dict(zip(COLUMNS, (watch, "bert", None, 1, 2, failure), strict=True))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["watches", *arguments])


def refreshing(monkeypatch: pytest.MonkeyPatch, *rows: dict[str, Any]) -> list[Any]:
    """What the session is asked for, which then answers with rows."""
    asked: list[Any] = []

    def refresh(_: Any, names: tuple[str, ...], *, budget: float) -> RowsAnswer:
        asked.append((names, budget))
        return RowsAnswer(statement="", seconds=0.0, columns=COLUMNS, rows=rows)

    monkeypatch.setattr(shiftql.engine.Session, "refresh_watches", refresh)
    return asked


def answers(*rankings: tuple[Place, ...]) -> list[Recorded]:
    """A history, an hour from each to the next; who is first changes where the first place does."""
    found = []
    for number, places in enumerate(rankings):
        first = places[0].name if places else None
        record = WatchHistoryRecord(
            watch="best",
            recorded=datetime.now(UTC) - timedelta(hours=len(rankings) - number),
            reason="registered",
            first=first,
            changed=bool(number) and first != rankings[number - 1][0].name,
            ranked=len(places),
            evaluated=1,
            reused=0,
            seconds=1.0,
        )
        found.append(Recorded(record, places))
    return found


def test_refreshing_asks_those_that_are_named_within_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = refreshing(monkeypatch, row("best"))
    result = run("refresh", "best", "--budget", "2m", "--format", "csv")
    assert (result.exit_code, asked) == (0, [(("best",), 120.0)])
    assert result.output.splitlines()[0] == ",".join(COLUMNS)


def test_refreshing_fails_where_a_question_could_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    refreshing(monkeypatch, row("best"), row("gone", "there is no dataset 'digits'"))
    assert run("refresh").exit_code == 1


def test_a_watch_that_is_not_there_is_told_with_near_names(home: Path) -> None:
    WatchStore(Database(current_settings())).save("digits", SCRIPT, None)
    for arguments in (["refresh", "digit"], ["picture", "digit", "out.png"]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "there is no watch 'digit'" in result.output
        assert "did you mean digits?" in result.output


def test_nothing_is_started_to_refresh_no_watches(home: Path) -> None:
    assert run("refresh", "--format", "json").exit_code == 0
    assert not (home / "server.json").exists()


def test_the_list_is_what_show_watches_tells(home: Path) -> None:
    store = WatchStore(Database(current_settings()))
    store.save("best", SCRIPT, 5400.0)
    store.record("best", SCRIPT, Asked([Place("bert"), Place("vit")], "created"))
    result = run("list", "--format", "csv")
    header, line = result.output.splitlines()
    found = dict(zip(header.split(","), line.split(","), strict=True))
    assert (found["name"], found["statement"], found["every"]) == ("best", SCRIPT, "90m")
    assert (found["first"], found["ranked"], found["changes"], found["failure"]) == ("bert", "2", "0", "")
    assert found["last_asked"].startswith("20")


@pytest.mark.parametrize("scored", [True, False])
def test_a_picture_is_drawn_of_scores_or_of_places(tmp_path: Path, scored: bool) -> None:
    low, high = (Place(name, score if scored else None) for name, score in (("bert", 0.5), ("vit", 0.75)))
    draw_history(tmp_path / "best.png", "best", answers((low,), (high, low), (low._replace(score=0.8), high)))
    assert (tmp_path / "best.png").read_bytes().startswith(b"\x89PNG")


def test_what_ranked_nothing_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has ranked nothing yet"):
        draw_history(tmp_path / "best.png", "best", answers(()))
